"""Our own shards: losslessly encoded images in ArrayRecord files, described by a manifest.

A folder holds one split: `manifest.json` and the shards it lists. The manifest's fields are in
docs/formats.md; it is complete when the images of its shards add up to `count`.
"""

import hashlib
import os
import pathlib
from typing import Any

from absl import logging

from diffc_jax.data import paths
from diffc_jax.data.spec import SourceSpec
from diffc_jax.errors import InputError, UsageError
from diffc_jax.files import read_json
from diffc_jax.optional import require

FORMAT, FORMAT_VERSION = "diffc_jax images", 1
MANIFEST = "manifest.json"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """Reads a manifest, whether its shards are all there yet or not.

    Raises:
        InputError: missing, not a manifest of ours, or of a newer format.
    """
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path}: is not a manifest of {FORMAT}")
    if manifest["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {manifest['format_version']}, this program reads "
            f"{FORMAT_VERSION}; update diffc_jax"
        )
    return manifest


def verify_hashes(folder: pathlib.Path) -> None:
    """Compares every shard with the manifest's SHA-256.

    Raises:
        InputError: a shard differs or is missing.
    """
    shards = read_manifest(folder / MANIFEST)["shards"]
    for shard in shards:
        file = folder / shard["file"]
        if not file.is_file():
            raise InputError(f"{file}: is missing")
        if file_sha256(file) != shard["sha256"]:
            raise InputError(f"{file}: differs from the SHA-256 in {MANIFEST}; prepare it again")
    logging.info("%s: %d shards are intact", folder, len(shards))


class ArrayRecordStore:
    """Images of one or more folders that `scripts/prepare_imagenet64.py` wrote.

    The number of images in each shard is compared with the manifest when the store is opened;
    `verify_hashes` compares the contents.
    """

    def __init__(self, spec: SourceSpec):
        self._shards: list[tuple[str, int]] = []
        names = []
        for part in paths.entries(spec.path, "array_record"):
            path = pathlib.Path(part).expanduser()
            manifest_path = path / MANIFEST if path.is_dir() else path
            manifest = read_manifest(manifest_path)
            if manifest["split"] != spec.split:
                raise UsageError(
                    f"split: {manifest_path} is {manifest['split']!r}, not {spec.split!r}"
                )
            self._add_shards(manifest_path, manifest)
            names.append(manifest["variant"])
        self.name = "+".join(names)
        self.files = [file for file, _ in self._shards]
        data_source = require("array_record.python.array_record_data_source")
        self._records = data_source.ArrayRecordDataSource(self.files)

    def _add_shards(self, path: pathlib.Path, manifest: dict[str, Any]) -> None:
        written = sum(shard["images"] for shard in manifest["shards"])
        if written != manifest["count"]:
            raise InputError(
                f"{path}: only {written} of {manifest['count']} images are written; "
                "run the preparation again to finish it"
            )
        module = require("array_record.python.array_record_module")
        for shard in manifest["shards"]:
            file = path.parent / shard["file"]
            if not file.is_file():
                raise InputError(f"{file}: is missing, but {path.name} lists it")
            # A damaged file counts as empty. Closing it would raise an error without a message.
            count = module.ArrayRecordReader(str(file)).num_records()
            if count != shard["images"]:
                raise InputError(
                    f"{file}: holds {count} readable images, {path.name} says {shard['images']}; "
                    "prepare it again"
                )
            self._shards.append((str(file), count))

    def __len__(self) -> int:
        return len(self._records)

    def label(self, index: int) -> str:
        """Shard and record."""
        for file, count in self._shards:
            if index < count:
                return f"{file}, record {index}"
            index -= count
        raise IndexError(index)

    def read(self, index: int) -> bytes:
        """The encoded image."""
        try:
            return self._records[index]
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(
                f"{self.label(index)}: is damaged ({error}); prepare it again"
            ) from error
