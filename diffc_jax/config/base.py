"""The configuration of an experiment: every field with its default, and one function that checks them all.

A file in `configs/` starts from `base_config()` and changes fields; `--config.x.y=v` overrides any of them.
Durations of training may be given as `train.num_steps`, `train.num_epochs`, `train.num_examples` or
`train.max_seconds`: exactly one of them is positive.
"""

import math
import re
from typing import Any

from ml_collections import ConfigDict

from diffc_jax.config.checks import above, at_least, one_of, within
from diffc_jax.config.sources import (
    check_training_sources,
    source_config,
    training_sources,
)
from diffc_jax.errors import UsageError

FEATURE_NETWORKS = ("efficientnet_lite0", "inception_v3_fid")
LR_DECAYS = ("constant", "cosine", "linear", "drop", "wsd")
OPTIMIZERS = ("adamw", "muon")
PLACEMENTS = ("host", "device", "auto")
IMAGE_METRICS = ("lpips_alex", "lpips_vgg", "ms_ssim")
# The shortest message of the codec has 32 bits, at most one for each value of the image.
_SMALLEST_CODED_IMAGE = 4
# Names that fields had before, in old command lines and config.json files -> their names.
FORMER_NAMES = {"eval.families": "eval.subsets"}


def base_config() -> ConfigDict:
    """All fields with their defaults; locked, so that a misspelt field is an error."""
    config = ConfigDict()
    config.seed = 0

    # Devices, as data x fsdp (-1: the rest): the batch is split over all of them, the state over fsdp.
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})

    config.data = ConfigDict()
    config.data.image_size = 64
    # One source, or a tuple of several (`training_source`) with weights and noise ranges.
    config.data.train = source_config(split="train")
    config.data.eval = source_config(split="eval")
    # What distances between sets compare with; no source: the originals of the evaluated images.
    config.data.reference = source_config(source="")
    config.data.random_flip = True
    config.data.num_threads = 4
    # Where the training images lie: "host" decodes and sends every batch, "device" keeps all of them in the
    # memory of each device, "auto" does that on accelerators where they fit.
    config.data.placement = "host"

    # name selects a builder of diffc_jax.models; the other fields are its arguments.
    config.model = ConfigDict({"name": "gaussian"})
    # linear, learned_linear or learned_network, between the ends that 8-bit images need.
    config.schedule = ConfigDict({"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0})

    config.train = ConfigDict()
    config.train.batch_size = 64
    config.train.accumulation_steps = 1  # parts of a batch that go through the network in turn
    config.train.num_steps = 0
    config.train.num_epochs = 0.0
    config.train.num_examples = 0
    config.train.max_seconds = 0.0  # instead of them: wall time, export included
    config.train.steps_per_call = 1  # updates in one dispatch to the devices
    config.train.init_params = (
        ""  # exported params.safetensors to start from; empty for random ones
    )
    # Noise levels (-log SNR) that are trained, for an expert: (low, high); () for all.
    config.train.gamma_range = ()
    config.train.low_rate_emphasis = 0.0  # 0: the bound; towards 1 lower rates count more
    config.train.optimizer = (
        "adamw"  # or muon, for the matrices of the network; the rest stays with AdamW
    )
    config.train.learning_rate = 2e-4
    config.train.muon_learning_rate = 2e-3  # of the matrices, if the optimizer is muon
    config.train.warmup_steps = 100
    # constant; cosine or linear: to zero; drop: a tenth in the second half; wsd: constant, then linear to
    # zero in the last decay_fraction.
    config.train.lr_decay = "constant"
    config.train.decay_fraction = 0.2
    config.train.beta2 = 0.99
    config.train.weight_decay = 0.01
    config.train.clip_norm = 1.0
    config.train.ema_decay = 0.9999
    # Of a second average; at the end the one with the lower held-out loss is kept. 0: only one.
    config.train.second_ema_decay = 0.0
    config.train.log_every_steps = 50
    config.train.eval_every_steps = 1000
    config.train.eval_images = 0  # 0: the whole split
    config.train.checkpoint_every_steps = 1000
    config.train.keep_checkpoints = 2

    config.eval = ConfigDict()
    # Exported params.safetensors to evaluate; empty for the newest checkpoint of the run.
    config.eval.params = ""
    config.eval.batch_size = 32
    config.eval.max_images = 0  # of each subset where there are subsets; 0: the whole split
    # Subsets with results of their own beside those of all images: words of the images' paths, see
    # diffc_jax.evaluation.subsets; () for none.
    config.eval.subsets = ()
    config.eval.rate_steps = 1000  # T, the steps of the chain whose KLs are the ideal rate
    config.eval.rate_evaluations = 64  # of so many of the T steps, drawn for each image; 0: of all
    config.eval.num_levels = 16
    config.eval.first_gamma = 2.0  # lowest rate
    config.eval.last_gamma = -8.0  # highest rate
    config.eval.decoders = ("ancestral", "flow", "mean")
    config.eval.ancestral_steps = 40  # for the whole range of gamma, of which a level has its share
    config.eval.flow_steps = 16
    config.eval.bound_times = 4  # times drawn for each image of the variational bound
    config.eval.grid_images = 8  # images whose pictures are kept
    # Network whose features make Fréchet and kernel distances: efficientnet_lite0, or inception_v3_fid (the
    # FID), whose weights are the path or https address of a file; empty for none.
    config.eval.features = "efficientnet_lite0"
    config.eval.feature_weights = ""
    config.eval.image_metrics = ("lpips_alex",)  # of lpips_alex, lpips_vgg and ms_ssim
    # Decoders of the codec's files, which are written down to eval.last_gamma; () for no files.
    config.eval.codec_decoders = ("flow",)
    config.eval.codec_memory = 12  # of the trellis: one more doubles the time of its search

    config.baselines = ConfigDict()
    config.baselines.codecs = (
        *("jpeg", "webp", "jpeg2000", "avif", "jpegxl", "hevc", "dithered_pcm"),
    )
    # Folders of trained HiFiC and hyper-prior runs, with commas and globs; empty for none.
    config.baselines.trained = ""
    # Bits per pixel at which reproduce.py trains HiFiC and a hyper-prior with the settings of
    # configs/hific64_small.py, on the images and with the seed of the config.
    config.baselines.targets = ()
    # Others' curves that reproduce.py draws too, in figures of their own: names for plot.py --published.
    config.baselines.published = ()
    return config.lock()


def check_config_argument(argument: str, known: tuple[str, ...] = ("smoke",)) -> None:
    """Checks the part of --config=FILE.py:ARGUMENT behind the colon.

    Raises:
        UsageError: it is neither empty nor known.
    """
    if argument and argument not in known:
        raise UsageError(
            f"--config: unknown argument {argument!r} behind the colon; it may be {', '.join(known)}"
        )


def shrink_to_smoke(config: ConfigDict) -> None:
    """Makes every job of a config a matter of seconds; the numbers mean nothing."""
    config.data.image_size = 16
    config.mesh.data, config.mesh.fsdp = -1, 1
    for source in (*training_sources(config), config.data.eval):
        source.max_images = 48
    config.data.reference = source_config(source="")
    config.train.batch_size = 8
    config.train.accumulation_steps = 1
    config.train.num_epochs, config.train.num_examples = 0.0, 0
    config.train.num_steps, config.train.max_seconds = 4, 0.0
    config.train.steps_per_call = 1
    config.train.init_params = ""
    config.train.log_every_steps = 2
    config.train.eval_every_steps = config.train.checkpoint_every_steps = 2
    config.train.eval_images = 8
    config.eval.batch_size = 8
    config.eval.max_images = 8
    config.eval.subsets = ()
    config.eval.rate_steps = 20
    config.eval.num_levels = 3
    config.eval.flow_steps = config.eval.ancestral_steps = 5
    config.eval.grid_images = 2
    config.eval.features, config.eval.image_metrics = "", ()
    config.eval.codec_memory = 4
    config.eval.params = ""
    config.baselines.targets = config.baselines.published = ()


def validate(config: ConfigDict) -> None:
    """Checks everything that can be checked without data or devices.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    data, train, evaluation = config.data, config.train, config.eval
    within("seed", config.seed, 0, 2**32)
    at_least("data.image_size", data.image_size, 1)
    at_least("data.num_threads", data.num_threads, 1)
    for field, size in config.mesh.items():
        if size != -1:
            at_least(f"mesh.{field}", size, 1)
    if config.mesh.data == config.mesh.fsdp == -1:
        raise UsageError("mesh.data, mesh.fsdp: only one of them may be -1, the rest")
    one_of("data.placement", data.placement, PLACEMENTS)
    at_least("train.batch_size", train.batch_size, 1)
    at_least("train.accumulation_steps", train.accumulation_steps, 1)
    for field in ("num_steps", "num_epochs", "num_examples", "max_seconds"):
        at_least(f"train.{field}", train[field], 0)
    at_least("train.steps_per_call", train.steps_per_call, 1)
    check_training_sources(config)
    _check_optimizer(train)
    at_least("train.low_rate_emphasis", train.low_rate_emphasis, 0.0)
    if train.low_rate_emphasis and config.schedule.name != "linear":
        raise UsageError(
            f"train.low_rate_emphasis: {train.low_rate_emphasis} needs schedule.name = linear; learned"
            " schedules minimise the bound"
        )
    for field in ("beta2", "ema_decay", "second_ema_decay"):
        within(f"train.{field}", train[field], 0.0, 1.0)
    for field in ("log_every_steps", "eval_every_steps", "checkpoint_every_steps"):
        at_least(f"train.{field}", train[field], 1)
    at_least("train.keep_checkpoints", train.keep_checkpoints, 1)
    at_least("train.eval_images", train.eval_images, 0)

    for field in (
        "batch_size",
        "rate_steps",
        "num_levels",
        "bound_times",
        "ancestral_steps",
        "flow_steps",
    ):
        at_least(f"eval.{field}", evaluation[field], 1)
    for field in ("rate_evaluations", "max_images", "grid_images"):
        at_least(f"eval.{field}", evaluation[field], 0)
    for name in evaluation.subsets:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UsageError(
                f"eval.subsets: {name!r} cannot name a folder; use letters, digits, '_', '-' and '.'"
            )
    if len(evaluation.subsets) != len(set(evaluation.subsets)):
        raise UsageError(f"eval.subsets: {tuple(evaluation.subsets)} must name each once")
    if evaluation.features:
        one_of("eval.features", evaluation.features, FEATURE_NETWORKS)
    for metric in evaluation.image_metrics:
        one_of("eval.image_metrics", metric, IMAGE_METRICS)
    for field in ("decoders", "codec_decoders"):
        for decoder in evaluation[field]:
            parse_decoder(decoder, f"eval.{field}")
    if not 0 < len(evaluation.decoders) == len(set(evaluation.decoders)):
        raise UsageError(
            f"eval.decoders: {tuple(evaluation.decoders)} must name at least one, and each once"
        )
    if len(evaluation.codec_decoders) != len(set(evaluation.codec_decoders)):
        raise UsageError(
            f"eval.codec_decoders: {tuple(evaluation.codec_decoders)} must name each once"
        )
    within("eval.codec_memory", evaluation.codec_memory, 3, 16)
    if evaluation.codec_decoders and data.image_size < _SMALLEST_CODED_IMAGE:
        raise UsageError(
            f"eval.codec_decoders: the codec needs images of {_SMALLEST_CODED_IMAGE}x"
            f"{_SMALLEST_CODED_IMAGE} or more, and data.image_size is {data.image_size}; use ()"
        )
    low, high = config.schedule.gamma_min, config.schedule.gamma_max
    if not low < high:
        raise UsageError(f"schedule.gamma_min: {low} is not below schedule.gamma_max = {high}")
    split = config.model.get("split_gamma")
    if split is not None and not low < split < high:
        raise UsageError(
            f"model.split_gamma: {split} is not inside ({low}, {high}), the range of the schedule"
        )
    first, last = evaluation.first_gamma, evaluation.last_gamma
    if not low < last <= first <= high:
        raise UsageError(
            f"eval.first_gamma, eval.last_gamma: {first}, {last} are not in decreasing order within "
            f"({low}, {high}], the range of the schedule"
        )


def _check_optimizer(train: ConfigDict) -> None:
    one_of("train.optimizer", train.optimizer, OPTIMIZERS)
    for field in ("learning_rate", "muon_learning_rate", "clip_norm"):
        above(f"train.{field}", train[field], 0.0)
    at_least("train.warmup_steps", train.warmup_steps, 0)
    at_least("train.weight_decay", train.weight_decay, 0.0)
    one_of("train.lr_decay", train.lr_decay, LR_DECAYS)
    within("train.decay_fraction", train.decay_fraction, 0.0, 1.0)
    if train.max_seconds and train.lr_decay not in ("constant", "wsd"):
        raise UsageError(
            f"train.lr_decay: {train.lr_decay} needs to know the number of steps, which train.max_seconds ="
            f" {train.max_seconds:g} leaves open; use wsd or constant"
        )


def parse_decoder(decoder: Any, field: str = "eval.decoders") -> float | None:
    """The factor kappa of a flow decoder ("flow", "kappa=1.5"), None for "ancestral" and "mean".

    Args:
        decoder: its name.
        field: where it comes from, for error messages.

    Raises:
        UsageError: another name, or kappa not positive.
    """
    if decoder in ("ancestral", "mean"):
        return None
    try:
        kappa = 1.0 if decoder == "flow" else float(str(decoder).removeprefix("kappa="))
    except ValueError:
        kappa = math.nan
    if (decoder != "flow" and not str(decoder).startswith("kappa=")) or not 0 < kappa < math.inf:
        raise UsageError(
            f"{field}: {decoder!r} is not one of ancestral, flow, mean, kappa=K with K > 0"
        )
    return kappa
