"""Whether the metrics order distortions as the eye does: distances, a classifier, LPIPS, MS-SSIM, PSNR.

    python benchmarks/feature_ordering.py
    python benchmarks/feature_ordering.py --source=tar --path=validation.tar --images=2000

Three series make every image worse: blur, noise, JPEG. Two exchange images of the set, whole: "permuted"
moves a share of them to other places, which a distance between sets must not see and one between pairs
must; "repeated" overwrites a share with copies of others, which a distance between sets must see as lost
variety. A line for each series and metric says whether it is in order.
"""

import dataclasses
import time

import numpy as np
from absl import flags
from distortions import DISTORTIONS
from jaxtyping import UInt8

from diffc_jax import cli, data
from diffc_jax.metrics import psnr, two_sample
from diffc_jax.metrics.features.efficientnet import efficientnet_lite0
from diffc_jax.metrics.features.extract import Extractor
from diffc_jax.metrics.frechet import FrechetReference
from diffc_jax.metrics.lpips import PairwiseLPIPS, lpips_alex, lpips_vgg
from diffc_jax.metrics.manifolds import ManifoldReference
from diffc_jax.metrics.ms_ssim import ms_ssim
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.sharding import make_mesh

_SOURCE = flags.DEFINE_string("source", "photos", "Kind of source, see data.SourceSpec.")
_PATH = flags.DEFINE_string("path", "", "Where the images lie; the built-in photos need none.")
_SPLIT = flags.DEFINE_string("split", "train", "Split of the source.")
_IMAGES = flags.DEFINE_integer("images", 300, "Number of images.", lower_bound=20)
_PAIRS = flags.DEFINE_integer("pairs", 50, "How many of them LPIPS compares.", lower_bound=1)
_WIDTH = 23
_SHARES = (0.1, 0.3, 0.6, 1.0)

Images = UInt8[np.ndarray, "b h w 3"]


def permuted(images: Images, share: float) -> Images:
    """Moves the first `share` of a fixed random order by one place."""
    chosen = _chosen(len(images), share)
    result = images.copy()
    result[chosen] = images[np.roll(chosen, 1)]
    return result


def repeated(images: Images, share: float) -> Images:
    """Overwrites `share` of the images with copies of as few others as 5 % of the set."""
    models = images[_chosen(len(images), 0.05)]
    chosen = _chosen(len(images), share)
    result = images.copy()
    result[chosen] = models[np.arange(len(chosen)) % len(models)]
    return result


def _chosen(number: int, share: float) -> np.ndarray:
    return np.random.default_rng(1).permutation(number)[: max(2, round(share * number))]


SERIES = DISTORTIONS | {"permuted": (permuted, _SHARES), "repeated": (repeated, _SHARES)}
# What each series should do to distances between sets; those between pairs should always grow.
SETS_SEE = {name: name != "permuted" for name in SERIES}


def main() -> None:
    spec = data.SourceSpec(
        source=_SOURCE.value,
        path=_PATH.value,
        split=_SPLIT.value,
        max_images=_IMAGES.value,
    )
    if spec.source != "photos":  # which are cut to size
        spec = dataclasses.replace(spec, resize="crop", non_rgb="convert")
    source = data.open_source(spec)
    images = np.stack([source[index] for index in range(len(source))])
    mesh = make_mesh()
    extractor = Extractor(efficientnet_lite0(), mesh)
    extractor(images[:1])  # compiles
    begin = time.perf_counter()
    originals = extractor(images)
    moments = RunningCovariance.of(originals)
    speed = len(images) / (time.perf_counter() - begin)
    reference, manifold = (
        FrechetReference(moments, extractor.network.name),
        ManifoldReference(originals),
    )
    distances = [PairwiseLPIPS(lpips, mesh) for lpips in (lpips_alex(), lpips_vgg())]
    names = (f"fd_{extractor.network.name}", "auc", "lpips_alex", "lpips_vgg", "ms_ssim")
    shown = (*names, "psnr", "precision", "recall")

    print(f"{len(images)} images of {source.name}, split {source.split}; {speed:.0f} features/s")
    print(f"{'series':10}{'':6}" + "".join(f"{name:>{_WIDTH}}" for name in shown))
    verdicts = []
    for series, (distort, levels) in SERIES.items():
        rows = []
        for level in levels:
            distorted = distort(images, level)
            pairs = images[: _PAIRS.value], distorted[: _PAIRS.value]
            features = extractor(distorted)
            overlap = manifold.overlap(features)
            rows.append(
                (
                    reference.distance(RunningCovariance.of(features)),
                    two_sample.distinguishability(features, originals).value,
                    *(float(distance(*pairs).mean()) for distance in distances),
                    float(ms_ssim(images, distorted).mean()),
                    psnr.psnr(psnr.mse(images, distorted)),
                    overlap.precision.value,
                    overlap.recall.value,
                )
            )
            print(f"{series:10}{level:6g}" + "".join(f"{value:{_WIDTH}.4f}" for value in rows[-1]))
        frechet, area, alex, vgg, similarity, *_ = np.transpose(rows)
        sees = np.diff(frechet, prepend=0) > 0 if SETS_SEE[series] else np.abs(frechet) < 1e-3
        # It cannot grow beyond 1. Copies of other images, in other folds, take it below one half.
        tells = area < 0.6
        if SETS_SEE[series]:
            tells = (np.diff(area, prepend=0.5) > 0) | (area == 1.0)
        grows = (np.diff(values, prepend=0) > 0 for values in (alex, vgg, 1 - similarity))
        verdicts.append((series, *(bool(np.all(steps)) for steps in (sees, tells, *grows))))
    print(f"\n{'in order?':16}" + "".join(f"{name:>{_WIDTH}}" for name in names))
    for series, *found in verdicts:
        print(f"{series:16}" + "".join(f"{'yes' if good else 'NO':>{_WIDTH}}" for good in found))


if __name__ == "__main__":
    cli.run(main)
