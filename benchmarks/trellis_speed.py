"""Speed of both trellis-coded random codebooks on this machine, and the distribution of version 1's samples.

    python benchmarks/trellis_speed.py --batch=16
    python benchmarks/trellis_speed.py --messages=0

First, for each number of path bits and batch size, milliseconds a message of version 1's
`TrellisChannel.encode`, and of `search` and `decode` of the open trellis, which is version 2's. All are
called in turns, so that what else the machine does meets all of them. `encode` decodes, too. Times are
medians and, in brackets, the least of all rounds, which says more on a busy machine. The end of a line says
how many times as fast as `encode` a search is, alone and with its decoding: the median over the rounds, and
in brackets the ratio of the least times. bits/KL is K over the ideal rate of the longest mu that is sent
without bias.

Then, unless --messages=0, a block for each setting of version 1: seconds to compile encoding and decoding,
milliseconds a message to encode and to decode, alone and in a batch; then what samples are like for |mu| at
shares of the longest mu that is sent without bias (`TrellisChannel.reach`). "exact" is what true samples
have. `orthogonal_ks` of pooled coordinates and `projection_ks` are Kolmogorov-Smirnov distances from N(0, 1).
"""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Float, UInt32
from shared import first_and_median_seconds

from diffc_jax import cli
from diffc_jax.channel_simulation.bits import random_words
from diffc_jax.channel_simulation.channel import SampleStatistics, ideal_rate, sample_statistics
from diffc_jax.channel_simulation.open_trellis import OpenTrellis
from diffc_jax.channel_simulation.open_trellis_reach import MOST_BITS, REACH_BITS, mean_projections
from diffc_jax.channel_simulation.trellis import TrellisChannel

_SIZE = flags.DEFINE_integer("size", 12288, "Dimensions of a message.", lower_bound=32)
_PATH_BITS = flags.DEFINE_multi_integer("path_bits", [64, 256], "Bits of a message; repeatable.")
_MEMORY = flags.DEFINE_multi_integer(
    "memory", [12], "Bits of version 1's register; repeatable. The codec of version 1 has 12."
)
_OPEN_MEMORY = flags.DEFINE_multi_integer(
    "open_memory", [12, 14], "Bits of the open trellis' register, 8, 12 or 14; repeatable."
)
_BATCH = flags.DEFINE_integer("batch", 16, "Messages in a batch.", lower_bound=1)
_MESSAGES = flags.DEFINE_integer("messages", 256, "Messages that are judged.", lower_bound=0)
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Timed calls of each function.", lower_bound=1)
SHARES = (1.0, 0.95, 0.7, 0.3, 0.0)


def messages(
    channel: TrellisChannel, number: int, share: float = 1.0
) -> tuple[UInt32[Array, "b 2"], Float[Array, "b m"]]:
    """Keys, and random means of length `share` * `reach`."""
    keys = random_words(jnp.zeros((1, 2), jnp.uint32), 0, number)[0]
    mu = jax.random.normal(jax.random.key(1), (number, channel.size))
    return keys, mu * (share * channel.reach / jnp.linalg.norm(mu, axis=1, keepdims=True))


def seconds_in_turns(
    functions: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, Float[np.ndarray, " rounds"]]:
    """Seconds of each function in each round, which calls one after the other."""
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - begin)
    return {name: np.array(values) for name, values in seconds.items()}


def open_bits_over_kl(path_bits: int, memory: int) -> float:
    """Path bits of the open trellis over the ideal rate of how far they reach."""
    reach = mean_projections(memory)[path_bits] / (1 << REACH_BITS)
    return path_bits / (reach**2 / (2 * np.log(2)))


def print_comparison(path_bits: int, batch: int) -> None:
    """Both schemes in turns."""
    channels = [TrellisChannel(_SIZE.value, path_bits, memory) for memory in _MEMORY.value]
    most = min(MOST_BITS, _SIZE.value)
    trellises = [OpenTrellis(_SIZE.value, memory, most) for memory in _OPEN_MEMORY.value]
    keys, mu = messages(channels[0], batch)
    k = jnp.full(batch, path_bits, jnp.int32)
    functions: dict[str, Callable[[], Any]] = {}
    for channel in channels:
        _, own = messages(channel, batch)
        functions[f"version 1, {channel.memory}"] = lambda c=channel, m=own: c.encode(keys, m)
    for trellis in trellises:
        name, paths = f"open, {trellis.memory}", trellis.search(keys, mu, k)
        functions[name] = lambda t=trellis: t.search(keys, mu, k)
        functions[name + " decode"] = lambda t=trellis, p=paths: t.decode(keys, p, k)
    seconds = seconds_in_turns(functions, _ROUNDS.value)
    milliseconds = {name: 1e3 / batch * values for name, values in seconds.items()}
    print(f"K = {path_bits}, batch {batch}: ms a message, median (least)", flush=True)
    for channel in channels:
        encode = milliseconds[f"version 1, {channel.memory}"]
        ratio = path_bits / channel.ideal_rate
        print(f"  version 1, memory {channel.memory}: bits/KL {ratio:.3f}, encode {shown(encode)}")
    first = milliseconds[f"version 1, {channels[0].memory}"]
    for trellis in trellises:
        search = milliseconds[f"open, {trellis.memory}"]
        decode = milliseconds[f"open, {trellis.memory} decode"]
        alone, both = faster(first, search), faster(first, search + decode)
        print(
            f"  open,      memory {trellis.memory}: "
            f"bits/KL {open_bits_over_kl(path_bits, trellis.memory):.3f}, search {shown(search)}, "
            f"decode {shown(decode)}; {alone}, with decode {both} times as fast",
            flush=True,
        )


def shown(milliseconds: Float[np.ndarray, " rounds"]) -> str:
    """Median and least."""
    return f"{statistics.median(milliseconds):.2f} ({milliseconds.min():.2f})"


def faster(old: Float[np.ndarray, " rounds"], new: Float[np.ndarray, " rounds"]) -> str:
    """Median ratio of a round, and the ratio of the least."""
    return f"{statistics.median(old / new):.1f} ({old.min() / new.min():.1f})"


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
    for share in SHARES if number else ():
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
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"M = {_SIZE.value}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores, load {load}")
    for path_bits in _PATH_BITS.value:
        for batch in sorted({1, _BATCH.value}):
            print_comparison(path_bits, batch)
    for path_bits in _PATH_BITS.value if _MESSAGES.value else ():
        for memory in _MEMORY.value:
            channel = TrellisChannel(_SIZE.value, path_bits, memory)
            print(f"K = {path_bits}, memory {memory}, reach {channel.reach:.3f}", flush=True)
            print_speed(channel)
            print_distribution(channel)


if __name__ == "__main__":
    cli.run(main)
