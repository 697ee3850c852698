"""Two trained U-Nets joined to a model of two experts, in one file."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from diffc_jax.codec.loading import load_codec
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import build_model
from diffc_jax.runtime import files
from diffc_jax.runtime.export import export_params, read_card, read_tensors

# How names begin of arrays that each expert has for itself; those of the schedule are common to both.
_OF_EACH = re.compile("^(params/model|fixed)/")
# What a card counts.
_COSTS = ("trained_parameters", "images_seen", "train_seconds", "train_cpu_seconds")


def join_experts(
    fine: pathlib.Path, noisy: pathlib.Path, split_gamma: float, output: pathlib.Path
) -> None:
    """Writes a model `unet_experts` (see `models.experts`) and its card.

    Weights and statistics go over as they are, in the types in which they are stored. The card adds up what
    the two have cost, and keeps their cards.

    Args:
        fine: exported weights of a `unet`, with their card beside them, for gamma <= split_gamma.
        noisy: the same for gamma > split_gamma; another shape and other statistics may be.
        split_gamma: where they meet.
        output: a .safetensors file.

    Raises:
        UsageError: `output` has another ending or is one of the two, or the noise level is not between those
            of the schedule and of both networks.
        InputError: a file is missing or damaged, or not one of a `unet`; or the two are for other images or
            schedules.
    """
    if output.suffix != ".safetensors":
        raise UsageError("must end in .safetensors", field=f"--output {output}")
    for path in (fine, noisy):
        if output.resolve() == path.resolve():
            raise UsageError(
                f"would replace {path}, one of the two; name another file",
                field=f"--output {output}",
            )
    halves = {"fine": _read_half(fine), "noisy": _read_half(noisy)}
    _check_common(**halves)
    card = _join_cards(halves, split_gamma)
    arrays = {
        _OF_EACH.sub(rf"\1/{side}/", name): array
        for side, half in halves.items()
        for name, array in half.arrays.items()
    }
    export_params(output, arrays, card)


@dataclasses.dataclass(frozen=True)
class _Half:
    """Exported weights of a `unet`, by name, with their card and the hash of their file."""

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    card: dict[str, Any]
    sha256: str


def _read_half(path: pathlib.Path) -> _Half:
    """Reads a file and its card; InputError unless they are those of a whole `unet`."""
    card = read_card(path)
    load_codec(path, batch_size=1)  # refuses what is no model, not whole or not finite
    if card["model"]["name"] != "unet":
        raise InputError(f"{path}: holds {card['model']['name']}; an expert has to be a unet")
    return _Half(path, read_tensors(path), card, files.file_sha256(path))


def _check_common(fine: _Half, noisy: _Half) -> None:
    """Raises InputError for halves that differ in what a joined model has once."""
    for field in ("image_size", "schedule"):
        if noisy.card[field] != fine.card[field]:
            raise InputError(
                f"{noisy.path}: has {field} {noisy.card[field]}, not {fine.card[field]} like {fine.path}"
            )
    for name in fine.arrays:
        if not _OF_EACH.match(name) and (fine.arrays[name] != noisy.arrays[name]).any():
            raise InputError(f"{noisy.path}: has another {name!r} than {fine.path}")


def _accelerators(cards: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What any of them was trained on, other than CPUs."""
    names = dict.fromkeys(
        card["train_accelerator"] for card in cards if "train_accelerator" in card
    )
    return {"train_accelerator": ", ".join(names)} if names else {}


def _join_cards(halves: dict[str, _Half], split_gamma: float) -> dict[str, Any]:
    """The card of the joined model; UsageError as of `join_experts`."""
    cards = {side: half.card for side, half in halves.items()}
    fine = cards["fine"]
    low, high = fine["schedule"]["gamma_min"], fine["schedule"]["gamma_max"]
    if not low < split_gamma < high:
        raise UsageError(
            f"{split_gamma} is not inside ({low}, {high}), the range of the schedule",
            field="--split_gamma",
        )
    shapes = {
        side: {field: value for field, value in card["model"].items() if field != "name"}
        for side, card in cards.items()
    }
    model = {"name": "unet_experts", "split_gamma": split_gamma, **shapes}
    build_model(model, (fine["image_size"], fine["image_size"], 3))
    return {
        "model": model,
        "schedule": fine["schedule"],
        "image_size": fine["image_size"],
        **{
            name: sum(card[name] for card in cards.values())
            for name in _COSTS
            if all(card.get(name) is not None for card in cards.values())
        },
        **_accelerators(cards.values()),
        "joined_from": {
            side: {"file": half.path.name, "sha256": half.sha256, "card": half.card}
            for side, half in halves.items()
        },
    }
