"""The sender: tiles to packets, at a constant number of bits for each step. `send` is the algorithm.

x_hat(z) is known on both sides, so the sender knows what any step would cost and chooses the increment of the
signal-to-noise ratio that its message just carries: delta = reach^2 / |x - x_hat|^2. All steps of a size run
one compiled program, and the schedule adapts to each tile by itself.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from diffc_jax.codec import noise_levels
from diffc_jax.codec.chain import Chain, TileKeys, message_keys, standardised_mean
from diffc_jax.codec.container import MOST_STEPS, PATH_BITS, Packet
from diffc_jax.codec.tiles import batches, least_batch_size
from diffc_jax.diffusion import process
from diffc_jax.diffusion.process import Images
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


@dataclasses.dataclass
class LongPacket:
    """The steps of a packet, of which a beginning may be sent.

    Attributes:
        path_bits: K, bits of the path of each step.
        increments: code of each step's increment of the signal-to-noise ratio.
        paths: of each step, K / 8 bytes.
        checks: of the latent after each step.
    """

    path_bits: int
    increments: list[int] = dataclasses.field(default_factory=list)
    paths: list[bytes] = dataclasses.field(default_factory=list)
    checks: list[int] = dataclasses.field(default_factory=list)

    @property
    def n_steps(self) -> int:
        """How many steps there are."""
        return len(self.increments)

    def cut(self, stop: int | None = None, start: int = 0) -> Packet:
        """A packet of steps `start` to `stop` - 1, at least one; by default all of them."""
        stop = self.n_steps if stop is None else stop
        return Packet(
            self.path_bits,
            tuple(self.increments[start:stop]),
            b"".join(self.paths[start:stop]),
            self.checks[stop - 1],
        )


class Sent(NamedTuple):
    """Where `send` arrived with each image of its batch.

    Attributes:
        packets: the steps that were sent.
        z: latents after them.
        snr: their signal-to-noise ratios, in the integers of `noise_levels`.
        finished: which images have arrived at the end.
        squared_error: |x - x_hat|^2 before the last step.
    """

    packets: list[LongPacket]
    z: Images
    snr: list[int]
    finished: Bool[np.ndarray, " b"]
    squared_error: Float[np.ndarray, " b"]


def send(
    chain: Chain,
    variables: Variables,
    tile_keys: TileKeys,
    x: Images,
    z: Images,
    snr: list[int],
    end_snr: int,
    steps: range,
    path_bits: int,
) -> Sent:
    """Communicates z_s step by step, from noise towards x: the algorithm of the paper (sections 2 and 3).

    Args:
        chain: of the denoiser.
        variables: of the denoiser.
        tile_keys: of the shared randomness of each image.
        x: images in [-1, 1].
        z: z_t, the latents so far.
        snr: SNR(t) of each, in the integers of `noise_levels`; below `end_snr`.
        end_snr: where images end.
        steps: numbers of these steps in their tiles.
        path_bits: bits of each message.

    Raises:
        InputError: the denoiser predicts NaN or infinity.
    """
    channel = chain.channel(path_bits)
    snr = list(snr)
    packets = [LongPacket(path_bits) for _ in snr]
    active = np.ones(len(snr), bool)
    last_error = np.full(len(snr), np.inf)
    for step in steps:
        if not active.any():
            break
        # p(z_s | z_t) puts x_hat(z_t) for x. Both sides know it.
        snr_t = np.array([noise_levels.to_float(one) for one in snr])
        x_hat = chain.predict(variables, z, snr_t)
        # q(z_s | z_t, x) differs from it by KL = delta |x - x_hat|^2 / 2 nats, delta = SNR(s) - SNR(t). The
        # time s is where that is as much as the channel carries, or the end.
        error = np.asarray(_squared_error(x, x_hat), np.float64)
        if not np.isfinite(error).all():
            raise InputError("the model's prediction holds NaN or infinity")
        carried = [noise_levels.nearest_code(channel.reach**2 / one) for one in error]
        left = [noise_levels.nearest_code(noise_levels.to_float(end_snr - one)) for one in snr]
        codes = np.minimum(carried, left).tolist()
        increments = [noise_levels.increment(code) for code in codes]
        delta = np.array([noise_levels.to_float(one) for one in increments])
        # In units in which p is N(0, I), q is N(mu, I): the channel sends a sample of that.
        keys = message_keys(tile_keys, np.full(len(snr), step))
        mu = standardised_mean(x, x_hat, delta.astype(np.float32))
        paths, sample = channel.encode(keys, mu)
        # z_s, as the receiver computes it from its own x_hat(z_t) and the sample.
        z_s, checks = chain.step(keys, z, x_hat, sample, snr_t, delta)
        z = jnp.where(active[:, None, None, None], z_s, z)
        paths, checks = jax.device_get((paths, checks))
        for i in np.flatnonzero(active).tolist():
            packets[i].increments.append(codes[i])
            packets[i].paths.append(paths[i].tobytes())
            packets[i].checks.append(int(checks[i]))
            snr[i] += increments[i]
            last_error[i], active[i] = error[i], codes[i] < left[i]
    return Sent(packets, z, snr, ~active, last_error)


@jax.jit
def _squared_error(x: Images, x_hat: Images) -> Float[Array, " b"]:
    # At least the square of what float32 resolves, so that the increment stays finite.
    return jnp.maximum(process.squared_norm(x - x_hat), 1e-9)


def packet_plan(bits_before: int, size: int) -> tuple[int, int]:
    """Path bits of a step and number of steps of a tile's next packet, after so many path bits.

    The format leaves that to the encoder; `size` is the number of dimensions of a tile.
    """
    most = max(_power_below(size // _DIMENSIONS_PER_BIT), PATH_BITS[0])
    path_bits = min(
        max(_power_below(bits_before // _STEP_SHARE), _STEP_BITS[0]), _STEP_BITS[1], most
    )
    wanted = min(bits_before, max(bits_before // _PACKET_SHARE, _EARLY_PACKET_BITS))
    packet_bits = min(max(_power_below(wanted), _PACKET_BITS[0]), _PACKET_BITS[1])
    return path_bits, min(packet_bits // path_bits, MOST_STEPS)


def planned_steps(bits: float, size: int) -> int:
    """Steps that a tile of `size` dimensions takes to at least so many path bits, in whole packets."""
    steps = sent = 0
    while sent < bits:
        path_bits, n_steps = packet_plan(sent, size)
        steps, sent = steps + n_steps, sent + n_steps * path_bits
    return steps


def _power_below(number: int) -> int:
    """The largest power of two up to `number`; 1 for 0."""
    return 1 << max(number, 1).bit_length() - 1


def cut_packets(packets: Sequence[LongPacket], ends: Collection[int]) -> Iterator[Packet]:
    """The packets of a tile up to the last of `ends`, cut so that one ends at each.

    `ends` are numbers of steps of the tile, in any order.
    """
    before, last = 0, max(ends)
    for packet in packets:
        stop = min(packet.n_steps, last - before)
        inside = {end - before for end in ends if before < end < before + stop}
        for first, after in itertools.pairwise([0, *sorted(inside), stop]):
            yield packet.cut(after, first)
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
        tile_keys: TileKeys,
        end_snr: int,
        batch_size: int,
        on_packets: Callable[["TileEncoder"], None] = lambda encoder: None,
    ):
        """Begins with no bits of x, tiles with a key each.

        `batch_size` of them go through the denoiser at once, and `next_packet` calls `on_packets` when it
        has encoded some.
        """
        self._chain = chain
        self._variables = variables
        self._x = x
        self._keys = tile_keys
        self.end_snr = end_snr
        self._batch_size = least_batch_size(len(x), batch_size, chain.place)
        self._z = np.zeros(x.shape, np.float32)
        for rows in batches(range(len(x)), self._batch_size):
            self._z[rows] = chain.start(tile_keys[rows])
        self.packets: list[list[LongPacket]] = [[] for _ in x]
        self.snr = [0] * len(x)
        self.finished = np.zeros(len(x), bool)
        self.squared_error = np.full(len(x), np.inf)
        self._n_taken = [0] * len(x)
        self._on_packets = on_packets

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
        chain = self._chain
        for (path_bits, n_steps, n_before), group in groups.items():
            for rows in batches(group, self._batch_size):
                sent = send(
                    chain,
                    self._variables,
                    self._keys[rows],
                    chain.place(self._x[rows]),
                    chain.place(self._z[rows]),
                    [self.snr[row] for row in rows],
                    self.end_snr,
                    range(n_before, n_before + n_steps),
                    path_bits,
                )
                z = np.asarray(sent.z)
                # A tile may be in a batch several times, to fill it up.
                for row, i in zip(*np.unique(rows, return_index=True), strict=True):
                    self.packets[row].append(sent.packets[i])
                    self._z[row], self.snr[row] = z[i], sent.snr[i]
                    self.finished[row] = sent.finished[i]
                    self.squared_error[row] = sent.squared_error[i]

    def next_packet(self, tile: int) -> LongPacket | None:
        """The next packet of a tile that was not given out yet, None after its last one.

        Where it has to be encoded, the tiles that are furthest behind get theirs along with it.
        """
        if self._n_taken[tile] == len(self.packets[tile]):
            if self.finished[tile]:
                return None
            unfinished = np.flatnonzero(~self.finished).tolist()
            unfinished.sort(key=lambda one: self.snr[one])
            self.advance(unfinished[: self._batch_size])
            self._on_packets(self)
        self._n_taken[tile] += 1
        return self.packets[tile][self._n_taken[tile] - 1]
