"""What others' networks of discrete-time diffusion (DDPM) are told of noise, and what they answer.

They take other pixels and other times than the rest of this project:

- their images are y = v / 127.5 - 1, ours x = (2 v + 1) / 256 - 1, hence y = (256 / 255) x exactly;
- their noise levels are the indices i of betas, with signal power abar(i), the product of 1 - beta over the
  steps 0 to i: gamma(i) = log((1 - abar(i)) / abar(i)).
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.models.base import Model, Variables
from diffc_jax.typed import Meta, one_of

_PIXEL_SCALE = 256.0 / 255.0
_LOG_SNR_SHIFT = 2.0 * math.log(_PIXEL_SCALE)
_LARGEST_BETA = 0.999  # of the cosine schedule

BETAS = ("linear", "scaled_linear", "cosine", "sigmoid")
PREDICTIONS = ("eps", "v", "x")
Steps = Annotated[int, Meta(ge=2, le=1 << 16)]


def to_their_pixels(
    z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
) -> tuple[Float[Array, "b h w c"], Float[Array, " b"]]:
    """Noisy x as noisy y with the same noise, and its noise level, 0.0078 higher.

    alpha x + sigma eps is (255/256) alpha y + sigma eps; scaled to unit power it is variance preserving.
    """
    theirs = gamma + _LOG_SNR_SHIFT
    ratio = process.sigma(theirs) / process.sigma(gamma)
    return process.per_image(ratio, z) * z, theirs


def index_gammas(name: str, steps: int, start: float, end: float) -> np.ndarray:
    """gamma(i) of all indices, increasing, float64 of shape (steps,).

    Args:
        name: of the betas: "linear"; "scaled_linear", whose roots are linear; "cosine", decreases of
            cos^2(pi/2 (t + 0.008) / 1.008), at most 0.999; or "sigmoid" from -6 to 6.
        steps: how many betas there are.
        start: the first beta; the cosine and the next argument have no use for each other.
        end: the last beta.

    Raises:
        UsageError: an unknown name, or betas outside (0, 1), as of fields of a model.
    """
    one_of("model.betas", name, BETAS)
    for field, beta in (("beta_start", start), ("beta_end", end)):
        if not 0.0 < beta < 1.0:
            raise UsageError(f"{beta} is not inside (0, 1)", field=f"model.{field}")
    match name:
        case "linear":
            betas = np.linspace(start, end, steps)
        case "scaled_linear":
            betas = np.linspace(start**0.5, end**0.5, steps) ** 2
        case "cosine":
            angles = (np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2
            signal = np.cos(angles) ** 2
            betas = np.minimum(1.0 - signal[1:] / signal[:-1], _LARGEST_BETA)
        case _:
            betas = start + (end - start) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, steps)))
    log_signal = np.cumsum(np.log1p(-betas))
    return np.log(-np.expm1(log_signal)) - log_signal


def index_at(gamma: Float[Array, " b"], gammas: np.ndarray) -> Float[Array, " b"]:
    """The index whose noise level is gamma, between two of `gammas` by linear interpolation.

    The networks were never trained between indices, but depend smoothly on them. Outside their range it is
    the nearest index.
    """
    return jnp.interp(
        gamma, jnp.asarray(gammas, jnp.float32), jnp.arange(len(gammas), dtype=jnp.float32)
    )


def time_embedding(
    time: Float[Array, " b"], width: int, sines_first: bool = False, shift: int = 0
) -> Float[Array, "b w"]:
    """Cosines, then sines, or the other way round, of `width // 2` angular frequencies from 1 down to 1e-4.

    With `shift` = 1 the last frequency is 1e-4, with 0 the one that would follow it.
    """
    half = width // 2
    frequencies = jnp.exp(-math.log(1e4) / (half - shift) * jnp.arange(half))
    angles = time[:, None] * frequencies[None]
    waves = [jnp.cos(angles), jnp.sin(angles)]
    return jnp.concatenate(waves[::-1] if sines_first else waves, axis=-1)


def eps_from_output(
    prediction: str,
    output: Float[Array, "b h w c"],
    y: Float[Array, "b h w c"],
    gamma: Float[Array, " b"],
) -> Float[Array, "b h w c"]:
    """The noise in y for an output that is eps, v = alpha eps - sigma x, or x, all of their images."""
    level = process.per_image(gamma, y)
    match prediction:
        case "v":
            return process.alpha(level) * output + process.sigma(level) * y
        case "x":
            return process.eps_from_x(y, output, gamma)
    return output


def discrete_time_model(
    name: str,
    network: nn.Module,
    image_shape: tuple[int, int, int],
    time: Callable[[Float[Array, " b"]], Float[Array, " b"]],
    prediction: str = "eps",
    centre_input: bool = False,
) -> Model:
    """The denoiser of a network that maps noisy y and a time to a prediction.

    Args:
        name: of the model.
        network: its outputs are the prediction, and perhaps as many others, which are not used.
        image_shape: height, width and channels.
        time: what the network is told about noise of level gamma on its own images.
        prediction: see `eps_from_output`.
        centre_input: the network is given 2 y - 1 instead of y.
    """

    def init(key: Key[Array, ""], statistics: Any) -> Variables:
        del statistics
        return network.init(key, jnp.zeros((1, *image_shape)), jnp.zeros(1))

    def eps_hat(
        variables: Variables, z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
    ) -> Float[Array, "b h w c"]:
        y, theirs = to_their_pixels(z, gamma)
        seen = 2.0 * y - 1.0 if centre_input else y
        outputs = cast(Array, network.apply({"params": variables["params"]}, seen, time(theirs)))
        return eps_from_output(prediction, outputs[..., : z.shape[-1]], y, theirs)

    return Model(
        name=name,
        init=init,
        eps_hat=eps_hat,
        train_eps_hat=lambda variables, z, gamma, key: eps_hat(variables, z, gamma),
    )
