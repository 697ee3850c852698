"""What HiFiC minimises: rate at a target, squared error, LPIPS and an adversarial term.

The weights are those of Mentzer et al. 2020 and of its code in tensorflow/compression, multiplied out:
lambda' R + k_M MSE + k_P LPIPS + beta GAN with R in bits per pixel and the MSE of values 0 to 255.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffc_jax.errors import UsageError

Images = Float[Array, "b h w 3"]
Distance = Callable[[Images, Images], Float[Array, " b"]]

# In the first steps, see RateTarget.
_EARLY_TARGET_FACTOR = 0.20 / 0.14
_EARLY_WEIGHT_FACTOR = 0.5


@dataclasses.dataclass(frozen=True)
class RateTarget:
    """A rate that training holds by switching the weight of the rate term.

    Attributes:
        target_bpp: bits per pixel, above 0.
        weight_above: lambda_a, the weight while the rate is above the target. The paper has 2, 1 and 0.5 at
            0.14, 0.30 and 0.45 bits per pixel. It must exceed the slope of the other terms at the target,
            or the rate settles above it; slopes are steeper the smaller the images.
        weight_below: lambda_b, the weight while it is below.
        early_steps: number of first steps that aim at 10/7 of the target with half the weight.
    """

    target_bpp: float
    weight_above: float = 2.0
    weight_below: float = 2.0**-6
    early_steps: int = 50_000

    def __post_init__(self) -> None:
        if not 0 < self.target_bpp < float("inf"):
            raise UsageError(f"{self.target_bpp} must be positive and finite", field="target_bpp")
        if not 0 < self.weight_below < self.weight_above:
            raise UsageError(
                f"{self.weight_below} must be positive and less than weight_above,"
                f" {self.weight_above}",
                field="weight_below",
            )
        if self.early_steps < 0:
            raise UsageError(f"{self.early_steps} must not be negative", field="early_steps")

    def weight(self, bpp: Float[Array, ""], step: Int[Array, ""] | int) -> Float[Array, ""]:
        """The weight, lambda', of a batch.

        Args:
            bpp: rate of the batch with quantised values, bits per pixel.
            step: number of finished updates.
        """
        early = jnp.asarray(step) < self.early_steps
        target = self.target_bpp * jnp.where(early, _EARLY_TARGET_FACTOR, 1.0)
        weight = jnp.where(bpp > target, self.weight_above, self.weight_below)
        return weight * jnp.where(early, _EARLY_WEIGHT_FACTOR, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights k_M, k_P and beta of the terms other than the rate; a term of weight 0 is not computed."""

    mse: float = 0.075 * 2.0**-5
    lpips: float = 1.0
    gan: float = 0.15


# The plain hyper-prior, HiFiC before and with its discriminator.
HYPERPRIOR = LossWeights(lpips=0.0, gan=0.0)
FIRST_STAGE = LossWeights(gan=0.0)
SECOND_STAGE = LossWeights()


def autoencoder_loss(
    weights: LossWeights,
    rate_weight: Float[Array, ""],
    bpp: Float[Array, ""],
    images: Images,
    reconstructions: Images,
    lpips: Distance | None = None,
    fake_logits: Float[Array, "..."] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """What encoder, generator and entropy models minimise, and its terms.

    Args:
        weights: of the terms.
        rate_weight: lambda', from `RateTarget.weight`.
        bpp: differentiable rate of the batch, bits per pixel.
        images: with values in [0, 1].
        reconstructions: of the images, not clipped.
        lpips: distance of images with values in [-1, 1]; needed if its weight is not 0.
        fake_logits: of the discriminator for the reconstructions; needed if the weight is not 0.

    Returns:
        The loss, and its terms before they are weighted: `mse`, `lpips` and `gan`, those in use.
    """
    mse = jnp.square(255.0 * (images - reconstructions)).mean()
    loss, terms = rate_weight * bpp + weights.mse * mse, {"mse": mse}
    if weights.lpips:
        assert lpips is not None
        terms["lpips"] = lpips(2.0 * reconstructions - 1.0, 2.0 * images - 1.0).mean()
        loss += weights.lpips * terms["lpips"]
    if weights.gan:
        assert fake_logits is not None
        terms["gan"] = jax.nn.softplus(-fake_logits).mean()
        loss += weights.gan * terms["gan"]
    return loss, terms


def discriminator_loss(
    real_logits: Float[Array, "..."], fake_logits: Float[Array, "..."]
) -> Float[Array, ""]:
    """Cross entropy of the discriminator, in nats a patch: 2 ln 2 for one that cannot tell."""
    return jax.nn.softplus(-real_logits).mean() + jax.nn.softplus(fake_logits).mean()
