"""The perceptual measures that a config asks for, on batches of 8-bit images."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Float32, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.errors import UsageError
from diffc_jax.metrics.features.extract import Extractor, reference_moments
from diffc_jax.metrics.features.registry import load_feature_network
from diffc_jax.metrics.frechet import FrechetReference
from diffc_jax.metrics.kid import MIN_SUBSETS, kernel_distance
from diffc_jax.metrics.lpips import PairwiseLPIPS, lpips_alex, lpips_vgg
from diffc_jax.metrics.ms_ssim import ms_ssim
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import open_source

Images = UInt8[np.ndarray, "b h w 3"]
PairMetric = Callable[[Images, Images], Float[np.ndarray, " b"]]

# Metrics of pairs of images by their name in config.eval.image_metrics -> their column of results.
COLUMNS = {"lpips_alex": "lpips", "lpips_vgg": "lpips_vgg", "ms_ssim": "ms_ssim"}
# Kernel distances hold the features of this many images; Fréchet distances only their moments.
_MAX_KERNEL_IMAGES = 10_000
# Features are summed in blocks: one product of large matrices instead of many small ones.
_BLOCK = 1024
_REFERENCE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class SetDistance:
    """Distances between the features of two sets of images, as columns of results."""

    fid: float
    fid_features: str
    fid_reference: str
    kid: float | None
    kid_stderr: float | None


class Quality:
    """Measures what config.eval.features and config.eval.image_metrics name, on all devices.

    Attributes:
        names: of the metrics of pairs.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh):
        """Loads the networks.

        Raises:
            UsageError: weights where none or some are needed; the message starts with the field.
            InputError: weights that are missing or damaged.
        """
        self.names = tuple(config.eval.image_metrics)
        size = config.eval.batch_size
        self._extractor: Extractor | None = None
        if config.eval.features:
            try:
                network = load_feature_network(config.eval.features, config.eval.feature_weights)
            except UsageError as error:
                field = "feature_weights" if error.field == "weights" else error.field
                raise UsageError(error.message, field=f"eval.{field}") from error
            self._extractor = Extractor(network, mesh, size)
        loaders: dict[str, Callable[[], PairMetric]] = {
            "lpips_alex": lambda: PairwiseLPIPS(lpips_alex(), mesh, size),
            "lpips_vgg": lambda: PairwiseLPIPS(lpips_vgg(), mesh, size),
            "ms_ssim": lambda: ms_ssim,
        }
        self._metrics = {name: loaders[name]() for name in self.names}

    @property
    def has_features(self) -> bool:
        """Whether there is a feature network."""
        return self._extractor is not None

    def features(self, images: Images) -> Float32[np.ndarray, "b d"]:
        """Features of images; only with a feature network."""
        assert self._extractor is not None
        return self._extractor(images)

    def pairs(self, images: Images, reconstructions: Images) -> dict[str, Float[np.ndarray, " b"]]:
        """Every metric of each pair, by name."""
        return {name: metric(images, reconstructions) for name, metric in self._metrics.items()}

    def reference(
        self,
        config: ConfigDict,
        originals: Callable[[], Iterable[Float32[np.ndarray, "_ d"]]],
        folder: AnyPath,
    ) -> "Reference":
        """What the distances of config.eval compare with.

        Args:
            config: config.data.reference names the images, or none.
            originals: gives the features of the evaluated images, which are the reference if it is none.
            folder: where the moments of other reference images are kept, under a hash of these images.

        Raises:
            UsageError, InputError: reference images that cannot be opened or read.
        """
        assert self._extractor is not None
        name = self._extractor.network.name
        if not config.data.reference.source:
            return Reference(*_summed(originals()), name, "originals")
        source = open_source(config, "reference")

        def batches() -> Iterator[Images]:
            for batch in data.eval_batches(source, batch_size=_REFERENCE_BATCH):
                yield batch["image"][batch["mask"]]

        moments = reference_moments(self._extractor, batches, folder)
        described = f"{source.name} {source.split}, {moments.count} images"
        return Reference(moments, None, name, described)


class Reference:
    """A reference set in the space of a feature network.

    Attributes:
        network: name of the feature network.
        description: of the images.
    """

    def __init__(
        self,
        moments: RunningCovariance,
        features: Float32[np.ndarray, "n d"] | None,
        network: str,
        description: str,
    ):
        """Decomposes the covariance.

        Args:
            moments: of the features of all reference images.
            features: the first of them, for kernel distances; None for none.
            network: name of the feature network.
            description: of the images, for results.

        Raises:
            InputError: fewer than two images.
        """
        self._features, self.network, self.description = features, network, description
        self._frechet = FrechetReference(moments, network)

    def distance(self, batches: Iterable[Float32[np.ndarray, "_ d"]]) -> SetDistance:
        """Fréchet and kernel distance of a set, the latter where there are features enough."""
        moments, kept = _summed(batches)
        kid, stderr = None, None
        if self._features is not None and min(len(kept), len(self._features)) >= 2 * MIN_SUBSETS:
            kernel = kernel_distance(kept, self._features, self.network)
            kid, stderr = kernel.value, kernel.stderr
        fid = self._frechet.distance(moments).value
        return SetDistance(fid, self.network, self.description, kid, stderr)


def _summed(
    batches: Iterable[Float32[np.ndarray, "_ d"]],
) -> tuple[RunningCovariance, Float32[np.ndarray, "n d"]]:
    """RunningCovariance of all, and the first features themselves."""
    total: RunningCovariance | None = None
    kept: list[np.ndarray] = []
    n_kept = 0
    for block in _blocks(batches):
        part = RunningCovariance.of(block)
        total = part if total is None else total + part
        kept.append(block[: _MAX_KERNEL_IMAGES - n_kept])
        n_kept += len(kept[-1])
    assert total is not None
    return total, np.concatenate(kept)


def _blocks(
    batches: Iterable[Float32[np.ndarray, "_ d"]],
) -> Iterable[Float32[np.ndarray, "_ d"]]:
    waiting: list[np.ndarray] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
