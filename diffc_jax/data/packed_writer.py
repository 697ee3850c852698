"""Writes the files that `packed` reads."""

import contextlib
import hashlib
import io
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from diffc_jax.data.manifest import MANIFEST, Manifest, describe_file
from diffc_jax.data.sources import StoredImages
from diffc_jax.data.threads import map_in_windows
from diffc_jax.errors import InputError
from diffc_jax.runtime.files import atomic_write, write_json
from diffc_jax.runtime.progress import Progress

_SAVE_BYTES = 1 << 26  # what an interruption can cost


class PackedWriter:
    """All pixels in one file, which gets its name when it is whole.

    Until then they are in `SPLIT.npy.partial`, and `partial` of the manifest says how many images
    of it are safely on the disk. It is never cut, only overwritten with the same bytes, so that
    two preparations that run at once by mistake cannot leave holes.
    """

    def describe(self, source: StoredImages) -> dict[str, Any]:
        """The fields of the manifest that only this layout has."""
        digest, size = hashlib.sha256(), 0
        for line in _names(source):
            digest.update(line)
            size += len(line)
        entry = {"file": f"{source.split}.names.txt", "bytes": size, "sha256": digest.hexdigest()}
        return {"names": entry}

    def write(self, source: StoredImages, output: pathlib.Path, manifest: Manifest) -> None:
        """Writes what is missing of the files, and lists them in the manifest."""
        names = output / manifest["names"]["file"]
        if not names.is_file() or names.stat().st_size != manifest["names"]["bytes"]:
            with _writing(names), atomic_write(names) as temporary, temporary.open("wb") as stream:
                stream.writelines(_names(source))
        if manifest["shards"]:
            logging.info("keeping %s", manifest["shards"][0]["file"])
        else:
            path = output / f"{manifest['split']}.npy"
            partial = output / f"{path.name}.partial"
            _write_pixels(source, partial, manifest)
            entry = {"file": path.name, "images": manifest["count"], **describe_file(partial)}
            manifest["shards"] = [entry]
            # Listed before it gets its name, else an interruption between the two would lose it.
            _record(output, manifest)
            with _writing(path):
                partial.replace(path)
        manifest.pop("partial", None)
        _record(output, manifest)


def _write_pixels(source: StoredImages, partial: pathlib.Path, manifest: Manifest) -> None:
    shape = (manifest["count"], manifest["image_size"], manifest["image_size"], 3)
    header, image_bytes = _npy_header(shape), math.prod(shape[1:])
    size = len(header) + math.prod(shape)
    held = partial.stat().st_size if partial.is_file() else 0
    done = manifest.get("partial", {"images": 0})["images"]
    if held < len(header) + done * image_bytes:
        done = 0
    if done:
        logging.info("keeping %d of %d images", done, shape[0])
    _check_space(partial.parent, size - held)
    progress = Progress("prepare", shape[0], "images", done=done)
    with contextlib.ExitStack() as stack:
        with _writing(partial):
            stream = stack.enter_context(partial.open("r+b" if held else "wb"))
            stream.write(header)
            stream.seek(len(header) + done * image_bytes)
        unsaved = 0
        for images in map_in_windows(source.__getitem__, range(done, shape[0])):
            with _writing(partial):
                stream.write(np.stack(images).data)
            done += len(images)
            unsaved += len(images) * image_bytes
            if unsaved >= _SAVE_BYTES or done == shape[0]:
                with _writing(partial):
                    stream.flush()
                    os.fsync(stream.fileno())
                manifest["partial"] = {"file": partial.name, "images": done}
                _record(partial.parent, manifest)
                unsaved = 0
            progress.advance(len(images))
        with _writing(partial):
            stream.truncate(size)  # of another preparation, whose manifest is gone, more was there


def _record(output: pathlib.Path, manifest: Manifest) -> None:
    with _writing(output / MANIFEST):
        write_json(output / MANIFEST, manifest)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _names(source: StoredImages) -> Iterator[bytes]:
    """Labels of all images as lines, without the folder in which all inputs lie."""
    common = os.path.commonprefix(source.files)  # noqa: RUF071  # cut to whole folders below
    folder = common[: common.rfind(os.sep) + 1]
    for index in range(len(source)):
        name = source.label(index).removeprefix(folder).replace("\n", "\\n")
        yield name.encode(errors="backslashreplace") + b"\n"


def _check_space(folder: pathlib.Path, needed: int) -> None:
    with _writing(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: has {free / 1e9:.3g} GB free, the images need {needed / 1e9:.3g} GB"
        )


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
