"""Unconditional samples of the model, with no bits at all, and how far they are from photographs.

How well the model draws images on its own limits the realism of reconstructions at the lowest rates.
`samples.csv` compares samples of two decoders, which start from noise N(0, I), with the evaluated images and
with those of config.data.reference. Against the latter there is also a row for the evaluated images
themselves: the distance that samples of a perfect model of such images would have.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, UInt8
from ml_collections import ConfigDict

from diffc_jax import data, rng
from diffc_jax.diffusion import process, samplers
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.measures import Measures
from diffc_jax.evaluation.rate_point import COLUMNS
from diffc_jax.evaluation.result_files import SAMPLES, SAMPLES_OF
from diffc_jax.evaluation.results import finite, write_table
from diffc_jax.evaluation.store import Arrays, Store, open_samples
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.evaluation.trained import Trained
from diffc_jax.metrics.feature_sets import FeatureSet
from diffc_jax.metrics.sets import Reference, set_columns
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.images import save_png, tile
from diffc_jax.runtime.progress import Progress

DECODERS = ("ancestral", "flow")
# What the row of the evaluated images has in place of a decoder.
PHOTOGRAPHS = "photographs"
_SHOWN, _COLUMNS = 64, 8
_OF_SETS = (
    *("fid", "fid_stderr", "kid", "kid_stderr", "precision", "precision_stderr"),
    *("recall", "recall_stderr", "density", "density_stderr", "coverage", "coverage_stderr"),
)
_IDENTITY = ("model", "checkpoint", "dataset", "split")
FIELDS = (
    *("decoder", "n_images", "n_steps", "seed", "fid_reference", "n_reference", "fid_features"),
    *_OF_SETS,
    *_IDENTITY,
)
assert {*FIELDS} - {"n_reference"} <= {*COLUMNS}


def draw_samples(
    trained: Trained, config: ConfigDict, workdir: AnyPath, measures: Measures, batch_size: int
) -> Store:
    """Draws config.eval.samples images with each decoder and keeps their features.

    All processes draw together; what was drawn before is drawn no more. Sample i depends on the seed and on i
    alone.

    Args:
        trained: the model, on the devices of this process.
        config: a validated config.
        workdir: folder of the run.
        measures: with a feature network.
        batch_size: images that go through the network at once.
    """
    settings = config.eval
    identity = measures.network.identity
    store = open_samples(workdir, config, identity, (trained.state.ema, trained.state.fixed))
    ranges = processes.own_images(store.done(settings.samples))
    sampler = _Sampler(trained, settings.sample_steps, config.seed)
    n_batches = sum(-(-len(one) // batch_size) for one in ranges)
    progress = Progress("samples", n_batches * len(DECODERS), "batches")
    for one in ranges:
        for start in range(one.start, one.stop, batch_size):
            index = np.arange(start, min(start + batch_size, one.stop))
            padded = np.pad(index, (0, batch_size - len(index)))
            numbers: Arrays = {"index": index}
            shown = index < _SHOWN
            for decoder in DECODERS:
                images = sampler(decoder, padded)[: len(index)]
                numbers[f"features/{decoder}"] = measures.features(images)
                if shown.any():
                    numbers[f"pixels/{decoder}"] = images[shown]
                progress.advance()
            store.save(numbers)
    processes.wait_for(store, settings.samples)
    return store


def write_samples(
    samples: Store,
    config: ConfigDict,
    result: ResultSet,
    store: Store,
    measures: Measures,
    others: data.ImageSource | None,
    columns: Mapping[str, Any],
) -> None:
    """Writes samples.csv and samples_DECODER.png beside the results of a set of images.

    Args:
        samples: of `draw_samples`.
        config: its config.
        result: the evaluated images.
        store: with their features.
        measures: with the feature network.
        others: images of config.data.reference; None if there are none.
        columns: what all rate points of the evaluation share.
    """
    settings = config.eval
    images = range(settings.samples)

    def features(decoder: str) -> Iterator[Float32[np.ndarray, "_ d"]]:
        name = f"features/{decoder}"
        return (numbers[name] for numbers in samples.read(images, [name]))

    sets = {decoder: FeatureSet.of(features(decoder)) for decoder in DECODERS}
    parts = store.read(result.images, ["features"])
    originals = FeatureSet.of(part["features"] for part in parts)
    references = [(originals, "originals")]
    if others is not None:
        references.append(measures.reference(others, result.folder / "reference"))
    overlap = "precision_recall" in settings.set_metrics
    identity = {
        **{name: columns[name] for name in ("model", "checkpoint")},
        "dataset": result.dataset,
        "split": result.split,
        "fid_features": measures.network.name,
    }
    rows = []
    for reference, name in references:
        measure = Reference(reference, measures.network.name, overlap=overlap)
        compared = dict(sets)
        if reference is not originals:
            compared[PHOTOGRAPHS] = originals
        for decoder, found in compared.items():
            drawn = decoder in DECODERS
            numbers = set_columns(measure.estimates(found))
            rows.append(
                {
                    **identity,
                    "decoder": decoder,
                    "n_images": found.moments.count,
                    "n_steps": settings.sample_steps if drawn else None,
                    "seed": config.seed if drawn else None,
                    "fid_reference": name,
                    "n_reference": reference.moments.count,
                    **{column: finite(numbers[column]) for column in _OF_SETS},
                }
            )
    write_table(result.folder / SAMPLES, FIELDS, rows)
    for decoder in DECODERS:
        name = f"pixels/{decoder}"
        pixels = [part[name] for part in samples.read(images, [name]) if name in part]
        shown = np.concatenate(pixels)[:_SHOWN]
        save_png(tile(shown, _COLUMNS), result.folder / SAMPLES_OF.format(decoder))


class _Sampler:
    """Compiled decoders that start from pure noise."""

    def __init__(self, trained: Trained, n_steps: int, seed: int):
        eps_hat, schedule = trained.model.eps_hat, trained.schedule
        self._variables, self._n_steps = trained.variables, n_steps
        ends = schedule.gamma(trained.state.ema["schedule"], jnp.asarray([1.0, 0.0]))
        first, last = (float(gamma) for gamma in np.asarray(ends, np.float64))
        self._place, side = trained.place, trained.description["image_size"]
        keys = {name: rng.stream(seed, f"samples/{name}") for name in ("noise", *DECODERS)}

        def draw(
            decoder: str, variables: Any, gammas: Array, index: Int[Array, " b"]
        ) -> UInt8[Array, "b h w 3"]:
            denoise = functools.partial(eps_hat, variables)
            # The same noise for both decoders, as in a sweep.
            z = process.image_noise(rng.per_index(keys["noise"], index), (side, side, 3))
            x_hat = samplers.posterior_mean(denoise, z, gammas[0])
            own = parse_decoder(decoder)
            images = own.reconstruct(
                denoise, z, x_hat, gammas, n_steps, rng.per_index(keys[decoder], index), own.value
            )
            return process.unit_to_pixels(images)

        self._draw = jax.jit(draw, static_argnums=0)
        self._gammas = {
            name: jnp.asarray(parse_decoder(name).steps(first, last, n_steps), jnp.float32)
            for name in DECODERS
        }

    def __call__(self, decoder: str, index: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w 3"]:
        placed = self._place({"index": index})["index"]
        return np.asarray(self._draw(decoder, self._variables, self._gammas[decoder], placed))
