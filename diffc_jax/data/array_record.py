"""Our own shards: losslessly encoded images in ArrayRecord files, described by a manifest."""

import functools
import pathlib
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from absl import logging

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.decoding import UnreadableImageError, encode, map_in_windows
from diffc_jax.data.files import files_to_keep_open
from diffc_jax.data.manifest import (
    Manifest,
    describe_file,
    open_manifests,
    whole_file,
    write_manifest,
)
from diffc_jax.data.stored_images import StoredImages
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.files import atomic_write
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.progress import Progress
from diffc_jax.typed import one_of

# Read ahead around a record; images are some kilobytes.
_READ_BYTES = 1 << 15


class ArrayRecordStore:
    """Images of one or more folders that `scripts/prepare_imagenet64.py` wrote.

    The number of images in each shard is compared with the manifest when the store is opened;
    `manifest.verify_hashes` compares the contents.
    """

    def __init__(self, spec: SourceSpec):
        self._shards: list[tuple[str, int]] = []
        module = require("array_record.python.array_record_module")
        variants = []
        for path, manifest in open_manifests(spec, "array_record"):
            for shard in manifest["shards"]:
                file = whole_file(path, shard)
                # A damaged file counts as empty. Closing it would raise an error without a message.
                count = module.ArrayRecordReader(str(file)).num_records()
                if count != shard["images"]:
                    raise InputError(
                        f"{file}: holds {count} readable images, {path.name} says "
                        f"{shard['images']}; prepare it again"
                    )
                self._shards.append((str(file), count))
            variants.append(manifest["variant"])
        self.name = "+".join(variants)
        self.files = [file for file, _ in self._shards]
        self._ends = list(accumulate(count for _, count in self._shards))
        # ArrayRecordDataSource would keep all shards open, and their number is not limited.
        self._open = functools.lru_cache(files_to_keep_open(len(self.files)))(
            lambda file: module.ArrayRecordReader(
                file, options="readahead_buffer_size:0", file_reader_buffer_size=_READ_BYTES
            )
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def _locate(self, index: int) -> tuple[str, int]:
        number = bisect_right(self._ends, index)
        file, count = self._shards[number]
        return file, index - (self._ends[number] - count)

    def label(self, index: int) -> str:
        """Shard and record."""
        file, record = self._locate(index)
        return f"{file}, record {record}"

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            UnreadableImageError: the record is damaged.
        """
        file, record = self._locate(index)
        try:
            return self._open(file).read([record])[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise UnreadableImageError(
                self.label(index), error, "is damaged", "prepare it again"
            ) from error


ENCODINGS = ("webp", "png")


class ShardWriter:
    """Losslessly encoded images in ArrayRecord files, each of which is whole or absent."""

    def __init__(self, encoding: str = "webp", shard_size: int = 50_000):
        """Checks `encoding`, one of `ENCODINGS`, and `shard_size`, images in all shards but the last."""
        one_of("encoding", encoding, ENCODINGS)
        if shard_size < 1:
            raise UsageError(f"must be positive, not {shard_size}", field="shard_size")
        self._encoding, self._shard_size = encoding, shard_size

    def describe(self, source: StoredImages) -> dict[str, Any]:
        """The fields of the manifest that only this layout has."""
        del source
        return {"encoding": self._encoding, "shard_size": self._shard_size}

    def write(self, source: StoredImages, output: pathlib.Path, manifest: Manifest) -> None:
        """Writes the shards that the manifest does not list, and lists them."""
        size, count = self._shard_size, manifest["count"]
        finished = {shard["file"]: shard for shard in manifest["shards"]}
        total = -(-count // size)
        done = sum(shard["images"] for shard in finished.values())
        progress = Progress("prepare", count, "images", done=done)
        if finished:
            logging.info("keeping %d of %d shards", len(finished), total)
        for number in range(total):
            name = f"{manifest['split']}-{number:05}-of-{total:05}.array_record"
            if name in finished:
                continue
            indices = range(number * size, min((number + 1) * size, count))
            with atomic_write(output / name) as temporary:
                self._write_shard(source, indices, temporary, progress)
                finished[name] = {
                    "file": name,
                    "images": len(indices),
                    **describe_file(temporary),
                }
            manifest["shards"] = [finished[file] for file in sorted(finished)]
            write_manifest(output, manifest)

    def _write_shard(
        self, source: StoredImages, indices: range, path: pathlib.Path, progress: Progress
    ) -> None:
        module = require("array_record.python.array_record_module")
        # One record a chunk: random access.
        writer = module.ArrayRecordWriter(str(path), "group_size:1")
        for records in map_in_windows(lambda index: encode(source[index], self._encoding), indices):
            for record in records:
                writer.write(record)
            progress.advance(len(records))
        writer.close()
