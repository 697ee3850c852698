"""Whether a model gives back images that it was trained on: whose neighbours are its images?

    python benchmarks/memorisation.py --config=configs/imagenet64_h100.py:shipped --workdir=W --subset=hq64

Reads features that `evaluate.py` has kept in --workdir: of the evaluated photographs, of what DiffC-F makes
of them at each rate, and of unconditional samples. Each is compared with equally many training images (of the
first source of config.data.train) and validation images of --subset that were not evaluated. Prints the share
of images whose nearest neighbour was trained on: 0.5 where the model does not tell the two apart, with the
standard error of as many throws of a coin. The evaluated photographs say whether the two sets are alike.
"""

import math
import pathlib

import numpy as np
from absl import flags
from jaxtyping import Float32

from diffc_jax import cli, data
from diffc_jax.config.sources import training_sources
from diffc_jax.errors import InputError
from diffc_jax.evaluation.store import Store
from diffc_jax.evaluation.subsets import images_to_evaluate
from diffc_jax.metrics.features.extract import Extractor
from diffc_jax.metrics.features.registry import load_feature_network
from diffc_jax.runtime.progress import Progress
from diffc_jax.runtime.sharding import make_mesh
from diffc_jax.training.experiment import open_source, open_spec
from diffc_jax.typed import one_of

_SUBSET = flags.DEFINE_string("subset", "", "Subset whose images are like the trained ones.")
_BATCH = 64

Features = Float32[np.ndarray, "n d"]


def nearest(features: Features, others: Features) -> Float32[np.ndarray, " n"]:
    """Squared distance of each to the nearest of the others."""
    products = features @ others.T
    distances = np.square(others).sum(1) - 2 * products
    return distances.min(1) + np.square(features).sum(1)


def share_nearer(features: Features, trained: Features, unseen: Features) -> float:
    """The share of images that are nearer to a trained image than to all unseen ones."""
    return float(np.mean(nearest(features, trained) < nearest(features, unseen)))


def kept(folder: pathlib.Path, images: range, name: str) -> Features:
    """Features that an evaluation has kept."""
    batches = [batch[name] for batch in Store(folder).read(images, [name]) if name in batch]
    if not batches:
        raise InputError(f"{folder}: has no {name}; evaluate with eval.features first")
    return np.concatenate(batches)


def stored(workdir: pathlib.Path, prefix: str) -> pathlib.Path:
    """The newest folder of kept numbers."""
    folders = [
        path
        # Not those of baselines.
        for path in (workdir / "eval" / "progress").glob(prefix + 12 * "[0-9a-f]")
    ]
    if not folders:
        raise InputError(f"{workdir}: has no {prefix.rstrip('-') or 'evaluation'} in eval/progress")
    return max(folders, key=lambda path: path.stat().st_mtime)


def compare(config, workdir):
    """Prints the table."""
    selection = images_to_evaluate(config, open_source(config, "eval"))
    names = list(selection.subsets)
    if _SUBSET.value:
        one_of("--subset", _SUBSET.value, names)
    number = 1 + names.index(_SUBSET.value) if _SUBSET.value else 0
    result = selection.result_sets(workdir)[number]
    unseen_images = selection.left_out()[number]
    trained_images = open_spec(config, training_sources(config)[0], "data.train")
    count = min(len(unseen_images), len(trained_images))
    network = load_feature_network(
        config.eval.features, config.eval.feature_weights, "eval.feature_weights"
    )
    extractor = Extractor(network, make_mesh(), _BATCH)

    def features_of(source: data.ImageSource, name: str) -> Features:
        chosen = np.sort(np.random.default_rng(0).permutation(len(source))[:count]).tolist()
        progress, found = Progress(name, count, "images"), []
        for first in range(0, count, _BATCH):
            some = chosen[first : first + _BATCH]
            images = np.stack([source[index] for index in some])
            padded = np.concatenate([images, np.repeat(images[:1], _BATCH - len(images), 0)])
            found.append(extractor(padded)[: len(images)])
            progress.advance(len(images))
        return np.concatenate(found)

    trained, unseen = features_of(trained_images, "trained"), features_of(unseen_images, "unseen")
    print(f"{count} images each of {trained_images.name} train and {unseen_images.split}")
    print(f"{'':24} images  nearest one was trained on")

    def show(name: str, features: Features) -> None:
        share, error = share_nearer(features, trained, unseen), 0.5 / math.sqrt(len(features))
        print(f"{name:24} {len(features):6}  {share:.3f} ({error:.3f})", flush=True)

    folder = stored(workdir, "")
    show("photographs", kept(folder, result.images, "features"))
    for level in range(config.eval.num_levels):
        name = f"features/flow/{level}"
        show(f"DiffC-F, level {level}", kept(folder, result.images, name))
    if config.eval.samples:
        samples, images = stored(workdir, "samples-"), range(config.eval.samples)
        for decoder in ("flow", "ancestral"):
            show(f"samples, {decoder}", kept(samples, images, f"features/{decoder}"))


if __name__ == "__main__":
    cli.run_experiment(compare)
