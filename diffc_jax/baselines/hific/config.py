"""Configs of HiFiC and of the plain hyper-prior: the fields that only they have, and their check."""

import math

from ml_collections import ConfigDict

from diffc_jax.baselines.hific.architecture import HificArchitecture
from diffc_jax.baselines.hific.losses import RateTarget
from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke
from diffc_jax.config.checks import above, within
from diffc_jax.errors import UsageError

# Values of config.model.name, which are also methods of results.
HIFIC, HYPERPRIOR = "hific", "hyperprior"

_SMALLEST_LPIPS_IMAGE = 31
# Fields of config.train that these networks have no use for, with the values that say so.
_WITHOUT = {
    "ema_decay": 0.0,
    "second_ema_decay": 0.0,
    "accumulation_steps": 1,
    "optimizer": "adamw",
    "max_seconds": 0.0,
    "init_params": "",
    "gamma_range": (),
}


def hific_config(argument: str, width: float, residual_blocks: int) -> ConfigDict:
    """A config of HiFiC with the paper's settings except for its size.

    Args:
        argument: behind the colon of --config: words from `0.5bpp` (any target), `hyperprior` and `smoke`,
            joined by commas.
        width: channels, in multiples of the paper's.
        residual_blocks: of the generator.

    Raises:
        UsageError: another word.
    """
    words = argument.split(",") if argument else []
    targets = [word for word in words if _is_target(word)]
    for word in words:
        if word not in targets:
            check_config_argument(word, ("smoke", HYPERPRIOR, "a rate like 0.5bpp"))
    config = base_config()
    with config.unlocked():
        config.model = ConfigDict(
            {
                "name": HYPERPRIOR if HYPERPRIOR in words else HIFIC,
                "width": width,
                "downsamplings": 3,
                "latent_channels": 0,  # 0: the paper's times the width
                "residual_blocks": residual_blocks,
            }
        )
        config.hific = ConfigDict(
            {
                "target_bpp": float(targets[-1].removesuffix("bpp")) if targets else 0.5,
                # Weights of the rate above and below the target, see baselines.hific.losses.RateTarget.
                "weight_above": 2.0,
                "weight_below": 2.0**-6,
                "early_share": 0.025,  # of all updates, which aim at 10/7 of the target
                # Of all updates, the last ones, which have a discriminator; learning rates start again.
                "adversarial_share": 0.0 if HYPERPRIOR in words else 0.5,
                "adversarial_learning_rate": 1e-4,
            }
        )
    config.train.learning_rate = 1e-4
    config.train.lr_decay = "drop"
    config.train.warmup_steps = 0
    config.train.beta2 = 0.999
    config.train.weight_decay = 0.0
    config.train.clip_norm = 1e6  # never reached
    config.train.ema_decay = 0.0
    if "smoke" in words:
        shrink_to_smoke(config)
        config.data.image_size = 32
        config.model.width, config.model.residual_blocks = 1 / 16, 1
    return config


def small_config(argument: str) -> ConfigDict:
    """HiFiC for half an hour on two CPU cores: an eighth of the paper's channels, a third of its blocks.

    Args:
        argument: as for `hific_config`, which also says what it raises.
    """
    config = hific_config(argument, width=1 / 8, residual_blocks=3)
    if "smoke" in argument:
        return config
    config.model.latent_channels = 55
    config.hific.early_share = 0.1
    config.hific.adversarial_learning_rate = 3e-4
    if config.hific.adversarial_share:
        config.hific.adversarial_share = 0.4
    config.train.batch_size = 16
    config.train.num_steps = 12_000
    config.train.learning_rate = 2e-3
    config.train.lr_decay = "cosine"
    config.train.beta2 = 0.99
    config.train.clip_norm = 1.0
    config.train.eval_every_steps = config.train.checkpoint_every_steps = 1000
    config.train.eval_images = 500
    return config


def is_hific(config: ConfigDict) -> bool:
    """Whether a config is one of HiFiC or of the hyper-prior."""
    return config.model.name in (HIFIC, HYPERPRIOR)


def build_architecture(model: ConfigDict) -> HificArchitecture:
    """The networks that config.model describes.

    Raises:
        UsageError: a field that cannot be used.
    """
    fields = model.to_dict()
    fields.pop("name")
    try:
        return HificArchitecture.scaled(**fields)
    except UsageError as error:
        raise error.in_group("model") from error


def rate_target(config: ConfigDict, num_steps: int) -> RateTarget:
    """The rate that a run of `num_steps` holds.

    Raises:
        UsageError: a field of config.hific that cannot be used.
    """
    fields = config.hific
    try:
        return RateTarget(
            fields.target_bpp,
            fields.weight_above,
            fields.weight_below,
            early_steps=round(fields.early_share * num_steps),
        )
    except UsageError as error:
        field = "target_bpp" if error.field == "bpp" else error.field
        raise UsageError(error.message, field=f"hific.{field}") from error


def validate(config: ConfigDict) -> None:
    """Checks the fields of config.model and config.hific, and what is fixed elsewhere.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    if "hific" not in config:
        raise UsageError(
            f"model.name: {config.model.name} needs the fields of config.hific; start from"
            " configs/hific64.py"
        )
    model, size = config.model, config.data.image_size
    architecture = build_architecture(model)
    try:
        highest = architecture.highest_bpp((size, size))
    except UsageError as error:
        raise UsageError(f"data.image_size: {error}") from error
    for field in ("early_share", "adversarial_share"):
        within(f"hific.{field}", config.hific[field], 0.0, 1.0)
    above("hific.adversarial_learning_rate", config.hific.adversarial_learning_rate, 0.0)
    target = rate_target(config, num_steps=1)
    if target.bpp > highest:
        raise UsageError(
            f"hific.target_bpp: {target.bpp} is not in (0, {highest:.3g}], what the latent can carry; use"
            " fewer model.downsamplings or more model.latent_channels"
        )
    if model.name == HYPERPRIOR and config.hific.adversarial_share:
        raise UsageError(
            f"hific.adversarial_share: {config.hific.adversarial_share} must be 0, a hyper-prior has no"
            " discriminator"
        )
    if model.name == HIFIC and size < _SMALLEST_LPIPS_IMAGE:
        raise UsageError(
            f"data.image_size: {size} is too small for LPIPS, which HiFiC is trained with; use"
            f" {_SMALLEST_LPIPS_IMAGE} or more"
        )
    for field, value in _WITHOUT.items():
        if config.train[field] != value:
            raise UsageError(
                f"train.{field}: {config.train[field]!r} must be {value!r} for {model.name}, which has no"
                " such thing"
            )
    if not isinstance(config.data.train, ConfigDict):
        raise UsageError(f"data.train: {model.name} is trained on one source, not on a mixture")


def _is_target(word: str) -> bool:
    try:
        return word.endswith("bpp") and math.isfinite(float(word.removesuffix("bpp")))
    except ValueError:
        return False
