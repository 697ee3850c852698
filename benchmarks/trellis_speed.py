"""Speed of the trellis-coded random codebook on this machine, and the distribution of its samples.

    python benchmarks/trellis_speed.py --batch=16

Each block is one setting: seconds to compile encoding and decoding, milliseconds a message to encode (which
decodes, too) and to decode, alone and in a batch; then what samples are like for |mu| at shares of the
longest mu that is sent without bias (`TrellisChannel.reach`). "exact" is what true samples have.
`orthogonal_ks` of pooled coordinates and `projection_ks` are Kolmogorov-Smirnov distances from N(0, 1).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Float, UInt32
from shared import first_and_median_seconds

from diffc_jax import cli
from diffc_jax.channel_simulation.bits import random_words
from diffc_jax.channel_simulation.channel import SampleStatistics, ideal_rate, sample_statistics
from diffc_jax.channel_simulation.trellis import TrellisChannel

_SIZE = flags.DEFINE_integer("size", 12288, "Dimensions of a message.", lower_bound=32)
_PATH_BITS = flags.DEFINE_multi_integer("path_bits", [64, 256], "Bits of a message; repeatable.")
_MEMORY = flags.DEFINE_multi_integer("memory", [10, 12], "Bits of the register; repeatable.")
_BATCH = flags.DEFINE_integer("batch", 16, "Messages in a batch.", lower_bound=1)
_MESSAGES = flags.DEFINE_integer("messages", 256, "Messages that are judged.", lower_bound=2)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed calls of each function.", lower_bound=1)
SHARES = (1.0, 0.95, 0.7, 0.3, 0.0)


def messages(
    channel: TrellisChannel, number: int, share: float = 1.0
) -> tuple[UInt32[Array, "b 2"], Float[Array, "b m"]]:
    """Keys, and random means of length `share` * `reach`."""
    keys = random_words(jnp.zeros((1, 2), jnp.uint32), 0, number)[0]
    mu = jax.random.normal(jax.random.key(1), (number, channel.size))
    return keys, mu * (share * channel.reach / jnp.linalg.norm(mu, axis=1, keepdims=True))


def print_speed(channel: TrellisChannel) -> None:
    for batch in (1, _BATCH.value):
        keys, mu = messages(channel, batch)
        first_encode, encode = first_and_median_seconds(
            lambda k=keys, m=mu: channel.encode(k, m)[0], _ROUNDS.value
        )
        indices, _ = channel.encode(keys, mu)
        jax.clear_caches()
        first_decode, decode = first_and_median_seconds(
            lambda k=keys, i=indices: channel.decode(k, i), _ROUNDS.value
        )
        print(
            f"  batch {batch:3}: encode {1e3 * encode / batch:7.2f} ms,"
            f" decode {1e3 * decode / batch:6.2f} ms a message;"
            f" first calls {first_encode:.2f} s and {first_decode:.2f} s",
            flush=True,
        )


def print_distribution(channel: TrellisChannel) -> None:
    names = [field.name for field in dataclasses.fields(SampleStatistics)]
    print(f"  {'|mu|/reach':>10}{'bits/KL':>9}" + "".join(f"{name:>14}" for name in names))
    print(f"  {'exact':>10}{'':9}" + "".join(f"{value:14}" for value in (1, 0, 1, 0, 1, 3, 0, 0)))
    batch, number = _BATCH.value, _MESSAGES.value // _BATCH.value * _BATCH.value
    for share in SHARES:
        keys, mu = messages(channel, number, share)
        samples = [
            channel.encode(keys[i : i + batch], mu[i : i + batch])[1]
            for i in range(0, number, batch)
        ]
        found = sample_statistics(mu, np.concatenate(samples))
        ratio = channel.path_bits / np.mean(ideal_rate(mu)) if share else np.inf
        values = "".join(f"{getattr(found, name):14.4f}" for name in names)
        print(f"  {share:10.2f}{ratio:9.3f}{values}", flush=True)


def main() -> None:
    print(f"M = {_SIZE.value}, {jax.devices()[0].device_kind}")
    for path_bits in _PATH_BITS.value:
        for memory in _MEMORY.value:
            channel = TrellisChannel(_SIZE.value, path_bits, memory)
            print(f"K = {path_bits}, memory {memory}, reach {channel.reach:.3f}", flush=True)
            print_speed(channel)
            print_distribution(channel)


if __name__ == "__main__":
    cli.run(main)
