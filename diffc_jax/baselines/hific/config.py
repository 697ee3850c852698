"""Configs of HiFiC and of the plain hyper-prior: fields, checks, and the widths of their networks."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

from ml_collections import ConfigDict

from diffc_jax.baselines.hific.losses import RateTarget
from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke
from diffc_jax.config.checks import above, within
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.rate_point import HIFIC, HYPERPRIOR
from diffc_jax.typed import Meta, check_arguments

# Standard deviation of the widest Gaussian that a latent is coded with, and its differential entropy.
LARGEST_SCALE = 256.0
_LARGEST_SCALE_BITS = 0.5 * math.log2(2 * math.pi * math.e * LARGEST_SCALE**2)


# More is a slip or a damaged card.
_Factor = Annotated[float, Meta(le=64)]
_Channels = Annotated[int, Meta(ge=0, le=1 << 16)]
_Blocks = Annotated[int, Meta(le=1 << 8)]


@dataclasses.dataclass(frozen=True)
class HificArchitecture:
    """Widths and depths; the defaults are the paper's.

    Attributes:
        downsamplings: halvings of the sides between image and latent, 3 or 4.
        base_channels: after the encoder's first layer; doubled by every halving.
        latent_channels: of the latent.
        hyper_channels: of the hyper-latent and inside the hyper-prior.
        residual_blocks: of the generator.
        discriminator_channels: after the discriminator's first layer.
    """

    downsamplings: int = 4
    base_channels: int = 60
    latent_channels: int = 220
    hyper_channels: int = 320
    residual_blocks: int = 9
    discriminator_channels: int = 64

    def __post_init__(self) -> None:
        if self.downsamplings not in (3, 4):
            raise UsageError(f"{self.downsamplings}; choose 3 or 4", field="downsamplings")
        for field in dataclasses.fields(self)[1:]:
            if getattr(self, field.name) < 1:
                raise UsageError(
                    f"{getattr(self, field.name)} must be at least 1", field=field.name
                )
        if self.base_channels < 2:
            # ChannelNorm divides by one less than the number of channels.
            raise UsageError(f"{self.base_channels} must be at least 2", field="base_channels")

    @classmethod
    def scaled(
        cls,
        width: _Factor,
        downsamplings: int = 4,
        latent_channels: _Channels = 0,
        residual_blocks: _Blocks = 9,
    ) -> "HificArchitecture":
        """The paper's networks with `width` times as many channels everywhere.

        `latent_channels` is the paper's number times `width`, too, if it is 0.

        Raises:
            UsageError: `width` is not positive, or another argument is out of range.
        """
        if not width > 0:
            raise UsageError(f"{width} must be positive", field="width")

        def channels(number: int) -> int:
            return max(2, round(width * number))

        return cls(
            downsamplings=downsamplings,
            base_channels=channels(cls.base_channels),
            latent_channels=latent_channels or channels(cls.latent_channels),
            hyper_channels=channels(cls.hyper_channels),
            residual_blocks=residual_blocks,
            discriminator_channels=channels(cls.discriminator_channels),
        )

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Shape of the latent of an image of `size`, (h, w) in pixels.

        Raises:
            UsageError: the sides cannot be halved `downsamplings` times.
        """
        factor = 1 << self.downsamplings
        if min(size) < 1 or any(side % factor for side in size):
            raise UsageError(
                f"{size[0]}x{size[1]}; sides must be multiples of {factor}", field="image size"
            )
        return (size[0] // factor, size[1] // factor, self.latent_channels)

    def hyper_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Shape of the hyper-latent of an image; arguments and errors as in `latent_shape`."""
        height, width, _ = self.latent_shape(size)
        return (-(-height // 4), -(-width // 4), self.hyper_channels)

    def highest_bpp(self, size: tuple[int, int]) -> float:
        """Bits per pixel of a latent whose values all have the largest scale, which no target may exceed.

        Arguments and errors as in `latent_shape`. A good model needs far fewer bits for each value: at 0.14
        bits per pixel the paper's spends 0.16.
        """
        height, width, channels = self.latent_shape(size)
        return height * width * channels * _LARGEST_SCALE_BITS / (size[0] * size[1])


_SMALLEST_LPIPS_IMAGE = 31
# Fields of config.train that do not apply to these networks, and the values that they must have.
_UNUSED = {
    "ema_decay": 0.0,
    "second_ema_decay": 0.0,
    "accumulation_steps": 1,
    "optimizer": "adamw",
    "max_seconds": 0.0,
    "low_rate_emphasis": 0.0,
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
        UsageError: another word, or two targets.
    """
    words = argument.split(",") if argument else []
    targets = [word for word in words if _is_target(word)]
    for word in words:
        if word not in targets:
            check_config_argument(word, ("smoke", HYPERPRIOR, "a rate like 0.5bpp"))
    if len(targets) > 1:
        raise UsageError(
            f"{' and '.join(targets)} are two rates behind the colon, and a network has one",
            field="--config",
        )
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
                "target_bpp": float(targets[0].removesuffix("bpp")) if targets else 0.5,
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
    """HiFiC for half an hour on two CPU cores: a quarter of the paper's channels, one residual block.

    Argument and errors are those of `hific_config`.
    """
    config = hific_config(argument, width=1 / 4, residual_blocks=1)
    if "smoke" in argument:
        return config
    config.model.latent_channels = 110
    config.hific.early_share = 0.1
    config.hific.adversarial_learning_rate = 3e-4
    if config.hific.adversarial_share:
        config.hific.adversarial_share = 0.4
    config.train.batch_size = 8
    config.train.num_steps = 24_000
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


def build_architecture(model: Mapping[str, Any]) -> HificArchitecture:
    """The networks that the fields of config.model describe.

    Raises:
        UsageError: a field that cannot be used.
    """
    fields = {field: value for field, value in model.items() if field != "name"}
    check_arguments(HificArchitecture.scaled, fields, "model", model["name"])
    try:
        return HificArchitecture.scaled(**fields)
    except UsageError as error:
        raise error.in_group("model") from error


def rate_target(config: ConfigDict, num_steps: int) -> RateTarget:
    """The rate that a run of `num_steps` updates is trained for.

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
        raise error.in_group("hific") from error


def validate(config: ConfigDict) -> None:
    """Checks the fields of config.model and config.hific, and what is fixed elsewhere.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    if "hific" not in config:
        raise UsageError(
            f"{config.model.name} needs the fields of config.hific; start from configs/hific64.py",
            field="model.name",
        )
    model, size = config.model, config.data.image_size
    architecture = build_architecture(model.to_dict())
    try:
        highest = architecture.highest_bpp((size, size))
    except UsageError as error:
        raise UsageError(error.message, field="data.image_size") from error
    for field in ("early_share", "adversarial_share"):
        within(f"hific.{field}", config.hific[field], 0.0, 1.0)
    above("hific.adversarial_learning_rate", config.hific.adversarial_learning_rate, 0.0)
    target = rate_target(config, num_steps=1)
    if target.target_bpp > highest:
        raise UsageError(
            f"{target.target_bpp} is not in (0, {highest:.3g}], what the latent can carry;"
            " use fewer model.downsamplings or more model.latent_channels",
            field="hific.target_bpp",
        )
    if model.name == HYPERPRIOR and config.hific.adversarial_share:
        raise UsageError(
            f"{config.hific.adversarial_share} must be 0, a hyper-prior has no discriminator",
            field="hific.adversarial_share",
        )
    if model.name == HIFIC and size < _SMALLEST_LPIPS_IMAGE:
        raise UsageError(
            f"{size} is too small for LPIPS, which HiFiC is trained with; use"
            f" {_SMALLEST_LPIPS_IMAGE} or more",
            field="data.image_size",
        )
    for field, value in _UNUSED.items():
        if config.train[field] != value:
            raise UsageError(
                f"{config.train[field]!r} must be {value!r} for {model.name}, which has no"
                " such thing",
                field=f"train.{field}",
            )
    if not isinstance(config.data.train, ConfigDict):
        raise UsageError(
            f"{model.name} is trained on one source, not on a mixture", field="data.train"
        )


def _is_target(word: str) -> bool:
    try:
        return word.endswith("bpp") and math.isfinite(float(word.removesuffix("bpp")))
    except ValueError:
        return False
