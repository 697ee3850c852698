"""What the training of a model has cost, as results tell it."""

from collections.abc import Mapping
from typing import Any

_SECONDS_PER_HOUR = 3600.0


def training_costs(n_parameters: int, spent: Mapping[str, Any]) -> dict[str, int | float]:
    """Columns `trained_parameters`, `images_seen` and `train_cpu_hours` of results, those that are known.

    Args:
        n_parameters: trained parameters; a model without any has cost nothing.
        spent: `images_seen` and `train_cpu_seconds`, as in the card beside exported parameters.
    """
    if not n_parameters:
        return {}
    seconds = spent.get("train_cpu_seconds")
    costs = {
        "trained_parameters": n_parameters,
        "images_seen": spent.get("images_seen"),
        "train_cpu_hours": None if seconds is None else seconds / _SECONDS_PER_HOUR,
    }
    return {name: cost for name, cost in costs.items() if cost is not None}
