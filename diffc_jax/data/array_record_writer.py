"""Writes the shards that `array_record` reads."""

import pathlib
from typing import Any

from absl import logging

from diffc_jax.data.decoding import encode
from diffc_jax.data.manifest import MANIFEST, Manifest, describe_file
from diffc_jax.data.sources import StoredImages
from diffc_jax.data.threads import map_in_windows
from diffc_jax.errors import UsageError
from diffc_jax.runtime.files import atomic_write, write_json
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.progress import Progress

ENCODINGS = ("webp", "png")


class ShardWriter:
    """Losslessly encoded images in ArrayRecord files, each of which is whole or absent."""

    def __init__(self, encoding: str = "webp", shard_size: int = 50_000):
        """Checks `encoding`, one of `ENCODINGS`, and `shard_size`, images in all shards but the last."""
        if encoding not in ENCODINGS:
            raise UsageError(
                f"unknown {encoding!r}; choose one of {', '.join(ENCODINGS)}", field="encoding"
            )
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
            write_json(output / MANIFEST, manifest)

    def _write_shard(
        self, source: StoredImages, indices: range, path: pathlib.Path, progress: Progress
    ) -> None:
        module = require("array_record.python.array_record_module")
        writer = module.ArrayRecordWriter(
            str(path), "group_size:1"
        )  # one record a chunk: random access
        for records in map_in_windows(lambda index: encode(source[index], self._encoding), indices):
            for record in records:
                writer.write(record)
            progress.advance(len(records))
        writer.close()
