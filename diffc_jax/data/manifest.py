"""What a folder of prepared images says about itself: `manifest.json`.

A folder holds one split: the manifest and the files that it lists, in one of two layouts,
"array_record" (`data/array_record.py`) or "packed" (`data/packed.py`). The fields are in
docs/output_files.md. Prepared images are complete when those of the shards add up to `count`.
"""

import collections
import os
import pathlib
from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias, TypedDict

from absl import logging

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.files import entries
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.digests import sealed, unsealed
from diffc_jax.runtime.export import ImageSize
from diffc_jax.runtime.files import file_sha256, local_path, read_json, write_json
from diffc_jax.typed import Count, Meta, Positive, mismatch

Manifest: TypeAlias = dict[str, Any]

FORMAT, FORMAT_VERSION = "diffc_jax images", 1
MANIFEST = "manifest.json"
LAYOUTS = ("array_record", "packed")
_PREPARE = "prepare the images again"
# Files of packed images beside the pixels.
_PARTS = ("names", "digests")
_REQUIRED = ("variant", "split", "image_size", "count", "resampling", "shards")


_FileName = Annotated[str, Meta(max_length=255, pattern=r"[^\0]+")]


class _File(TypedDict):
    file: _FileName
    bytes: Count
    sha256: str


class _Shard(_File):
    images: Count


class _Partial(TypedDict):
    file: _FileName
    images: Count


class _Manifest(TypedDict, total=False):
    """What readers need of a manifest."""

    variant: str
    split: str
    resampling: str
    image_size: ImageSize
    count: Positive
    shards: list[_Shard]
    names: _File
    digests: _File
    partial: _Partial


def describe_file(path: pathlib.Path) -> dict[str, Any]:
    """Size and hash of a file, as a manifest keeps them."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
    """Writes a manifest with a digest of its fields, whole or not at all."""
    write_json(folder / MANIFEST, sealed(manifest))


def read_manifest(path: pathlib.Path) -> Manifest:
    """Reads a manifest, whether its images are all there yet or not; the log says if somebody changed it.

    Raises:
        InputError: missing, not a manifest of ours, or of a newer format.
    """
    manifest: Manifest = read_json(path, dict[str, Any], _PREPARE)
    if manifest.get("format") != FORMAT:
        raise InputError(f"{path}: is not a manifest of {FORMAT}")
    manifest = unsealed(path, manifest)
    if (version := manifest.get("format_version")) != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; "
            "update diffc_jax"
        )
    # Manifests from before there were two layouts do not name theirs.
    manifest.setdefault("layout", "array_record")
    if manifest["layout"] not in LAYOUTS:
        raise InputError(f"{path}: has the unknown layout {manifest['layout']!r}; update diffc_jax")
    required = (*_REQUIRED, "names") if manifest["layout"] == "packed" else _REQUIRED
    if missing := [field for field in required if field not in manifest]:
        raise InputError(f"{path}: lacks {', '.join(missing)}; {_PREPARE}")
    if flaw := mismatch(manifest, _Manifest):
        raise InputError(f"{path}: {flaw}; {_PREPARE}")
    listed = collections.Counter(os.path.normpath(shard["file"]) for shard in manifest["shards"])
    if twice := [name for name, count in listed.items() if count > 1]:
        raise InputError(f"{path}: lists {twice[0]} more than once; {_PREPARE}")
    return manifest


def _listed(manifest: Manifest) -> list[dict[str, Any]]:
    """The entries of all files that a manifest lists."""
    return [*manifest["shards"], *(manifest[part] for part in _PARTS if part in manifest)]


def open_manifests(spec: SourceSpec, layout: str) -> Iterator[tuple[pathlib.Path, Manifest]]:
    """The manifests of a `path` field, each once with its own path, complete and of this layout.

    `split`, `image_size` and `resize` of the specification are compared with the manifests.

    Raises:
        UsageError: a field of `spec` that does not go with a manifest.
        InputError: a manifest that cannot be used, or images that are not all written.
    """
    used: set[str] = set()
    for part in entries(spec.path, layout):
        path = local_path(part)
        if path.is_dir():
            path = path / MANIFEST
        elif path.is_file() and path.suffix != ".json":
            raise InputError(f"{path}: is not a manifest; name the {MANIFEST} beside it")
        manifest = read_manifest(path)
        if (found := manifest["layout"]) != layout:
            raise UsageError(f"{path} is {found}, not {layout}; set source={found}", field="source")
        if manifest["split"] != spec.split:
            raise UsageError(f"{path} is {manifest['split']!r}, not {spec.split!r}", field="split")
        _check_size(path, manifest["image_size"], spec)
        _check_complete(path, manifest)
        if (real := os.path.realpath(path)) in used:
            logging.warning("%s: is named twice and used once", path)
            continue
        used.add(real)
        yield path, manifest


def listed_file(path: pathlib.Path, entry: dict[str, Any]) -> pathlib.Path:
    """The file of an entry of the manifest at `path`; InputError if it is missing."""
    file = path.parent / entry["file"]
    if not os.path.isfile(file):  # where the name may be none, Path.is_file raises errors
        raise InputError(f"{file}: is missing, but {path.name} lists it")
    return file


def whole_file(path: pathlib.Path, entry: dict[str, Any]) -> pathlib.Path:
    """As `listed_file`; InputError if it has another size, too."""
    file = listed_file(path, entry)
    size = file.stat().st_size
    if size != entry["bytes"]:
        raise InputError(
            f"{file}: has {size} bytes, {path.name} says {entry['bytes']}; copy or prepare it again"
        )
    return file


def check_hash(path: pathlib.Path, entry: dict[str, Any]) -> None:
    """Raises InputError unless the file of an entry of the manifest at `path` has its SHA-256."""
    file = listed_file(path, entry)
    if file_sha256(file) != entry["sha256"]:
        raise InputError(
            f"{file}: differs from the SHA-256 in {path.name}; remove it and prepare it again"
        )


def verify_hashes(folder: pathlib.Path) -> None:
    """Compares every file of a prepared folder with the manifest's SHA-256.

    Raises:
        InputError: a file differs or is missing, or images are not all written.
    """
    path = folder / MANIFEST
    manifest = read_manifest(path)
    _check_complete(path, manifest)
    listed = _listed(manifest)
    for entry in listed:
        check_hash(path, entry)
    logging.info("%s: %d files are intact", folder, len(listed))


def _check_size(path: pathlib.Path, side: int, spec: SourceSpec) -> None:
    size = spec.image_size
    if side < size:
        raise UsageError(
            f"{size} is larger than the images of {path}, {side}x{side}; images are never enlarged",
            field="image_size",
        )
    if side > size and spec.resize == "refuse":
        raise UsageError(
            f"the images of {path} are {side}x{side}, not {size}x{size}; "
            "set resize=squash to scale them, or change image_size",
            field="image_size",
        )


def _check_complete(path: pathlib.Path, manifest: Manifest) -> None:
    written = sum(shard["images"] for shard in manifest["shards"])
    if written != manifest["count"]:
        written += manifest.get("partial", {"images": 0})["images"]
        raise InputError(
            f"{path}: only {written} of {manifest['count']} images are written; "
            "run the preparation again to finish it"
        )
