"""Rate-distortion points that others published, in the schema of our own results.

README.md beside the CSV files names the source of every number, what was converted and how, and why
none of them compares exactly with a run of ours.
"""

import functools
import pathlib
from collections.abc import Sequence

from diffc_jax.errors import UsageError
from diffc_jax.evaluation.results import PUBLISHED_PREFIX, RatePoint, read_rate_points


def load_published(selectors: Sequence[str]) -> list[RatePoint]:
    """Published points of some methods or data sets.

    Args:
        selectors: each a name (`bpg`: that method on every data set), a data set
            (`imagenet64-chrabaszcz`: all methods on it), or both (`imagenet64-chrabaszcz/bpg`).

    Returns:
        The points of at least one selector, in the order of the files.

    Raises:
        UsageError: no selectors, or one that selects nothing; the message lists what there is.
    """
    points = _all_points()
    known = {selector for point in points for selector in _selectors(point)}
    choice = _choice(points)
    for selector in selectors:
        if selector not in known:
            raise UsageError(f"unknown {selector!r}; {choice}", field="published")
    if not selectors:
        raise UsageError(f"empty; {choice}", field="published")
    return [point for point in points if _selectors(point) & set(selectors)]


@functools.cache
def _all_points() -> tuple[RatePoint, ...]:
    files = sorted(pathlib.Path(__file__).parent.glob("*.csv"))
    return tuple(point for file in files for point in read_rate_points(file))


def _name(point: RatePoint) -> str:
    return point.method.removeprefix(PUBLISHED_PREFIX)


def _selectors(point: RatePoint) -> set[str]:
    name = _name(point)
    return {name, point.dataset, f"{point.dataset}/{name}"}


def _choice(points: Sequence[RatePoint]) -> str:
    names = ", ".join(dict.fromkeys(map(_name, points)))
    datasets = ", ".join(dict.fromkeys(point.dataset for point in points))
    return f"name a method ({names}), a data set ({datasets}) or DATASET/METHOD"
