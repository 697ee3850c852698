"""The sections of benchmarks/accelerator.py about files: between machines and devices, and speed.

Files of one machine travel as one archive, FOLDER/codec_files.zip, with the images that they are of and what
this machine decodes from them.
"""

import dataclasses
import io
import json
import pathlib
import platform
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from accelerator_jobs import Job, Row
from jaxtyping import UInt8
from shared import first_and_median_seconds, photographs, random_codec

from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.loading import SHIPPED_WEIGHTS, load_codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.targets import Target
from diffc_jax.errors import InputError
from diffc_jax.metrics.psnr import mse, psnr_from_mse
from diffc_jax.models import Denoiser, Variables, build_model
from diffc_jax.runtime import files

ARCHIVE = "codec_files.zip"
_ARRAYS, _CARD = "images.npz", "made_by.json"
_SPEED_ROUNDS = 3

Images = UInt8[np.ndarray, "n h w 3"]


@dataclasses.dataclass(frozen=True)
class Size:
    """Settings of the measurements.

    Attributes:
        tiny: config of a network of random weights and the side of its images; None for the shipped network.
        images: that are exchanged.
        rates: of their files in bits per pixel.
        memory: of the trellis.
        batches: images that are coded at once where coding is timed.
        speed_rate: bits per pixel of the files that are timed.
    """

    tiny: tuple[Mapping[str, Any], int] | None
    images: int
    rates: tuple[float, ...]
    memory: int
    batches: tuple[int, ...]
    speed_rate: float


FULL = Size(None, 8, (0.5, 1.0, 2.0), 14, (1, 16), 1.0)
SMALL = Size(({"name": "gaussian"}, 8), 2, (8.0, 12.0), 8, (1, 4), 8.0)


@dataclasses.dataclass(frozen=True)
class Files:
    """Files of the same images at several rates, and what one machine decodes from them.

    Attributes:
        originals: the images.
        streams: rate in bits per pixel -> a file for each image.
        decoded: rate -> images.
        made_by: versions and device of that machine.
    """

    originals: Images
    streams: dict[float, list[bytes]]
    decoded: dict[float, Images]
    made_by: dict[str, Any]

    def write(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes the archive, whole or not at all, and returns its path."""
        arrays = io.BytesIO()
        named = {_decoded_name(rate): images for rate, images in self.decoded.items()}
        np.savez(arrays, originals=self.originals, **named)
        with (
            files.atomic_write(folder / ARCHIVE) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            archive.writestr(_CARD, files.to_json(self.made_by) + "\n")
            archive.writestr(_ARRAYS, arrays.getvalue())
            for rate, streams in self.streams.items():
                for i, stream in enumerate(streams):
                    archive.writestr(_stream_name(rate, i), stream)
        return folder / ARCHIVE


def read_files(folder: pathlib.Path) -> Files:
    """Reads what `Files.write` wrote.

    Raises:
        InputError: there is no such archive, or it is damaged.
    """
    path = folder / ARCHIVE
    try:
        with zipfile.ZipFile(path) as archive:
            made_by = json.loads(archive.read(_CARD))
            arrays = np.load(io.BytesIO(archive.read(_ARRAYS)), allow_pickle=False)
            originals, rates = arrays["originals"], made_by["rates"]
            return Files(
                originals,
                {
                    rate: [archive.read(_stream_name(rate, i)) for i in range(len(originals))]
                    for rate in rates
                },
                {rate: arrays[_decoded_name(rate)] for rate in rates},
                made_by,
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"--read_files: {path} is no archive of --write_files ({error})"
        ) from error


def _stream_name(rate: float, index: int) -> str:
    return f"{rate:g}bpp/{index}.diffc"


def _decoded_name(rate: float) -> str:
    return f"decoded_{rate:g}bpp"


class CodecSections:
    """Sections `codec_exchange` and `codec`, and the network of `sweep`."""

    def __init__(self, size: Size, elsewhere: Files | None, output: pathlib.Path):
        """Loads nothing yet.

        Args:
            size: of the measurements.
            elsewhere: files of another machine.
            output: where this machine's files go.
        """
        self._size = size
        self._elsewhere = elsewhere
        self._output = output
        self._codec: ProgramCache | None = None

    def codec(self) -> ProgramCache:
        """On the default device, with the programs that earlier jobs have compiled."""
        if self._codec is None:
            batch, tiny = max(self._size.batches), self._size.tiny
            self._codec = (
                random_codec(*tiny, batch) if tiny else load_codec(SHIPPED_WEIGHTS, batch).programs
            )
        return self._codec

    def network(self) -> tuple[Denoiser, Variables, int]:
        """The denoiser of the codec, its variables and the side of its images."""
        codec, tiny = self.codec(), self._size.tiny
        fields = tiny[0] if tiny else files.read_json(SHIPPED_WEIGHTS.with_suffix(".json"))["model"]
        model = build_model(fields, (codec.side, codec.side, 3))
        return model.eps_hat, codec.variables, codec.side

    def jobs_of_others_files(self) -> list[Job]:
        """Another machine's files decoded here, if there are any."""
        if self._elsewhere is None:
            return []
        return [Job("codec_exchange", "files of another machine", 50, self._rows_of_others_files)]

    def jobs_of_own_files(self) -> list[Job]:
        """This machine's files decoded by its CPU."""
        return [Job("codec_exchange", "files of this machine", 60, self._rows_of_own_files)]

    def jobs_at_highest_precision(self) -> list[Job]:
        """Another machine's files again, without what TF32 changes; on CPUs that is nothing."""
        if self._elsewhere is None or jax.default_backend() == "cpu":
            return []
        name = "files of another machine, products at highest precision"
        return [Job("codec_exchange", name, 50, lambda: self._rows_of_others_files("highest"))]

    def speed_jobs(self) -> list[Job]:
        """Encoding and decoding one image, and several side by side."""
        return [
            Job("codec", f"batch {batch}", 35, lambda batch=batch: self._speed_rows(batch))
            for batch in self._size.batches
        ]

    def write_files(self) -> Files:
        """Encodes and decodes the built-in photographs on this machine, and writes the archive."""
        codec = self.codec()
        if self._elsewhere is None:
            originals = photographs("eval", codec.side, self._size.images)
        else:
            originals = self._elsewhere.originals
        streams = {
            rate: [
                encode_image(codec, image, Target(bpp=rate), memory=self._size.memory)
                for image in originals
            ]
            for rate in self._size.rates
        }
        made_by = {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "rates": list(self._size.rates),
        }
        decoded = {rate: decode_all(codec, some)[0] for rate, some in streams.items()}
        written = Files(originals, streams, decoded, made_by)
        print(f"files: {written.write(self._output)}", flush=True)
        return written

    def _rows_of_others_files(self, precision: str | None = None) -> list[Row]:
        assert self._elsewhere is not None
        with jax.default_matmul_precision(precision or jax.config.jax_default_matmul_precision):
            return exchange_rows(self._elsewhere, self.codec(), jax.devices()[0].device_kind)

    def _rows_of_own_files(self) -> list[Row]:
        own = self.write_files()
        rows = self._rows_on_cpu(own)
        if self._elsewhere is not None:
            for row, (rate, streams) in zip(rows, own.streams.items(), strict=True):
                others = self._elsewhere.streams.get(rate, [])
                same = sum(a == b for a, b in zip(streams, others, strict=False))
                row["files_that_are_the_same_elsewhere"] = same
        return rows

    def _rows_on_cpu(self, own: Files) -> list[Row]:
        """This machine's CPU in the place of another machine."""
        cpu, codec = jax.devices("cpu")[0], self.codec()
        name = f"cpu of this machine, {platform.machine()}"
        if jax.default_backend() == "cpu":
            return exchange_rows(own, codec, name)
        eps_hat, variables, side = self.network()
        twin = ProgramCache(
            eps_hat,
            jax.device_get(variables),
            (side, side, 3),
            codec.gamma_range,
            codec.fingerprint,
            codec.batch_size,
        )
        with jax.default_device(cpu):
            return exchange_rows(own, twin, name)

    def _speed_rows(self, batch: int) -> list[Row]:
        codec, size = Codec(self.codec()), self._size
        images = list(photographs("eval", codec.programs.side, batch))
        made: list[bytes] = []

        def encode() -> None:
            made[:] = codec.encode_many(images, bpp=size.speed_rate, memory=size.memory)

        times = {"encode": first_and_median_seconds(encode, _SPEED_ROUNDS)}
        times["decode"] = first_and_median_seconds(lambda: codec.decode_many(made), _SPEED_ROUNDS)
        n_pixels = batch * codec.programs.side**2
        return [
            {
                "task": task,
                "dtype": "float32",
                "batch": batch,
                "image_side_pixels": codec.programs.side,
                "bits_per_pixel": 8 * sum(map(len, made)) / n_pixels,
                "seconds_per_image": seconds / batch,
                "images_per_second": batch / seconds,
                "first_call_seconds": first,
            }
            for task, (first, seconds) in times.items()
        ]


def decode_all(codec: ProgramCache, streams: Sequence[bytes]) -> tuple[Images, int]:
    """Images of files, one after the other, and of how many the check said that latents have drifted."""
    decoded = [decode_stream(codec, parse(stream)) for stream in streams]
    # Files that are whole and not lossless have no other warning.
    return np.stack([one.image for one in decoded]), sum(bool(one.warnings) for one in decoded)


def exchange_rows(made: Files, codec: ProgramCache, here: str) -> list[Row]:
    """Decodes files and compares with what the machine that wrote them decodes.

    Args:
        made: the files.
        codec: that decodes them.
        here: name of the device that it runs on.
    """
    rows = []
    for rate, streams in made.streams.items():
        images, drifted = decode_all(codec, streams)
        rows.append(
            {
                "written_on": f"{made.made_by['device']}, JAX {made.made_by['jax']}",
                "decoded_on": here,
                "dtype": "float32",
                "products": jax.config.jax_default_matmul_precision or "JAX's own",
                "batch": 1,
                "bits_per_pixel": rate,
                **differences(made.originals, made.decoded[rate], images),
                "images_drifted": drifted,
            }
        )
    return rows


def differences(originals: Images, there: Images, here: Images) -> Row:
    """How far two reconstructions of the same images are from each other, and from the images."""
    psnr_there, psnr_here = (psnr_from_mse(mse(originals, images)) for images in (there, here))
    change = psnr_here - psnr_there
    return {
        "images": len(originals),
        "psnr_there_db": float(psnr_there.mean()),
        "mean_psnr_change_db": float(change.mean()),
        "largest_psnr_change_db": float(change[np.argmax(np.abs(change))]),
        "largest_pixel_difference": int(np.abs(here.astype(int) - there).max()),
    }
