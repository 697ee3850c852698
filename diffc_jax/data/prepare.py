"""Writes the shards that `array_record` reads."""

import hashlib
import os
import pathlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter

from diffc_jax.data.array_record import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    file_sha256,
    read_manifest,
)
from diffc_jax.data.decoding import encode
from diffc_jax.data.sources import StoredImages, open_source
from diffc_jax.data.spec import SourceSpec
from diffc_jax.errors import UsageError
from diffc_jax.files import replacing, write_json
from diffc_jax.progress import Progress

ENCODINGS = ("webp", "png")
INPUTS = ("npz", "pickle", "folder", "tar")


def prepare(
    spec: SourceSpec, output: pathlib.Path, *, encoding: str = "webp", shard_size: int = 50_000
) -> dict[str, Any]:
    """Writes the images of `spec` as ArrayRecord shards with a manifest.

    Shards appear under their final names when they are whole. Running the same preparation again
    keeps the shards that the manifest lists and writes the others.

    Args:
        spec: the images; its `name` is the variant that results will show and must be given.
        output: folder for the shards and `manifest.json`.
        encoding: "webp" or "png", both lossless.
        shard_size: images in each shard but the last.

    Returns:
        The manifest. Its `inputs` have the SHA-256 of each input file; for a folder it is that
        of the images' own hashes, one a line.

    Raises:
        UsageError: a field that cannot be used, or `output` holds another preparation.
        InputError: an input that cannot be used or an output that cannot be written.
    """
    if not re.fullmatch(r"[\w.+/-]+", spec.name):
        raise UsageError(
            f"name: {spec.name!r} does not name the variant; use letters, digits and ._+/-, "
            "for example imagenet64-chrabaszcz"
        )
    if spec.source not in INPUTS:
        raise UsageError(
            f"source: cannot prepare {spec.source!r}; choose one of {', '.join(INPUTS)}"
        )
    if encoding not in ENCODINGS:
        raise UsageError(f"encoding: unknown {encoding!r}; choose one of {', '.join(ENCODINGS)}")
    if shard_size < 1:
        raise UsageError(f"shard_size: must be positive, not {shard_size}")
    source = open_source(spec)
    fresh = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "variant": spec.name,
        "split": spec.split,
        "image_size": spec.image_size,
        "resampling": _resampling(spec),
        "encoding": encoding,
        "count": len(source),
        "shard_size": shard_size,
        "inputs": _describe_inputs(spec, source.files),
        "skipped": list(source.skipped),
    }
    manifest: dict[str, Any] = {**fresh, "shards": _finished_shards(output, fresh)}
    _write_missing(source, output, manifest)
    logging.info("%s: %d images in %d shards", output, len(source), len(manifest["shards"]))
    return manifest


def _finished_shards(output: pathlib.Path, fresh: dict[str, Any]) -> list[dict[str, Any]]:
    path = output / MANIFEST
    if not path.exists():
        return []
    found = read_manifest(path)
    different = [field for field, value in fresh.items() if found.get(field) != value]
    if different:
        raise UsageError(
            f"output: {path} belongs to a preparation that differs in {', '.join(different)}; "
            "use another folder or remove this one"
        )
    return [
        shard
        for shard in found["shards"]
        if (output / shard["file"]).is_file()
        and (output / shard["file"]).stat().st_size == shard["bytes"]
    ]


def _write_missing(source: StoredImages, output: pathlib.Path, manifest: dict[str, Any]) -> None:
    size, count = manifest["shard_size"], manifest["count"]
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
        with replacing(output / name) as temporary:
            _write_shard(source, indices, manifest["encoding"], temporary, progress)
            finished[name] = {
                "file": name,
                "images": len(indices),
                "bytes": temporary.stat().st_size,
                "sha256": file_sha256(temporary),
            }
        manifest["shards"] = [finished[file] for file in sorted(finished)]
        write_json(output / MANIFEST, manifest)


def _write_shard(
    source: StoredImages, indices: range, encoding: str, path: pathlib.Path, progress: Progress
) -> None:
    writer = ArrayRecordWriter(str(path), "group_size:1")  # one record a chunk: random access
    threads = os.cpu_count() or 1
    window = 64 * threads
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(indices), window):
            chunk = indices[first : first + window]
            for record in pool.map(lambda index: encode(source[index], encoding), chunk):
                writer.write(record)
            progress.advance(len(chunk))
    writer.close()


def _resampling(spec: SourceSpec) -> str:
    by_config = {
        "refuse": "none",
        "squash": f"box filter to {spec.image_size}x{spec.image_size}, aspect not kept",
        "crop": f"central square, box filter to {spec.image_size}x{spec.image_size}",
    }[spec.resize]
    if spec.source in ("npz", "pickle"):
        return f"official files (box filter, aspect not kept), then {by_config}"
    return by_config


def _describe_inputs(spec: SourceSpec, files: Sequence[str]) -> list[dict[str, Any]]:
    hashes = [file_sha256(file) for file in files]
    sizes = [os.path.getsize(file) for file in files]
    if spec.source == "folder":
        digest = hashlib.sha256("".join(f"{value}\n" for value in hashes).encode()).hexdigest()
        return [{"file": spec.path, "images": len(files), "bytes": sum(sizes), "sha256": digest}]
    names = [os.path.basename(file) for file in files]
    return [
        {"file": name, "bytes": size, "sha256": value}
        for name, size, value in zip(names, sizes, hashes, strict=True)
    ]
