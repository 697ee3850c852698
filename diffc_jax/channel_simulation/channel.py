"""What every scheme that communicates a Gaussian sample looks like, and how its samples are judged.

A step of the codec has to send a sample of q(z_s | z_t, x). Standardised by p(z_s | z_t), which both
sides know, that is a sample of N(mu, I) where N(0, I) is what the receiver expects; its ideal
rate is KL = |mu|^2 / 2 nats (paper, section 3; Theis & Yosri 2022 call the task reverse channel coding).
"""

import dataclasses
import math
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt32

Number = TypeVar("Number", float, Array)


@runtime_checkable
class Channel(Protocol):
    """Communicates samples of N(mu, I) against N(0, I) with shared randomness.

    Messages come in batches, but each is a function of its own key and mu alone: batch size and position
    do not matter. Both sides hold the same keys, one for each message (`bits`), and use none twice.
    `indices` is an integer array, messages along its first axis.

    Attributes:
        size: M, the number of dimensions of a message.
    """

    @property
    def size(self) -> int: ...  # noqa: D102

    def encode(
        self, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
    ) -> tuple[Any, Float[Array, "b m"]]:
        """Draws a sample for each mu and says which.

        Args:
            keys: shared randomness, one key for each message.
            mu: finite means of the target; the target's and the receiver's variance is 1.

        Returns:
            indices: what to send.
            sample: what the receiver will decode.
        """
        ...

    def decode(self, keys: UInt32[Array, "b 2"], indices: Any) -> Float[Array, "b m"]:
        """The samples that `encode` returned, bit for bit, from the same keys and its indices."""
        ...

    def to_bytes(self, indices: Any) -> bytes:
        """All messages of the batch as one stream."""
        ...

    def from_bytes(self, data: bytes, count: int) -> Any:
        """The indices of `count` messages: the exact inverse of `to_bytes`.

        Raises:
            InputError: data is not the stream of `count` messages.
        """
        ...


def check_dimensions(mu: Float[Array, "b m"], size: int) -> None:
    """Raises ValueError unless every mu is `size` long."""
    if mu.shape[1] != size:
        raise ValueError(f"mu has {mu.shape[1]} dimensions, messages have {size}")


def check_means(mu: Float[Array, "b m"], size: int) -> None:
    """Raises ValueError unless there are messages, `size` long and finite, which tracing cannot know."""
    check_dimensions(mu, size)
    if not len(mu):
        raise ValueError("mu has no messages")
    if not isinstance(mu, jax.core.Tracer) and not bool(jnp.isfinite(mu).all()):
        raise ValueError("mu is not finite")


def ideal_rate(mu: Num[Array | np.ndarray, "b m"]) -> Float[Array, " b"]:
    """KL[N(mu, I) || N(0, I)], what an ideal scheme spends on each message, in bits (paper, section 3)."""
    mu = jnp.asarray(mu)
    mu = mu.astype(jnp.promote_types(mu.dtype, jnp.float32))
    return rate_of_energy(jnp.sum(mu**2, axis=-1))


def rate_of_energy(energy: Number) -> Number:
    """The ideal rate of messages with |mu|^2 = `energy`, in bits."""
    return energy / (2 * math.log(2))


def length_of_rate(bits: int | float) -> float:
    """|mu| of messages with an ideal rate of so many bits."""
    return math.sqrt(2 * math.log(2) * bits)


@dataclasses.dataclass(frozen=True)
class SampleStatistics:
    """Statistics of samples against N(mu, I); in brackets what true samples have.

    The projection is that of the sample on the direction of mu, the noise is the sample minus mu.

    Attributes:
        shift: mean projection over mean |mu| (1: unbiased); NaN if every mu is zero.
        bias: mean of the projection minus |mu| (0).
        spread: standard deviation over the messages of the projection minus |mu| (1).
        projection_ks: Kolmogorov-Smirnov distance of the projections minus |mu| from N(0, 1)
            (about 0.87 over the root of the number of messages).
        variance: mean square of the noise per dimension orthogonal to mu (1).
        kurtosis: fourth moment over squared second moment of single coordinates of the noise (3).
        correlation: between neighbouring coordinates of the noise (0).
        orthogonal_ks: Kolmogorov-Smirnov distance of the coordinates of the noise, without its component
            along mu, from N(0, 1) (in many dimensions about 0.87 over the root of their number).
    """

    shift: float
    bias: float
    spread: float
    projection_ks: float
    variance: float
    kurtosis: float
    correlation: float
    orthogonal_ks: float


def sample_statistics(
    mu: Float[np.ndarray | Array, "b m"], sample: Float[np.ndarray | Array, "b m"]
) -> SampleStatistics:
    """Measures samples, one for each mu, of at least two dimensions.

    Where mu is zero the first axis stands for its direction. `kurtosis` and `correlation` pool all
    coordinates of all messages, so that their standard errors are about 4.9 and 1 over the root of their
    number.
    """
    # Takes as long to load as all the codec, which needs the rest of this module.
    from scipy.stats import kstest

    mu, sample = np.asarray(mu, np.float64), np.asarray(sample, np.float64)
    length = np.linalg.norm(mu, axis=1, keepdims=True)
    first_axis = np.eye(1, mu.shape[1])
    direction = np.where(length > 0, mu / np.where(length > 0, length, 1), first_axis)
    projection = np.sum(direction * sample, axis=1, keepdims=True)
    along = projection - length
    noise = sample - mu
    orthogonal = noise - along * direction
    power = np.mean(noise**2)
    return SampleStatistics(
        shift=float(projection.mean() / length.mean()) if length.any() else float("nan"),
        bias=float(along.mean()),
        spread=float(along.std()),
        projection_ks=float(kstest(along.ravel(), "norm").statistic),
        variance=float(np.mean(np.sum(orthogonal**2, axis=1)) / (mu.shape[1] - 1)),
        kurtosis=float(np.mean(noise**4) / power**2),
        correlation=float(np.mean(noise[:, 1:] * noise[:, :-1]) / power),
        orthogonal_ks=float(kstest(orthogonal.ravel(), "norm").statistic),
    )
