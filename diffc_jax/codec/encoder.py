"""The sender: tiles to packets, at a constant number of bits for each step.

x_hat(z) is known on both sides, so the sender knows what any step would cost and chooses the increment of the
signal-to-noise ratio that its message just carries: delta = reach^2 / |x - x_hat|^2. All steps of a size run
one compiled program, and the schedule adapts to each tile by itself.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffc_jax.codec import noise_levels
from diffc_jax.codec.batching import batches, least_batch_size
from diffc_jax.codec.chain import Chain, Streams
from diffc_jax.codec.container import MOST_STEPS, PATH_BITS, Packet
from diffc_jax.diffusion import process
from diffc_jax.errors import InputError
from diffc_jax.models import Variables

# Long messages are coded better (hardly beyond 256 bits), many steps follow the image better: a step has
# about 1/8 of the bits before it, and each bit some dimensions to choose from.
_STEP_BITS = (64, 256)
_STEP_SHARE = 8
_DIMENSIONS_PER_BIT = 8
# Packets of 1/4 of the bits before them, but less at the beginning, where most happens to the image.
_PACKET_BITS = (512, 2048)
_PACKET_SHARE = 4
_EARLY_PACKET_BITS = 1024


def packet_plan(bits_before: int, size: int) -> tuple[int, int]:
    """What the next packet of a tile looks like; the format leaves that to the encoder.

    Args:
        bits_before: path bits of the tile so far.
        size: dimensions of a tile.

    Returns:
        Path bits of a step, and number of steps.
    """
    most = max(_power_below(size // _DIMENSIONS_PER_BIT), PATH_BITS[0])
    path_bits = min(
        max(_power_below(bits_before // _STEP_SHARE), _STEP_BITS[0]), _STEP_BITS[1], most
    )
    wanted = min(bits_before, max(bits_before // _PACKET_SHARE, _EARLY_PACKET_BITS))
    packet_bits = min(max(_power_below(wanted), _PACKET_BITS[0]), _PACKET_BITS[1])
    return path_bits, min(packet_bits // path_bits, MOST_STEPS)


def planned_steps(bits: float, size: int) -> int:
    """Steps that a tile takes to at least so many path bits, in whole packets.

    Args:
        bits: path bits.
        size: dimensions of a tile.
    """
    total = sent = 0
    while sent < bits:
        path_bits, n_steps = packet_plan(sent, size)
        total, sent = total + n_steps, sent + n_steps * path_bits
    return total


def _power_below(number: int) -> int:
    """The largest power of two up to `number`; 1 for 0."""
    return 1 << max(number, 1).bit_length() - 1


@dataclasses.dataclass
class LongPacket:
    """The steps of a packet, of which a beginning may be sent."""

    path_bits: int
    increments: list[int] = dataclasses.field(default_factory=list)
    paths: list[bytes] = dataclasses.field(default_factory=list)
    checks: list[int] = dataclasses.field(default_factory=list)

    @property
    def n_steps(self) -> int:
        """How many steps there are."""
        return len(self.increments)

    def first(self, n_steps: int) -> Packet:
        """A packet of the first steps, at least one."""
        return self.part(0, n_steps)

    def part(self, start: int, stop: int) -> Packet:
        """A packet of steps `start` to `stop` - 1, at least one."""
        return Packet(
            self.path_bits,
            tuple(self.increments[start:stop]),
            b"".join(self.paths[start:stop]),
            self.checks[stop - 1],
        )


def cut_packets(packets: Sequence[LongPacket], ends: Collection[int]) -> Iterator[Packet]:
    """The packets of a tile up to the last of `ends`, cut so that one ends at each of them.

    Args:
        packets: from the first on.
        ends: numbers of steps of the tile, in any order.
    """
    before, last = 0, max(ends)
    for packet in packets:
        stop = min(packet.n_steps, last - before)
        inside = {end - before for end in ends if before < end < before + stop}
        for first, after in itertools.pairwise([0, *sorted(inside), stop]):
            yield packet.part(first, after)
        before += packet.n_steps
        if before >= last:
            return


class TileEncoder:
    """Encodes tiles side by side, each as far as it is asked to.

    Attributes:
        packets: of each tile, so far.
        snr: of each tile, in the integers of `noise_levels`.
        finished: which tiles have arrived at `end_snr`.
        end_snr: where tiles end, likewise.
        squared_error: |x - x_hat|^2 of each tile before its last step.
    """

    def __init__(
        self,
        chain: Chain,
        variables: Variables,
        x: Float[np.ndarray, "n h w c"],
        streams: Streams,
        end_snr: int,
        batch_size: int,
    ):
        """Begins with no bits.

        Args:
            chain: of the denoiser.
            variables: of the denoiser.
            x: what is to be sent.
            streams: of each tile.
            end_snr: see above.
            batch_size: tiles that go through the denoiser at once.
        """
        self._chain = chain
        self._variables = variables
        self._x = x
        self._streams = streams
        self.end_snr = end_snr
        self._batch_size = least_batch_size(len(x), batch_size, chain.place)
        self._z = np.zeros(x.shape, np.float32)
        for rows in batches(range(len(x)), self._batch_size):
            self._z[rows] = chain.start(streams[rows])
        self.packets: list[list[LongPacket]] = [[] for _ in x]
        self.snr = [0] * len(x)
        self.finished = np.zeros(len(x), bool)
        self.squared_error = np.full(len(x), np.inf)

    @property
    def n_values(self) -> int:
        """Dimensions of all tiles together."""
        return self._x.size

    def latent(self, tile: int) -> Float[np.ndarray, "h w c"]:
        """The latent of a tile after its last packet."""
        return self._z[tile]

    def advance(self, tiles: Sequence[int]) -> None:
        """Adds a packet to each of these tiles, of which none is finished.

        Raises:
            InputError: the denoiser predicts NaN or infinity.
        """
        groups: dict[tuple[int, int, int], list[int]] = {}
        for tile in tiles:
            n_before = sum(packet.n_steps for packet in self.packets[tile])
            bits = sum(packet.n_steps * packet.path_bits for packet in self.packets[tile])
            plan = packet_plan(bits, self._x[tile].size)
            groups.setdefault((*plan, n_before), []).append(tile)
        for (path_bits, n_steps, n_before), group in groups.items():
            for rows in batches(group, self._batch_size):
                self._add_packets(rows, path_bits, n_steps, n_before)

    def _add_packets(self, rows: np.ndarray, path_bits: int, n_steps: int, n_before: int) -> None:
        chain, streams = self._chain, self._streams[rows]
        z, x = chain.place(self._z[rows]), chain.place(self._x[rows])
        unique = np.unique(rows, return_index=True)[1]
        new = {int(row): LongPacket(path_bits) for row in rows}
        reach = chain.channel(path_bits).reach
        for step in range(n_before, n_before + n_steps):
            active = ~self.finished[rows]
            if not active.any():
                break
            snr = np.array([noise_levels.to_float(self.snr[row]) for row in rows])
            x_hat = chain.predict(self._variables, z, snr)
            error = np.asarray(_squared_error(x, x_hat), np.float64)
            if not np.isfinite(error).all():
                raise InputError("the model's prediction holds NaN or infinity")
            codes = [
                self._increment(int(row), reach**2 / e) for row, e in zip(rows, error, strict=True)
            ]
            delta = np.array([noise_levels.to_float(noise_levels.increment(c)) for c in codes])
            paths, z_next, checks = chain.encode(
                path_bits, streams, np.full(len(rows), step), z, x, x_hat, snr, delta
            )
            z = jnp.where(active[:, None, None, None], z_next, z)
            paths, checks = jax.device_get((paths, checks))
            for i in unique[active[unique]]:
                row = int(rows[i])
                new[row].increments.append(codes[i])
                new[row].paths.append(paths[i].tobytes())
                new[row].checks.append(int(checks[i]))
                self.squared_error[row] = error[i]
                self.finished[row] = codes[i] >= self._last_increment(row)
                self.snr[row] += noise_levels.increment(codes[i])
        self._z[rows[unique]] = np.asarray(z)[unique]
        for row, packet in new.items():
            self.packets[row].append(packet)

    def _increment(self, tile: int, delta: float) -> int:
        return min(noise_levels.nearest_code(delta), self._last_increment(tile))

    def _last_increment(self, tile: int) -> int:
        """Code of the increment that leads from here to the end."""
        room = noise_levels.to_float(self.end_snr - self.snr[tile])
        return noise_levels.nearest_code(room)


@jax.jit
def _squared_error(x: process.Images, x_hat: process.Images) -> Float[Array, " b"]:
    # At least the square of what float32 resolves, so that the increment stays finite.
    return jnp.maximum(process.squared_norm(x - x_hat), 1e-9)
