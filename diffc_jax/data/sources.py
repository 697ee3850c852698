"""From a specification to a source of images."""

import dataclasses
from collections.abc import Callable

from diffc_jax.config.sources import SourceSpec, check_fields
from diffc_jax.data.array_record import ArrayRecordStore
from diffc_jax.data.folders import FolderStore
from diffc_jax.data.official import OfficialStore
from diffc_jax.data.packed import PackedStore
from diffc_jax.data.photos import PhotosStore
from diffc_jax.data.spec import Store
from diffc_jax.data.stored_images import StoredImages
from diffc_jax.data.tars import TarStore
from diffc_jax.data.tfds_store import TfdsStore
from diffc_jax.errors import InputError, UsageError

_STORES: dict[str, Callable[[SourceSpec], Store]] = {
    "photos": PhotosStore,
    "tfds": TfdsStore,
    "npz": OfficialStore,
    "pickle": OfficialStore,
    "folder": FolderStore,
    "tar": TarStore,
    "array_record": ArrayRecordStore,
    "packed": PackedStore,
}


def open_source(spec: SourceSpec) -> StoredImages:
    """Opens a source of images; the first image is decoded, so that a wrong size shows at once.

    Raises:
        UsageError: a field of `spec` cannot be used; the message starts with its name.
        InputError: a file is missing, damaged, empty or holds images that `spec` refuses. Images
            are checked when they are read: later ones raise it from `source[index]`.
    """
    check_fields(dataclasses.asdict(spec))
    if spec.image_size < 1:
        raise UsageError(f"must be positive, not {spec.image_size}", field="image_size")
    source = StoredImages(_STORES[spec.source](spec), spec)
    if not len(source):
        raise InputError(f"{source.name}: has no readable image in split {source.split!r}")
    source[0]
    return source
