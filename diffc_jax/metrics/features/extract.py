"""Features of images, in batches over all devices, and those of a reference set kept on disk."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Annotated

import flax.traverse_util
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Shaped, UInt8

from diffc_jax.errors import InputError
from diffc_jax.metrics.feature_sets import FeatureSet, load_features, save_features
from diffc_jax.models.base import Variables
from diffc_jax.runtime import files
from diffc_jax.runtime.sharding import even_batch_size, put_batch, replicated, split_batch
from diffc_jax.typed import Meta

# By what stands for a network and files of images: the file with the features.
_KNOWN = "known.json"
# What the first layers make of more images than this does not fit into the cache of a CPU.
_MOST_ON_A_CPU = 2
_FileName = Annotated[str, Meta(pattern=r"[\w.-]{1,200}\.npz")]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A trained network that turns an image into a vector.

    Attributes:
        name: stands beside every value computed in its features.
        dimension: length d of the vector.
        apply: `apply(variables, images)`: uint8 images (b, h, w, 3) to float32 features (b, d); pure,
            each image on its own.
        variables: nested dicts of arrays.
        version: raised by hand when `apply` gives other features with the same weights, so that none of
            before are used.
    """

    name: str
    dimension: int
    apply: Callable[[Variables, UInt8[Array, "b h w 3"]], Float[Array, "b d"]]
    variables: Variables
    version: int = 1

    @property
    def identity(self) -> str:
        """What decides the features of an image: name, weights and, from the second on, version."""
        version = f" version {self.version}" if self.version > 1 else ""
        return f"{self.name} {self.weights_hash}{version}"

    @functools.cached_property
    def weights_hash(self) -> str:
        """SHA-256 over names, types, shapes and bytes of the variables, in hexadecimal."""
        digest = hashlib.sha256()
        for name, leaf in sorted(flax.traverse_util.flatten_dict(self.variables, sep="/").items()):
            array = np.asarray(leaf)
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


class Extractor:
    """Computes features in batches of one fixed size, split over the devices of a mesh."""

    def __init__(self, network: FeatureNetwork, mesh: Mesh, batch_size: int = 32):
        """Puts the network on the devices of this process.

        `batch_size`, rounded up to a multiple of their number, bounds memory and changes no feature; fewer
        images cost as much as a full batch. CPUs take two images at once, which is fastest.
        """
        self.network = network
        self._mesh = mesh
        if mesh.devices.flat[0].platform == "cpu":
            batch_size = min(batch_size, _MOST_ON_A_CPU * mesh.size)
        self._batch_size = even_batch_size(batch_size, mesh)
        self._variables = jax.device_put(network.variables, replicated(mesh))
        self._apply = jax.jit(network.apply, out_shardings=split_batch(mesh))

    def __call__(self, images: Shaped[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n d"]:
        """Features of any number of uint8 images (n, h, w, 3), in their order.

        Raises:
            InputError: images that are not uint8 RGB, or a feature that is NaN or infinite (the first
                such image is named).
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(
                f"images: {images.dtype} of shape {images.shape}, and {self.network.name} needs uint8 of "
                "shape (n, h, w, 3)"
            )
        features = np.empty((len(images), self.network.dimension), np.float32)
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            padding = ((0, self._batch_size - len(part)), (0, 0), (0, 0), (0, 0))
            batch = put_batch(self._mesh, np.pad(part, padding))
            result = np.asarray(self._apply(self._variables, batch))[: len(part)]
            finite = np.isfinite(result).all(axis=1)
            if not finite.all():
                raise InputError(
                    f"{self.network.name}: features of image {start + int(finite.argmin())} of the batch "
                    "are not finite; check the network's weights"
                )
            features[start : start + len(part)] = result
        return features

    def of_set(self, batches: Iterable[UInt8[np.ndarray, "_ h w 3"]]) -> FeatureSet:
        """Features of the images of all batches; one batch is in memory at a time.

        Raises:
            InputError: no images, or features that are not finite.
        """
        return FeatureSet.of(map(self, batches), self.network.name)


def reference_features(
    extractor: Extractor,
    batches: Callable[[], Iterable[UInt8[np.ndarray, "_ h w 3"]]],
    folder: files.AnyPath,
    signature: str | None = None,
) -> FeatureSet:
    """Features of a reference set, read from `folder` if they were computed before.

    The file's name is a hash of the images' bytes, the network's name and its weights, so it can
    neither be stale nor be mistaken for another's. Where `signature` stands for files that nobody has
    changed, known.json has the name of the file, and no image has to be read.

    `batches` gives the images, in batches of any size; it is called for the hash and, unless the features
    are cached, once more.

    Raises:
        InputError: no images, features that are not finite, or a damaged cached file.
    """
    known = folder / _KNOWN
    names: dict[str, str] = {}
    if signature and known.exists():
        names = files.read_json(known, dict[str, _FileName], "delete it and run again")
    # Files of earlier versions, under other names, have moments only.
    content, dimension = f"features {extractor.network.identity}", extractor.network.dimension
    key = f"{content} {signature}"
    if key in names and (folder / names[key]).exists():
        return load_features(folder / names[key], dimension)
    digest = hashlib.sha256()
    digest.update(f"{content}\n".encode())
    for images in batches():
        for image in images:
            digest.update(f"{image.shape}\n".encode())
            digest.update(image.tobytes())
    path = folder / f"{extractor.network.name}-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        save_features(path, extractor.of_set(batches()))
    features = load_features(path, dimension)
    if signature:
        files.write_json(known, names | {key: path.name})
    return features
