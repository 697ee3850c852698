"""What the networks of a figure have cost to train, so that a reader can weigh what is compared."""

from collections.abc import Iterable, Sequence

from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting import style


def describe_training(points: Iterable[RatePoint]) -> str:
    """One sentence on all points that say what their training cost, or an empty text."""
    networks: dict[str, set[RatePoint]] = {}
    for point in points:
        if point.trained_parameters:
            networks.setdefault(_name(point), set()).add(point)
    return f"Trained: {'; '.join(map(_describe, networks, networks.values()))}." if networks else ""


def _name(point: RatePoint) -> str:
    if point.method in style.DIFFC_METHODS:
        return f"DiffC, {point.model}"
    return style.codec_label(point.method, point.model)


def _describe(name: str, points: set[RatePoint]) -> str:
    facts = (
        _range([point.trained_parameters for point in points], "parameters"),
        _range([point.images_seen for point in points], "images"),
        _range([point.train_cpu_hours for point in points], "CPU hours"),
    )
    rates = {point.level for point in points if point.method in style.NEURAL}
    each = f" for each of {len(rates)} rates" if len(rates) > 1 else ""
    return f"{name}: {', '.join(filter(None, facts))}{each}"


def _range(values: Sequence[int | float | None], name: str) -> str:
    """Smallest to largest of the known values, with what they count; empty if none is known."""
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(_short(end(known)) for end in (min, max) if known)
    return f"{' to '.join(ends)} {name}" if ends else ""


def _short(value: int | float) -> str:
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
