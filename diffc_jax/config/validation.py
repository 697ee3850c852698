"""One function that checks all fields of a config, before any work."""

import re
from collections.abc import Sequence

from ml_collections import ConfigDict

from diffc_jax.config.base import (
    CODEC_MEMORIES,
    FEATURE_NETWORKS,
    IMAGE_METRICS,
    LR_DECAYS,
    OPTIMIZERS,
    PLACEMENTS,
    SET_METRICS,
    TRACKERS,
    base_config,
)
from diffc_jax.config.checks import above, all_finite, at_least, has_fields, names, numbers, within
from diffc_jax.config.sources import check_sources, plain
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.diffusion.schedules import schedule_from_fields
from diffc_jax.errors import UsageError
from diffc_jax.typed import one_of

_DURATIONS = ("num_steps", "num_epochs", "num_examples", "max_seconds")
# The shortest path of the codec has 8 bits, and smaller images have hardly more values.
_SMALLEST_CODED_IMAGE = 4
# Groups, fields in them, and the least value that these may have.
_LOWEST = (
    ("data", "image_size num_threads", 1),
    ("train", "batch_size accumulation_steps steps_per_call keep_checkpoints", 1),
    ("train", "log_every_steps eval_every_steps checkpoint_every_steps", 1),
    ("train", "num_steps num_epochs num_examples max_seconds eval_images", 0),
    ("train", "warmup_steps weight_decay", 0),
    ("eval", "batch_size rate_steps num_levels bound_times ancestral_steps flow_steps", 1),
    ("eval", "sample_steps", 1),
    ("eval", "rate_evaluations max_images grid_images samples", 0),
)


def validate(config: ConfigDict) -> None:
    """Checks everything that can be checked without data or devices.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    has_fields(plain(config), plain(base_config()))
    data, train = config.data, config.train
    all_finite(plain(config))
    within("seed", config.seed, 0, 2**32)
    for field, size in config.mesh.items():
        if size != -1:
            at_least(f"mesh.{field}", size, 1)
    if config.mesh.data == config.mesh.fsdp == -1:
        raise UsageError("only one of them may be -1, the rest", field="mesh.data, mesh.fsdp")
    one_of("data.placement", data.placement, PLACEMENTS)
    for group, fields, low in _LOWEST:
        for field in fields.split():
            at_least(f"{group}.{field}", config[group][field], low)
    check_sources(config)
    numbers("baselines.targets", config.baselines.targets)
    _check_optimizer(train)
    _check_training(config)
    _check_evaluation(config)
    _check_noise_levels(config)


def validate_evaluation(config: ConfigDict) -> None:
    """`validate`, for programs that measure: that images are large enough for the metrics, too."""
    validate(config)
    check_image_metrics(config)


def check_image_metrics(config: ConfigDict) -> None:
    """Raises UsageError if images are too small for a metric; for programs that measure."""
    for metric in config.eval.image_metrics:
        least = IMAGE_METRICS[metric]
        if config.data.image_size < least:
            raise UsageError(
                f"{metric} needs images of {least}x{least} or more, and data.image_size is"
                f" {config.data.image_size}; leave it out",
                field="eval.image_metrics",
            )


def given_duration(train: ConfigDict) -> str:
    """Which field of config.train says how long the training is.

    Raises:
        UsageError: none or several of them are positive.
    """
    given = [field for field in _DURATIONS if train[field] > 0]
    if len(given) == 1:
        return given[0]
    raise UsageError(
        f"set exactly one of {', '.join(f'train.{field}' for field in _DURATIONS)} to a positive number",
        field=", ".join(f"train.{field}" for field in given) or "train.num_steps",
    )


def _check_training(config: ConfigDict) -> None:
    train = config.train
    if any(train[field] > 0 for field in _DURATIONS):  # a fitted Gaussian needs none
        given_duration(train)
    if train.batch_size % train.accumulation_steps:
        raise UsageError(
            f"{train.batch_size} cannot be divided into train.accumulation_steps ="
            f" {train.accumulation_steps} equal parts",
            field="train.batch_size",
        )
    for tracker in train.trackers:
        one_of("train.trackers", tracker, TRACKERS)
    _check_each_once("train.trackers", train.trackers)
    at_least("train.low_rate_emphasis", train.low_rate_emphasis, 0.0)
    if train.low_rate_emphasis and config.schedule.name != "linear":
        raise UsageError(
            f"{train.low_rate_emphasis} needs schedule.name = linear; learned schedules minimise the ELBO",
            field="train.low_rate_emphasis",
        )
    for field in ("beta2", "ema_decay", "second_ema_decay"):
        within(f"train.{field}", train[field], 0.0, 1.0)


def _check_evaluation(config: ConfigDict) -> None:
    evaluation = config.eval
    names("eval.subsets", evaluation.subsets)
    for name in evaluation.subsets:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UsageError(
                f"{name!r} cannot name a folder; use letters, digits, '_', '-' and '.'",
                field="eval.subsets",
            )
    if evaluation.samples and not evaluation.features:
        raise UsageError(
            f"{evaluation.samples} are compared in features; set eval.features too, or 0",
            field="eval.samples",
        )
    if evaluation.samples == 1:
        raise UsageError("one has no distribution; use 0, or two or more", field="eval.samples")
    if evaluation.samples and evaluation.max_images == 1 and len(evaluation.subsets) < 2:
        raise UsageError(
            "samples are compared with the evaluated images, too, and one has no distribution; use 0, or "
            "two or more",
            field="eval.max_images",
        )
    if evaluation.features:
        one_of("eval.features", evaluation.features, FEATURE_NETWORKS)
    for metric in evaluation.image_metrics:
        one_of("eval.image_metrics", metric, IMAGE_METRICS)
    for metric in evaluation.set_metrics:
        one_of("eval.set_metrics", metric, SET_METRICS)
    for field in ("decoders", "codec_decoders"):
        chosen = tuple(evaluation[field])
        kinds = {parse_decoder(decoder, f"eval.{field}").kind for decoder in chosen}
        if len(kinds) < len(chosen):
            raise UsageError(f"{chosen} must name each once", field=f"eval.{field}")
    if not evaluation.decoders:
        raise UsageError("() must name at least one", field="eval.decoders")
    _check_each_once("eval.subsets", evaluation.subsets)
    one_of("eval.codec_memory", evaluation.codec_memory, CODEC_MEMORIES)
    if evaluation.codec_decoders and config.data.image_size < _SMALLEST_CODED_IMAGE:
        raise UsageError(
            f"the codec needs images of {_SMALLEST_CODED_IMAGE}x{_SMALLEST_CODED_IMAGE} or more, and"
            f" data.image_size is {config.data.image_size}; use ()",
            field="eval.codec_decoders",
        )


def _check_each_once(field: str, names: Sequence[str]) -> None:
    if len(names) != len(set(names)):
        raise UsageError(f"{tuple(names)} must name each once", field=field)


def _check_noise_levels(config: ConfigDict) -> None:
    """Those of schedule, evaluation and experts."""
    low, high = config.schedule.gamma_min, config.schedule.gamma_max
    schedule_from_fields(config.schedule.to_dict())
    split = config.model.get("split_gamma")
    if split is not None and not low < split < high:
        raise UsageError(
            f"{split} is not inside ({low}, {high}), the range of the schedule",
            field="model.split_gamma",
        )
    first, last = config.eval.first_gamma, config.eval.last_gamma
    if not low < last <= first <= high:
        raise UsageError(
            f"{first}, {last} are not in decreasing order within "
            f"({low}, {high}], the range of the schedule",
            field="eval.first_gamma, eval.last_gamma",
        )


def _check_optimizer(train: ConfigDict) -> None:
    one_of("train.optimizer", train.optimizer, OPTIMIZERS)
    for field in ("learning_rate", "muon_learning_rate", "clip_norm"):
        above(f"train.{field}", train[field], 0.0)
    one_of("train.lr_decay", train.lr_decay, LR_DECAYS)
    within("train.decay_fraction", train.decay_fraction, 0.0, 1.0)
    if train.max_seconds and train.lr_decay not in ("constant", "wsd"):
        raise UsageError(
            f"{train.lr_decay} needs to know the number of steps, which train.max_seconds ="
            f" {train.max_seconds:g} leaves open; use wsd or constant",
            field="train.lr_decay",
        )
