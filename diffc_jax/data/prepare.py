"""Prepares images once, so that training reads them fast: files and a manifest in one folder."""

import hashlib
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from absl import logging

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.array_record import ShardWriter
from diffc_jax.data.manifest import (
    FORMAT,
    FORMAT_VERSION,
    LAYOUTS,
    MANIFEST,
    Manifest,
    open_manifests,
    read_manifest,
)
from diffc_jax.data.official import are_official
from diffc_jax.data.packed import PackedWriter
from diffc_jax.data.sources import open_source
from diffc_jax.errors import UsageError
from diffc_jax.runtime.files import as_json, file_sha256

INPUTS = ("npz", "pickle", "folder", "tar", *LAYOUTS)


def prepare(
    spec: SourceSpec,
    output: pathlib.Path,
    *,
    layout: str = "array_record",
    encoding: str | None = None,
    shard_size: int | None = None,
) -> Manifest:
    """Writes the images of `spec` into a folder, with a manifest.

    Files appear under their final names when they are whole. Running the same preparation again
    keeps what is there (shards; of packed images what was saved last) and writes the rest.

    Args:
        spec: the images; its `name` is the variant that results will show and must be given.
        output: folder for the files and `manifest.json`, which is returned.
        layout: "array_record" or "packed".
        encoding: "webp" (the default) or "png", both lossless; of ArrayRecord shards only.
        shard_size: images in each shard but the last, by default 50,000; likewise.

    Raises:
        UsageError: a field that cannot be used, or `output` holds another preparation.
        InputError: an input that cannot be used or an output that cannot be written.
    """
    if not re.fullmatch(r"[\w.+/-]+", spec.name):
        raise UsageError(
            f"{spec.name!r} does not name the variant; use letters, digits and ._+/-, "
            "for example imagenet64-chrabaszcz",
            field="name",
        )
    if spec.source not in INPUTS:
        raise UsageError(
            f"cannot prepare {spec.source!r}; choose one of {', '.join(INPUTS)}", field="source"
        )
    writer = _writer(layout, encoding=encoding, shard_size=shard_size)
    source = open_source(spec)
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "layout": layout,
        "variant": spec.name,
        "split": spec.split,
        "image_size": spec.image_size,
        "resampling": _resampling(spec, source.files),
        "count": len(source),
        "inputs": _describe_inputs(spec, source.files),
        "skipped": list(source.skipped),
        **writer.describe(source),
    }
    fresh = as_json(described)  # to be compared with what an earlier preparation wrote
    manifest = {**fresh, **_progress(output, fresh)}
    writer.write(source, output, manifest)
    logging.info("%s: %d images in %d files", output, len(source), len(manifest["shards"]))
    return manifest


def _writer(layout: str, **options: Any) -> PackedWriter | ShardWriter:
    given = {field: value for field, value in options.items() if value is not None}
    if layout == "packed":
        for field in given:
            raise UsageError("format=packed has none; leave it out", field=field)
        return PackedWriter()
    if layout == "array_record":
        return ShardWriter(**given)
    raise UsageError(f"unknown {layout!r}; choose one of {', '.join(LAYOUTS)}", field="format")


def _progress(output: pathlib.Path, fresh: Manifest) -> dict[str, Any]:
    """The fields of the manifest in `output` that say what is written, as far as it still is."""
    path = output / MANIFEST
    if not path.exists():
        return {"shards": []}
    found = read_manifest(path)
    different = [field for field, value in fresh.items() if found.get(field) != value]
    if different:
        raise UsageError(
            f"{path} belongs to a preparation that differs in {', '.join(different)}; "
            "use another folder or remove this one",
            field="output",
        )
    kept = [
        shard
        for shard in found["shards"]
        if os.path.isfile(output / shard["file"])
        and (output / shard["file"]).stat().st_size == shard["bytes"]
    ]
    more = "digests" if kept else "partial"
    return {"shards": kept, **({more: found[more]} if more in found else {})}


def _resampling(spec: SourceSpec, files: Sequence[str]) -> str:
    filtered = {"box": "box filter", "area": "area average"}[spec.resize_filter]
    filtered += f" to {spec.image_size}x{spec.image_size}"
    by_config = {
        "refuse": "none",
        "squash": f"{filtered}, aspect not kept",
        "crop": f"central square, {filtered}",
    }[spec.resize]
    if spec.source in ("npz", "pickle") and are_official(files):
        return f"official files (box filter, aspect not kept), then {by_config}"
    if spec.source in LAYOUTS:
        manifests = open_manifests(spec, spec.source)
        before = "; ".join(dict.fromkeys(manifest["resampling"] for _, manifest in manifests))
        return before if spec.resize == "refuse" else f"{before}, then {by_config}"
    return by_config


def _describe_inputs(spec: SourceSpec, files: Sequence[str]) -> list[dict[str, Any]]:
    """The SHA-256 of each input file; for a folder that of the images' own hashes, one a line."""
    if spec.source == "folder":  # a file for each image
        files = files[: spec.max_images or None]
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
