"""Trained HiFiC and hyper-prior runs, measured by the bytes of real files."""

import dataclasses
import glob
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.baselines.hific.byte_coding import header_bytes
from diffc_jax.baselines.hific.codec import HificCodec
from diffc_jax.baselines.hific.config import HIFIC, HYPERPRIOR, build_architecture
from diffc_jax.baselines.hific.model import Hific
from diffc_jax.baselines.points import CodecPoint
from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics import psnr
from diffc_jax.runtime import files
from diffc_jax.runtime.export import load_params
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.progress import Progress

_BATCH = 32
_SECONDS_PER_HOUR = 3600.0


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run of `configs/hific64.py` or the like.

    Attributes:
        path: its folder.
        method: "hific" or "hyperprior".
        width: of its networks, as results name them.
        target_bpp: that it was trained for.
        codec: its networks.
        costs: `trained_parameters`, `images_seen` and `train_cpu_hours`.
    """

    path: AnyPath
    method: str
    width: str
    target_bpp: float
    codec: HificCodec
    costs: dict[str, Any]


def find_runs(paths: str) -> list[AnyPath]:
    """Folders named by config.baselines.trained: folders and globs, separated by commas.

    Raises:
        InputError: a part names none.
    """
    found: list[AnyPath] = []
    for part in filter(None, map(str.strip, paths.split(","))):
        matches = [path for path in map(pathlib.Path, sorted(glob.glob(part))) if path.is_dir()]
        if not matches:
            raise InputError(f"baselines.trained: {part}: there is no such folder")
        found += matches
    return found


def load_run(path: AnyPath) -> TrainedRun:
    """Reads the weights and the card of a run.

    Raises:
        InputError: they are missing, damaged, of another model, or do not fit each other.
    """
    weights = path / "params.safetensors"
    if not weights.exists():
        raise InputError(
            f"{path}: there is no {weights.name}; experiments/train.py writes it when it is done"
        )
    card = files.read_json(weights.with_suffix(".json"))
    try:
        if card["model"]["name"] not in (HIFIC, HYPERPRIOR):
            raise InputError(f"{path}: holds {card['model']['name']}, which is no HiFiC baseline")
        model = Hific(build_architecture(ConfigDict(card["model"])))
        target = float(card["hific"]["target_bpp"])
        costs = {
            "trained_parameters": card["trained_parameters"],
            "images_seen": card["images_seen"],
            "train_cpu_hours": card["train_cpu_seconds"] / _SECONDS_PER_HOUR,
        }
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise InputError(
            f"{weights.with_suffix('.json')}: is not the card of a HiFiC baseline ({error})"
        ) from error
    template = jax.eval_shape(lambda: model.init_autoencoder(rng.stream(0, "init/autoencoder")))
    params = load_params(weights, {"autoencoder": template})["autoencoder"]
    try:
        codec = HificCodec(model, params)
    except ValueError as error:
        raise InputError(f"{weights}: {error}") from error
    return TrainedRun(
        path=path,
        method=card["model"]["name"],
        width=f"width {card['model']['width']:g}",
        target_bpp=target,
        codec=codec,
        costs=costs,
    )


def evaluate_runs(
    runs: list[TrainedRun], images: UInt8[np.ndarray, "n h w 3"], dataset: str, split: str | None
) -> Iterator[CodecPoint]:
    """Writes every image to a file with every run, and decodes the files.

    Args:
        runs: networks at their rates.
        images: of sides that their latents divide.
        dataset: name and variant of the data, copied into the results.
        split: its split, copied likewise.

    Yields:
        Methods one after the other, in order of target.

    Raises:
        UsageError: sides that are not multiples of a model's factor.
    """
    progress = Progress("trained baselines", len(runs) * len(images), "files")
    head = header_bytes(images.shape[1:3])
    for run in sorted(runs, key=lambda run: (run.method, run.width, run.target_bpp)):
        sizes, estimates, decoded = [], [], []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            encoded, bits = run.codec.encode(batch)
            decoded.append(run.codec.decode(encoded))
            sizes += [(len(file), len(file) - head) for file in encoded]
            estimates.append(bits)
            progress.advance(len(batch))
        whole = np.concatenate(decoded)
        identity = {
            "method": run.method,
            "model": run.width,
            "level": run.target_bpp,
            "dataset": dataset,
            "split": split,
            **run.costs,
        }
        yield CodecPoint(
            f"{run.method}, {run.width}",
            identity,
            range(len(images)),
            np.array(sizes, np.float64),
            psnr.mse(images, whole),
            whole,
            np.concatenate(estimates),
        )
