"""The codec in an evaluation, method `diffc_codec`: files at the levels of the sweep.

An image goes through one chain of steps, and the file of a level ends after the step whose noise is nearest
to it. Each file is written, parsed from its bytes and decoded. Shared randomness depends on the image's index
only: batches and devices change results by rounding at most.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, Int, Shaped, UInt8, UInt32
from scipy.interpolate import PchipInterpolator

from diffc_jax.codec.container import CodedStep, parse, write_stream
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.encoder import Choice
from diffc_jax.codec.header import CHECK_BITS, header_bytes
from diffc_jax.codec.loading import make_codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import CHECK_TOLERANCE, Header, Step, snr_from_float, snr_to_float
from diffc_jax.codec.tile_encoder import TileEncoder
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.data import Batch
from diffc_jax.diffusion import process
from diffc_jax.evaluation.method import Means, Method, Table
from diffc_jax.evaluation.plan import SweepPlan
from diffc_jax.evaluation.rate_point import DIFFC_CODEC
from diffc_jax.evaluation.rd_sweep import IDEAL_BITS
from diffc_jax.evaluation.result_files import CODEC_PER_IMAGE, CODEC_RECONSTRUCTIONS
from diffc_jax.evaluation.results import finite
from diffc_jax.evaluation.store import Arrays
from diffc_jax.evaluation.trained import Trained

# Names in stored batches: bytes of the file of each level, bits of its messages alone, the noise level it
# arrives at, and the largest distance between the checks of encoder and decoder (see `codec.chain`).
BYTES, PATH_BITS, GAMMA, DRIFT = "codec/bytes", "codec/path_bits", "codec/gamma", "codec/drift"
_FILE_BITS, _IDEAL_BITS, _DRIFTED = "codec/file_bits", "codec/kl_bits", "codec/drifted"


def seed_of(index: int) -> int:
    """The seed of the file of an image: a byte, as by default in files (`image_encoder.image_seed`)."""
    return index % 256


class CodecMethod(Method):
    """The codec of a trained model as a method of an evaluation; its rates are sizes of files.

    Without decoders it does nothing.
    """

    name, work, rate_kind = DIFFC_CODEC, "codec", "file"
    image_table, reconstructions = CODEC_PER_IMAGE, CODEC_RECONSTRUCTIONS
    image_columns = ("bits_kl", "bits_path", "bits_file")
    arrays, prefix = (BYTES, PATH_BITS, GAMMA, DRIFT), "codec/"

    def __init__(
        self,
        trained: Trained,
        plan: SweepPlan,
        decoders: Sequence[str],
        memory: int,
        batch_size: int,
    ):
        """A codec with this memory of the trellis, on the devices of `trained`; `plan` is the sweep's."""
        self.plan, self.decoders = plan, tuple(decoders)
        self._trained, self._memory, self._batch_size = trained, memory, batch_size
        self._n_pixels = trained.description["image_size"] ** 2

    @functools.cached_property
    def _programs(self) -> ProgramCache:
        trained = self._trained
        return make_codec(
            trained.model,
            trained.schedule,
            trained.description,
            trained.state.ema,
            trained.state.fixed,
            self._batch_size,
            trained.place,
        ).programs

    def evaluations_per_image(self) -> int:
        """Those of the decoders; those of the chain depend on the image."""
        levels = range(len(self.plan.levels))
        return sum(self.plan.n_steps(name, level) for name in self.decoders for level in levels)

    def code(
        self, batch: Batch, on_evaluations: Callable[[int], None]
    ) -> tuple[Arrays, dict[str, list[np.ndarray]]]:
        """See `Method`; warns of images on which encoder and decoder went different ways."""
        programs, plan, indices, mask = self._programs, self.plan, batch["index"], batch["mask"]
        keys = np.concatenate([tile_keys(seed_of(int(i)), 1) for i in indices])
        rows = np.flatnonzero(mask).tolist()
        files = self._encode(batch["image"], indices, keys, rows)
        chain = programs.chain(self._memory)
        decoder = LatentDecoder(chain, programs.variables, keys, programs.batch_size, CHECK_BITS)
        n_bytes, path_bits = np.zeros((2, len(rows), len(plan.levels)), int)
        gammas = np.zeros(n_bytes.shape)
        reconstructions: dict[str, list[np.ndarray]] = {name: [] for name in self.decoders}
        for level in range(len(plan.levels)):
            decoder.advance({row: files[row].steps[level] for row in rows})
            latents = decoder.latents()
            for i, row in enumerate(rows):
                n_bytes[i, level] = files[row].sizes[level]
                path_bits[i, level] = sum(
                    step.path_bits for steps in files[row].steps[: level + 1] for step in steps
                )
            gammas[:, level] = -np.log(latents.snr[rows])
            # Padding has no packets; its place in the batch may hold any noise level.
            snr = np.where(mask, latents.snr, 1.0)
            for name in self.decoders:
                reconstruct = programs.reconstructor(name, plan.n_steps(name, level))
                pixels = reconstruct(programs.variables, latents.z, snr, keys, programs.batch_size)
                reconstructions[name].append(pixels[rows])
                on_evaluations(plan.n_steps(name, level))
        drift = decoder.latents().drift[rows]
        if (drift > CHECK_TOLERANCE).any():
            logging.warning(
                "the decoder of the codec did not arrive where its encoder did, on images %s: the model is "
                "not computed alike both times, and the rows of diffc_codec cannot be trusted",
                ", ".join(map(str, indices[mask][drift > CHECK_TOLERANCE].tolist())),
            )
        return dict(
            zip(self.arrays, (n_bytes, path_bits, gammas, drift), strict=True)
        ), reconstructions

    def averaged(self, numbers: Arrays) -> Arrays:
        """See `Method`."""
        return compared(numbers, self.plan, self._also_swept())

    def rate(self, means: Means, level: int) -> dict[str, Any]:
        """See `Method`; the mean size of the files, and their mean gamma."""
        bits, ideal = means[_FILE_BITS], means[_IDEAL_BITS]
        mean_bits, gamma = float(bits.mean[level]), means[GAMMA].mean.tolist()[level]
        header_bits = 8 * len(header_bytes(self._header(0)))
        return {
            "gamma": gamma,
            "bpp": mean_bits / self._n_pixels,
            "bpp_kl": float(ideal.mean[level]) / self._n_pixels,
            "bpp_headerless": (mean_bits - header_bits) / self._n_pixels,
            "bpp_stderr": finite(bits.stderr[level] / self._n_pixels),
        }

    def image_rates(self, numbers: Arrays) -> dict[str, Shaped[np.ndarray, "b l"]]:
        """See `Method`."""
        return {
            "gamma": numbers[GAMMA],
            "bits_kl": ideal_bits(numbers, self.plan),
            "bits_path": numbers[PATH_BITS],
            "bits_file": 8 * numbers[BYTES],
        }

    def shown(self, first: Arrays) -> Arrays:
        """See `Method`; in the layout of the files of the baselines."""
        arrays: Arrays = {}
        for decoder in self.decoders:
            series = self.prefix + decoder
            pixels = first[f"pixels/{series}"]
            arrays |= {
                f"{series}/images": pixels,
                f"{series}/level": self.plan.level_gammas,
                f"{series}/bpp": 8 * first[BYTES][: len(pixels)] / self._n_pixels,
                f"{series}/psnr": first[f"psnr/{series}"][: len(pixels)],
                f"{series}/method": np.array(self.name),
                f"{series}/model": np.array(self._trained.model.name),
                f"{series}/decoder": np.array(decoder),
            }
        return arrays

    def summary(self, means: Means, elbo: Mapping[str, float]) -> dict[str, Any]:
        """How the files compare with the sweep at the same noise: one number for each level."""
        del elbo
        ideal = means[_IDEAL_BITS].mean
        gains = {name: means[f"codec/psnr_gain/{name}"] for name in self._also_swept()}
        summary = {
            "memory": self._memory,
            "images_drifted": round(float(means[_DRIFTED].total)),
            "gamma": means[GAMMA].mean.tolist(),
            "file_bits_over_kl": (means[_FILE_BITS].mean / ideal).tolist(),
            "path_bits_over_kl": (means[PATH_BITS].mean / ideal).tolist(),
            "psnr_over_sweep": {name: list(map(finite, gain.mean)) for name, gain in gains.items()},
            "psnr_over_sweep_stderr": {
                name: list(map(finite, gain.stderr)) for name, gain in gains.items()
            },
        }
        return {"codec": summary}

    def tables(self, means: Means) -> dict[str, Table]:
        """None."""
        del means
        return {}

    def _also_swept(self) -> list[str]:
        return [decoder for decoder in self.decoders if decoder in self.plan.decoders]

    def _header(self, index: int) -> Header:
        programs = self._programs
        side = programs.side
        return Header(side, side, side, self._memory, seed_of(index), programs.fingerprint[:2])

    def _encode(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        indices: Int[np.ndarray, " n"],
        keys: UInt32[np.ndarray, "n 2"],
        rows: Sequence[int],
    ) -> dict[int, "_Files"]:
        programs, level_gammas = self._programs, self.plan.level_gammas
        enough = snr_from_float(math.exp(-level_gammas[-1]))
        encoder = TileEncoder(
            programs.chain(self._memory),
            programs.variables,
            np.asarray(process.pixels_to_unit(jnp.asarray(images))),
            keys,
            snr_from_float(math.exp(-programs.gamma_range[0])),
            programs.batch_size,
        )
        while behind := [
            row for row in rows if encoder.sizes[row].snr < enough and not encoder.finished(row)
        ]:
            encoder.advance(behind)
        return {
            row: _write(
                self._header(int(indices[row])),
                encoder.steps[row],
                nearest_steps(encoder.choices[row], level_gammas),
            )
            for row in rows
        }


def compared(numbers: Arrays, plan: SweepPlan, swept: Sequence[str]) -> Arrays:
    """Numbers of each image whose means compare files with the sweep; `swept` are decoders that both have.

    Returns:
        "codec/file_bits", "codec/path_bits", "codec/gamma" and "codec/kl_bits" (the ideal rate at that gamma)
        at each level; "codec/drifted", 1 where encoder and decoder went different ways; and for each of
        `swept` "codec/psnr_gain/DECODER", PSNR over that of the sweep at the same noise.
    """
    arrays = {
        _FILE_BITS: 8 * numbers[BYTES],
        PATH_BITS: numbers[PATH_BITS],
        GAMMA: numbers[GAMMA],
        _IDEAL_BITS: ideal_bits(numbers, plan),
        _DRIFTED: (numbers[DRIFT] > CHECK_TOLERANCE).astype(float),
    }
    for decoder in swept:
        expected = _along_lines(numbers[GAMMA], plan.level_gammas, numbers[f"psnr/{decoder}"])
        with np.errstate(invalid="ignore"):
            gain = numbers[f"psnr/{CodecMethod.prefix}{decoder}"] - expected
        arrays[f"codec/psnr_gain/{decoder}"] = gain
    return arrays


def ideal_bits(numbers: Arrays, plan: SweepPlan) -> Float[np.ndarray, "b l"]:
    """The ideal rate of each image at the gammas of its files, in the chain of T steps of the sweep.

    The sweep knows it at the ends of strata; between them a monotone cubic is drawn (Fritsch, Butland 1984).
    """
    gammas = np.clip(numbers[GAMMA], plan.rate_gammas[-1], plan.rate_gammas[0])
    return np.stack(
        [
            PchipInterpolator(-plan.rate_gammas, bits)(-own)
            for bits, own in zip(numbers[IDEAL_BITS], gammas, strict=True)
        ]
    )


def _along_lines(
    gammas: Float[np.ndarray, "b l"],
    level_gammas: Float[np.ndarray, " k"],
    values: Float[np.ndarray, "b k"],
) -> Float[np.ndarray, "b l"]:
    """Values at `gammas`, on the lines between neighbouring levels and beyond the outermost two."""
    if len(level_gammas) == 1:
        return np.broadcast_to(values, gammas.shape)
    right = np.clip(np.searchsorted(-level_gammas, -gammas), 1, len(level_gammas) - 1)
    first, second = level_gammas[right - 1], level_gammas[right]
    weight = (first - gammas) / (first - second)
    before = np.take_along_axis(values, right - 1, axis=1)
    with np.errstate(invalid="ignore"):
        return before + weight * (np.take_along_axis(values, right, axis=1) - before)


def nearest_steps(
    choices: Iterable[Choice], gammas: Float[np.ndarray, " l"]
) -> Int[np.ndarray, " l"]:
    """How many steps of a tile lead nearest to each gamma, at least one."""
    snr = np.cumsum([one.offer.delta for one in choices], dtype=object)
    reached = -np.log([snr_to_float(one) for one in snr])
    return 1 + np.argmin(np.abs(reached - gammas[:, None]), axis=1)


@dataclasses.dataclass(frozen=True)
class _Files:
    """The parsed files of an image.

    Attributes:
        steps: that each level adds.
        sizes: bytes of the file of each level.
    """

    steps: list[list[Step]]
    sizes: list[int]


def _write(header: Header, steps: Sequence[CodedStep], ends: Int[np.ndarray, " l"]) -> _Files:
    """A file that ends after each of these numbers of steps, which do not fall."""
    files = [write_stream(header, steps[:end]) for end in ends]
    added, before = [], 0
    for data, end in zip(files, ends.tolist(), strict=True):
        stream = parse(data)
        (parsed,) = stream.steps()
        assert stream.problem is None
        assert len(parsed) == end
        added.append(parsed[before:])
        before = end
    return _Files(added, [len(data) for data in files])
