"""Data sources in a config: their fields, mixtures of several, and what a batch is made of."""

import math
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from diffc_jax.config.checks import above
from diffc_jax.errors import UsageError

_OF_A_MIXTURE = ("weight", "min_gamma")
_WEIGHTS_TOLERANCE = 1e-3


def source_config(**fields: Any) -> ConfigDict:
    """A data source; the fields are those of `diffc_jax.data.SourceSpec`, which explains them."""
    return ConfigDict(
        {
            "source": "photos",
            "path": "",
            "name": "",
            "split": "train",
            "resize": "refuse",
            "non_rgb": "refuse",
            "skip_corrupt": False,
            "max_images": 0,
        }
        | fields
    )


def training_source(weight: float, min_gamma: float | None = None, **fields: Any) -> ConfigDict:
    """One of several sources of config.data.train.

    Args:
        weight: its share of every batch; the weights of all sources add up to one.
        min_gamma: use its images only at noise levels (-log SNR) above this, where noise hides their
            artefacts; None for all levels.
        **fields: as of `source_config`.
    """
    source = source_config(**fields)
    source.weight = weight
    source.min_gamma = placeholder(float)
    if min_gamma is not None:
        source.min_gamma = min_gamma
    return source


def plain(config: Any) -> Any:
    """A config as nested dicts and tuples, those of the sources of a mixture included."""
    if isinstance(config, ConfigDict | dict):
        return {name: plain(value) for name, value in config.items()}
    return tuple(map(plain, config)) if isinstance(config, tuple | list) else config


def set_training_sources(config: ConfigDict, *sources: ConfigDict) -> None:
    """Makes config.data.train a mixture of sources, each made by `training_source`."""
    with config.data.ignore_type():  # the field's default is one source
        config.data.train = tuple(sources)


def training_sources(config: ConfigDict) -> tuple[ConfigDict, ...]:
    """config.data.train as a tuple of sources, whether it is one or several."""
    train = config.data.train
    return (train,) if isinstance(train, ConfigDict) else tuple(train)


def clean_source(config: ConfigDict) -> ConfigDict:
    """The first source of config.data.train that is used at all noise levels, on its own."""
    sources = training_sources(config)
    clean = next(source for source in sources if source.get("min_gamma") is None)
    return source_config(**{k: v for k, v in clean.items() if k not in _OF_A_MIXTURE})


def batch_composition(config: ConfigDict) -> tuple[int, ...]:
    """How many images of each source a batch has: the weights, rounded to whole images."""
    batch_size = config.train.batch_size
    exact = [batch_size * source.get("weight", 1.0) for source in training_sources(config)]
    counts = [math.floor(share + 1e-9) for share in exact]
    # The largest remainders get the images that are left.
    order = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in order[: batch_size - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


def spec_fields(config: ConfigDict, source: ConfigDict) -> dict[str, Any]:
    """The arguments of `diffc_jax.data.SourceSpec` for one source of a config."""
    fields = {name: value for name, value in source.items() if name not in _OF_A_MIXTURE}
    return {"image_size": config.data.image_size, **fields}


def check_training_sources(config: ConfigDict) -> None:
    """Checks the sources of config.data.train and the noise levels of config.train.gamma_range.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    low, high = config.schedule.gamma_min, config.schedule.gamma_max
    trained = tuple(config.train.gamma_range)
    if trained and not (len(trained) == 2 and low <= trained[0] < trained[1] <= high):
        raise UsageError(
            f"train.gamma_range: {trained} is not an increasing pair within the schedule's [{low}, {high}];"
            " use () for all noise levels"
        )
    sources = training_sources(config)
    if not sources:
        raise UsageError("data.train: is empty; give one source, or a tuple of several")
    restricted = ["train.gamma_range"] if trained else []
    mixture = not isinstance(config.data.train, ConfigDict)
    for number, source in enumerate(sources if mixture else ()):
        field = f"data.train[{number}]"
        for name in _OF_A_MIXTURE:
            if name not in source:
                raise UsageError(
                    f"{field}.{name}: is missing; make the source with training_source"
                )
        above(f"{field}.weight", source.weight, 0.0)
        if source.min_gamma is None:
            continue
        restricted.append(f"{field}.min_gamma")
        lowest, highest = trained or (low, high)
        if not lowest <= source.min_gamma < highest:
            raise UsageError(
                f"{field}.min_gamma: {source.min_gamma} is outside the noise levels that are trained,"
                f" [{lowest}, {highest})"
            )
    if restricted and config.schedule.name != "linear":
        raise UsageError(
            f"{restricted[0]}: needs schedule.name = linear; {config.schedule.name} moves noise levels"
        )
    if mixture:
        _check_weights(config, sources)


def _check_weights(config: ConfigDict, sources: tuple[ConfigDict, ...]) -> None:
    total = sum(source.weight for source in sources)
    if abs(total - 1.0) > _WEIGHTS_TOLERANCE:
        raise UsageError(
            f"data.train: the weights {', '.join(f'{s.weight:g}' for s in sources)} add up to {total:g},"
            " not to 1; they are shares of a batch"
        )
    if all(source.min_gamma is not None for source in sources):
        raise UsageError(
            "data.train: every source has a min_gamma, so nothing teaches the levels below; leave it out"
            " for at least one"
        )
    for number, count in enumerate(batch_composition(config)):
        if not count:
            raise UsageError(
                f"data.train[{number}].weight: {sources[number].weight:g} of train.batch_size ="
                f" {config.train.batch_size} is less than one image; raise one of them"
            )
    if config.train.num_epochs:
        raise UsageError(
            "train.num_epochs: is not defined for several sources of data.train; set train.num_steps or"
            " train.num_examples"
        )
