"""Columns of the results as y axes, and checks of which points may be compared."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import logging

from diffc_jax.errors import UsageError
from diffc_jax.evaluation.results import RatePoint

SCALES = ("log", "linear")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A column of the results as a y axis.

    Attributes:
        axis: label of the axis, with its unit.
        title: the quantity in the figure's title.
        stderr: column with its standard error, if there is one.
        lower_is_better: whether small values are good ones.
        scale: of the axis, one of `SCALES`.
        least_span: of a linear axis, so that tiny differences do not look large.
    """

    axis: str
    title: str
    stderr: str | None = None
    lower_is_better: bool = False
    scale: str = "linear"
    least_span: float = 0.0


MEASURES: Mapping[str, Measure] = {
    "psnr": Measure("PSNR of the mean squared error (dB)", "PSNR", least_span=5.0),
    "psnr_mean": Measure(
        "mean PSNR of the images (dB)", "mean PSNR", "psnr_mean_stderr", least_span=5.0
    ),
    "fid": Measure(
        "Fréchet distance", "Fréchet distance", "fid_stderr", lower_is_better=True, scale="log"
    ),
    "kid": Measure("kernel distance", "kernel distance", "kid_stderr", lower_is_better=True),
    "fid_originals": Measure(
        "Fréchet distance to the originals",
        "Fréchet distance to the originals",
        "fid_originals_stderr",
        lower_is_better=True,
        scale="log",
    ),
    "kid_originals": Measure(
        "kernel distance to the originals",
        "kernel distance to the originals",
        "kid_originals_stderr",
        lower_is_better=True,
    ),
    "auc": Measure(
        "AUC of a classifier",
        "AUC of a classifier",
        "auc_stderr",
        lower_is_better=True,
    ),
    "precision": Measure("precision", "precision", "precision_stderr"),
    "recall": Measure("recall", "recall", "recall_stderr"),
    "density": Measure("density", "density", "density_stderr"),
    "coverage": Measure("coverage", "coverage", "coverage_stderr"),
    "lpips": Measure("LPIPS", "LPIPS", "lpips_stderr", lower_is_better=True),
    "lpips_vgg": Measure(
        "LPIPS (VGG16)", "LPIPS (VGG16)", "lpips_vgg_stderr", lower_is_better=True
    ),
    "ms_ssim": Measure("MS-SSIM", "MS-SSIM", "ms_ssim_stderr"),
}
# Drawn without being asked for, where the results have them.
USUAL_MEASURES = ("psnr", "fid", "auc", "lpips")
# Measures of sets of images in the features of a network, and what Inception's distances are called.
SET_MEASURES: Mapping[str, str] = {
    "fid": "FID (Inception)",
    "kid": "KID (Inception)",
    "fid_originals": "FID to the originals (Inception)",
    "kid_originals": "KID to the originals (Inception)",
    **{name: "" for name in ("auc", "precision", "recall", "density", "coverage")},
}
_OF_ORIGINALS = ("fid_originals", "kid_originals", "auc")
_INCEPTION = "inception_v3_fid"
_FEATURE_NAMES = {"efficientnet_lite0": "EfficientNet-Lite0"}


def value_of(point: RatePoint, measure: str) -> float:
    """The measure at a point; NaN where the point has none."""
    value = getattr(point, measure)
    return math.nan if value is None else float(value)


def has_measure(point: RatePoint, measure: str) -> bool:
    """Whether the point has a value of the measure, be it infinite."""
    return not math.isnan(value_of(point, measure))


def measures_in(points: Sequence[RatePoint]) -> tuple[str, ...]:
    """Those of the usual measures that at least one of the points has."""
    return tuple(name for name in USUAL_MEASURES if any(has_measure(p, name) for p in points))


def describe_measure(name: str, points: Sequence[RatePoint], scale: str | None = None) -> Measure:
    """The measure as these points have it: a distance between sets is named after its features.

    The points, at least one, have the same features. `scale` is that of the axis where less is better; None
    is the measure's own.
    """
    measure = MEASURES[name]
    if name in SET_MEASURES:
        features = points[0].fid_features or "unknown"
        shown = _FEATURE_NAMES.get(features, features)
        axis, title = f"{measure.axis}, {shown} features", f"{measure.title} ({shown})"
        if features == _INCEPTION and SET_MEASURES[name]:
            axis = title = SET_MEASURES[name]
        measure = dataclasses.replace(measure, axis=axis, title=title)
    if measure.lower_is_better:
        measure = dataclasses.replace(
            measure, axis=f"{measure.axis}\n(lower is better)", scale=scale or measure.scale
        )
    return measure


def set_basis(point: RatePoint, measure: str = "fid") -> str:
    """What has to agree before measures of sets compare: features, images, their reference."""
    reference = "originals" if measure in _OF_ORIGINALS else point.fid_reference or "originals"
    compared = "" if reference == "originals" else f" against {reference}"
    return f"{point.fid_features or 'unknown'} features, {_images(point)}{compared}"


def check_same_features(measure: str, points: Sequence[RatePoint]) -> None:
    """Refuses distances between sets in different features, or of different numbers of images.

    Raises:
        UsageError: more than one basis, each named with its methods.
    """
    found = _methods_by(lambda point: set_basis(point, measure), points)
    if measure in SET_MEASURES and len(found) > 1:
        raise UsageError(
            "distances in different features, or of different numbers of images, never "
            f"compare: {_listed(found)}; draw each alone",
            field=measure,
        )


def drop_other_distances(
    points: Iterable[RatePoint], reference: Iterable[RatePoint]
) -> list[RatePoint]:
    """The points without those distances between sets that do not compare with the reference's.

    What is dropped is logged as a warning, unless the reference has no such distances.
    """
    bases = {set_basis(point) for point in reference if _has_distance(point)}
    nothing: dict[str, Any] = dict.fromkeys(SET_MEASURES)
    kept, dropped = [], []
    for point in points:
        drop = _has_distance(point) and set_basis(point) not in bases
        kept.append(dataclasses.replace(point, **nothing) if drop else point)
        dropped += [point] * drop
    if bases and dropped:
        logging.warning(
            "left out distances between sets that do not compare with those in %s: %s",
            "; ".join(sorted(bases)),
            _listed(_methods_by(set_basis, dropped)),
        )
    return kept


def check_same_images(points: Iterable[RatePoint]) -> None:
    """Refuses points that were measured on different images.

    Raises:
        UsageError: more than one data set, split or number of images, each named with its methods.
    """
    found = _methods_by(data_name, points)
    if len(found) > 1:
        raise UsageError(
            f"rates and PSNRs of different images do not compare: {_listed(found)}; "
            "evaluate all methods on the same images, or set allow_mixed_data",
            field="inputs",
        )


def data_name(point: RatePoint) -> str:
    """Data set, split and number of images."""
    return f"{' '.join(filter(None, (point.dataset, point.split)))}, {_images(point)}"


def _has_distance(point: RatePoint) -> bool:
    return any(has_measure(point, name) for name in SET_MEASURES)


def _images(point: RatePoint) -> str:
    return f"{point.n_images} image{'' if point.n_images == 1 else 's'}"


def _methods_by(
    key: Callable[[RatePoint], str], points: Iterable[RatePoint]
) -> dict[str, set[str]]:
    methods: dict[str, set[str]] = {}
    for point in points:
        methods.setdefault(key(point), set()).add(point.method)
    return methods


def _listed(methods: Mapping[str, set[str]]) -> str:
    return "; ".join(f"{name} [{', '.join(sorted(methods[name]))}]" for name in methods)
