"""Real files at the levels of the sweep: each image is encoded, parsed from its bytes and decoded.

An image becomes one progressive stream of one tile, in which a packet ends at the step whose noise is nearest
to each level. The prefix up to there is the file of that level. Shared randomness depends on the image's
index only: batches and devices change results by rounding at most.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32

from diffc_jax.codec import container, noise_levels
from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import Header, Packet, StreamWriter
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.encoder import LongPacket, TileEncoder, cut_packets
from diffc_jax.codec.tiles import tile_streams
from diffc_jax.diffusion import process
from diffc_jax.evaluation.sweep import SweepPlan

_SEEDS = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class FileSweepResult:
    """Of the images of one batch.

    Attributes:
        n_bytes: of the file of each level.
        path_bits: of its messages alone, without headers, increments and checks.
        gammas: negative log signal-to-noise ratio that it arrives at.
        drift: largest distance between the checks of encoder and decoder, see `codec.chain`.
        reconstructions: decoder -> pixels at each level.
    """

    n_bytes: Int[np.ndarray, "b l"]
    path_bits: Int[np.ndarray, "b l"]
    gammas: Float[np.ndarray, "b l"]
    drift: Int[np.ndarray, " b"]
    reconstructions: dict[str, list[UInt8[np.ndarray, "b h w 3"]]]


class FileSweep:
    """Encodes and decodes images at the levels of a plan.

    Attributes:
        decoders: names of the decoders.
        memory: of the trellis.
        header_bytes: that every file begins with.
    """

    def __init__(self, codec: Codec, plan: SweepPlan, decoders: Sequence[str], memory: int):
        """See the attributes; `codec.programs.batch_size` is that of the batches."""
        self.decoders = tuple(decoders)
        self.memory = memory
        self._programs = codec.programs
        self._plan = plan
        self.header_bytes = len(self._header(0).to_bytes())

    def evaluations_per_image(self) -> int:
        """Denoiser evaluations of the decoders; those of the chain depend on the image."""
        levels = range(len(self._plan.levels))
        return sum(self._plan.n_steps(name, level) for name in self.decoders for level in levels)

    def run(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        indices: Int[np.ndarray, " n"],
        mask: Bool[np.ndarray, " n"],
        on_evaluations: Callable[[int], None] = lambda count: None,
    ) -> FileSweepResult:
        """Codes one batch.

        Args:
            images: 8-bit RGB.
            indices: of the images in their data set; they alone choose the shared randomness.
            mask: False marks padding, of which there are no results.
            on_evaluations: called with the number of denoiser evaluations of each decoded level.
        """
        programs, plan = self._programs, self._plan
        streams = np.concatenate([tile_streams(int(i) % _SEEDS, 1) for i in indices])
        rows = np.flatnonzero(mask).tolist()
        files = self._encode(images, indices, streams, rows)
        decoder = LatentDecoder(
            programs.chain(self.memory), programs.variables, streams, programs.batch_size
        )
        n_bytes, path_bits = np.zeros((2, len(rows), len(plan.levels)), int)
        gammas = np.zeros(n_bytes.shape)
        reconstructions: dict[str, list[np.ndarray]] = {name: [] for name in self.decoders}
        for level in range(len(plan.levels)):
            decoder.advance({row: files[row].packets[level] for row in rows})
            latents = decoder.latents()
            for i, row in enumerate(rows):
                n_bytes[i, level] = files[row].ends[level]
                path_bits[i, level] = 8 * sum(
                    len(packet.paths)
                    for packets in files[row].packets[: level + 1]
                    for packet in packets
                )
            gammas[:, level] = -np.log(latents.snr[rows])
            # Padding has no packets; its place in the batch may hold any noise level.
            snr = np.where(mask, latents.snr, 1.0)
            for name in self.decoders:
                reconstruct = programs.reconstructor(name, plan.n_steps(name, level))
                pixels = reconstruct(
                    programs.variables, latents.z, snr, np.asarray(indices), programs.batch_size
                )
                reconstructions[name].append(pixels[rows])
                on_evaluations(plan.n_steps(name, level))
        return FileSweepResult(
            n_bytes, path_bits, gammas, decoder.latents().drift[rows], reconstructions
        )

    def _header(self, index: int) -> Header:
        side, fingerprint = self._programs.side, self._programs.fingerprint
        return Header(side, side, side, self.memory, index % _SEEDS, fingerprint)

    def _encode(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        indices: Int[np.ndarray, " n"],
        streams: UInt32[np.ndarray, "n 2"],
        rows: Sequence[int],
    ) -> dict[int, "_File"]:
        programs, level_gammas = self._programs, self._plan.level_gammas
        enough = noise_levels.from_float(math.exp(-level_gammas[-1]))
        encoder = TileEncoder(
            programs.chain(self.memory),
            programs.variables,
            np.asarray(process.pixels_to_unit(jnp.asarray(images))),
            streams,
            noise_levels.from_float(math.exp(-programs.gamma_range[0])),
            programs.batch_size,
        )
        while behind := [row for row in rows if encoder.snr[row] < enough]:
            encoder.advance(behind)
        files = {}
        for row in rows:
            ends = nearest_steps(encoder.packets[row], level_gammas)
            writer = StreamWriter(self._header(int(indices[row])))
            for packet in cut_packets(encoder.packets[row], ends.tolist()):
                writer.append(packet)
            files[row] = _parse(writer.to_bytes(), ends)
        return files


def nearest_steps(
    packets: Iterable[LongPacket], gammas: Float[np.ndarray, " l"]
) -> Int[np.ndarray, " l"]:
    """How many steps of a tile lead nearest to each gamma, at least one."""
    codes = [code for packet in packets for code in packet.increments]
    snr = np.cumsum([noise_levels.increment(code) for code in codes], dtype=object)
    reached = -np.log([noise_levels.to_float(one) for one in snr])
    return 1 + np.argmin(np.abs(reached - gammas[:, None]), axis=1)


@dataclasses.dataclass(frozen=True)
class _File:
    """A parsed stream.

    Attributes:
        packets: that each level adds.
        ends: bytes up to the end of each level.
    """

    packets: list[list[Packet]]
    ends: list[int]


def _parse(data: bytes, level_steps: Int[np.ndarray, " l"]) -> _File:
    stream = container.parse(data)
    assert stream.problem is None
    (packets,) = stream.packets
    steps = [packet for packet in packets if isinstance(packet, Packet)]
    last = np.searchsorted(np.cumsum([len(packet.increments) for packet in steps]), level_steps)
    bounds = [0, *(last + 1).tolist()]
    return _File(
        [steps[start:stop] for start, stop in itertools.pairwise(bounds)],
        [stream.ends[i] for i in last.tolist()],
    )
