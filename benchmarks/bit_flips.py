"""What a flipped bit does to each kind of file that runs keep: is it noticed, without effect, or silent?

    python benchmarks/bit_flips.py --flips=1000 --seed=0

Writes small files of each kind into a temporary folder, flips one bit of one of them at a time, any bit with
the same probability, reads them as the programs do, and puts the bit back. "noticed" is an error of one line,
or a warning in the log; "identical" means that what is read did not change; "silent" that it did, and
"traceback" that the error was not one of ours. Exits with 1 if there is any of these two.
"""

import collections
import dataclasses
import logging as standard_logging
import pathlib
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from diffc_jax import cli
from diffc_jax.data import SourceSpec
from diffc_jax.data.prepare import prepare
from diffc_jax.data.sources import open_source
from diffc_jax.errors import DiffcError
from diffc_jax.evaluation.store import Store
from diffc_jax.metrics.feature_sets import FeatureSet, load_features, save_features
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.export import export_params, load_params, read_history
from diffc_jax.runtime.images import save_png
from diffc_jax.training.state import TrainState
from diffc_jax.typed import one_of

_FLIPS = flags.DEFINE_integer("flips", 1000, "Bits to flip in each kind of files.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the bits that are chosen.")
_KINDS = flags.DEFINE_list("kinds", None, "Only these kinds of files.")

OUTCOMES = ("noticed", "identical", "silent", "traceback")
_SIDE = 8


@dataclasses.dataclass(frozen=True)
class Kept:
    """Files of one kind in a folder, and how they are read; what that gives can be compared with `repr`."""

    folder: pathlib.Path
    read: Callable[[], Any]


def parameters() -> dict[str, Any]:
    """A small tree of arrays of several types."""
    values = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    return {"layer": {"kernel": values, "bias": values[0].astype(jnp.bfloat16)}}


def keep_checkpoint(folder: pathlib.Path) -> Kept:
    """A state as training saves it."""
    tree = jax.tree.map(jnp.asarray, parameters())
    state = TrainState(jnp.int32(7), tree, tree, {"mu": tree}, {})
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state, {"num_images": 24, "images": "24-abc", "seconds": 1.5})

    def read() -> Any:
        with Checkpoints(folder) as checkpoints:
            return comparable(checkpoints.restore(state))

    return Kept(folder, read)


def keep_export(folder: pathlib.Path) -> Kept:
    """Exported parameters and their card."""
    path, tree = folder / "params.safetensors", parameters()
    export_params(path, tree, {"model": {"name": "unet"}, "image_size": _SIDE, "seed": 0})
    return Kept(folder, lambda: (comparable(load_params(path, tree)), read_history(path)))


def keep_part(folder: pathlib.Path) -> Kept:
    """A part of an evaluation."""
    generator = np.random.default_rng(0)
    batch = {
        "index": np.arange(4),
        "mse/flow": generator.random((4, 3)),
        "made_from/pixels": generator.integers(0, 256, (4, 16), dtype=np.uint8),
        "pixels/flow": generator.integers(0, 256, (2, _SIDE, _SIDE, 3), dtype=np.uint8),
    }
    store = Store(folder)
    store.save(batch)

    def read() -> Any:
        store.forget_changed({"pixels": batch["made_from/pixels"]})
        return comparable(list(store.read(range(4))))

    return Kept(folder, read)


def keep_features(folder: pathlib.Path) -> Kept:
    """Features of a reference set."""
    path = folder / "network-0123.npz"
    features = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    save_features(path, FeatureSet.of([features]))
    return Kept(folder, lambda: comparable(dataclasses.asdict(load_features(path))))


def keep_packed(folder: pathlib.Path) -> Kept:
    """Packed images."""
    source = folder.parent / "images"
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        save_png(pixels, source / f"{number}.png")
    spec = SourceSpec(source="folder", path=str(source), name="images", image_size=_SIDE)
    prepare(spec, folder, layout="packed")
    packed = SourceSpec(source="packed", path=str(folder), image_size=_SIDE)

    def read() -> Any:
        images = open_source(packed)
        labels = [images.label(index) for index in range(len(images))]
        return images.name, labels, comparable([images[index] for index in range(len(images))])

    return Kept(folder, read)


KINDS: Mapping[str, Callable[[pathlib.Path], Kept]] = {
    "checkpoint": keep_checkpoint,
    "export": keep_export,
    "kept part": keep_part,
    "features": keep_features,
    "packed": keep_packed,
}


def comparable(tree: Any) -> Any:
    """Names, types, shapes and bytes of the arrays of a tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    arrays = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in leaves]
    return [(name, str(one.dtype), one.shape, one.tobytes()) for name, one in arrays]


class _Warnings(standard_logging.Handler):
    """Counts the warnings of the log."""

    count = 0

    def emit(self, record: standard_logging.LogRecord) -> None:
        self.count += record.levelno >= standard_logging.WARNING


def flip_bits(kept: Kept, count: int, seed: int) -> "collections.Counter[str]":
    """How many of `count` flipped bits had each of the `OUTCOMES`; the last two are printed."""
    files = sorted(path for path in kept.folder.rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in files}
    bits = random.Random(seed)
    sizes = [len(whole[path]) for path in files]
    before = repr(kept.read())
    outcomes: collections.Counter[str] = collections.Counter()
    warnings = _Warnings()
    logging.get_absl_logger().addHandler(warnings)
    for path in bits.choices(files, sizes, k=count):
        position, bit = bits.randrange(len(whole[path])), bits.randrange(8)
        changed = bytearray(whole[path])
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        warnings.count = 0
        try:
            same = repr(kept.read()) == before
            outcome = "identical" if same else "noticed" if warnings.count else "silent"
        except DiffcError as error:
            outcome = "traceback" if "\n" in str(error) else "noticed"
        except Exception as error:  # what users would see as a traceback
            outcome = "traceback"
            print(f"{type(error).__name__}: {error}"[:300])
        outcomes[outcome] += 1
        if outcome in ("silent", "traceback"):
            print(f"{outcome}: {path.relative_to(kept.folder)}, byte {position}, bit {bit}")
        for file, content in whole.items():
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)
    logging.get_absl_logger().removeHandler(warnings)
    return outcomes


def main() -> None:
    """Prints one row for each kind of files."""
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setLevel(standard_logging.ERROR)  # warnings are counted, not shown
    bad = 0
    for name in _KINDS.value or ():
        one_of("--kinds", name, KINDS)
    print(f"{'files':12}" + "".join(f"{name:>12}" for name in OUTCOMES))
    for name, keep in KINDS.items():
        if _KINDS.value and name not in _KINDS.value:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "kept"
            path.mkdir()
            outcomes = flip_bits(keep(path), _FLIPS.value, _SEED.value)
        print(f"{name:12}" + "".join(f"{outcomes[one]:12}" for one in OUTCOMES), flush=True)
        bad += outcomes["silent"] + outcomes["traceback"]
    sys.exit(bool(bad))


if __name__ == "__main__":
    cli.run(main)
