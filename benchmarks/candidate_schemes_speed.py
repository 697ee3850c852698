"""Seconds that the schemes take to send what one 64x64 image needs at 1 bit per pixel.

    python benchmarks/candidate_schemes_speed.py

An image is 4096 bits of KL in 12288 dimensions, sent in steps. Near-exact Poisson functional representation
(PFR): --chunks chunks of k bits a step, 4096 / (chunks k) steps; each candidate takes a normal for each
dimension, and how many candidates a chunk needs grows fast with k. The truncated race has 2^(k+2) candidates.
Trellis: one path of K bits a step. A few steps of an image are measured (median over --rounds after one that
compiles, --batch messages at once) and multiplied by the number of steps; network calls are not counted.
Two cores: `taskset -c 0,1 python benchmarks/candidate_schemes_speed.py`.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from diffc_jax import cli
from diffc_jax.channel_simulation.candidate_schemes import poisson_channel
from diffc_jax.channel_simulation.channel import Channel
from diffc_jax.channel_simulation.dithered import DitheredChannel
from diffc_jax.channel_simulation.trellis import TrellisChannel

_BITS = flags.DEFINE_float("bits", 4096.0, "KL of an image.", lower_bound=1.0)
_SIZE = flags.DEFINE_integer("size", 12288, "Dimensions of an image.", lower_bound=1)
_CHUNKS = flags.DEFINE_integer("chunks", 12, "Chunks of a step.", lower_bound=1)
_CHUNK_BITS = flags.DEFINE_multi_float("chunk_bits", [2.0, 3.3, 5.0], "k; repeatable.")
_PATH_BITS = flags.DEFINE_multi_integer("path_bits", [64, 256], "K of the trellis; repeatable.")
_MEMORY = flags.DEFINE_integer("memory", 10, "Bits of the trellis's register.", lower_bound=3)
_TAIL = flags.DEFINE_float("tail", 1e-3, "Probability of a later winner.")
_BATCH = flags.DEFINE_integer("batch", 2, "Messages at once.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed batches.", lower_bound=1)


def measure(name: str, channel: Channel, step_bits: float) -> None:
    """Prints a line for one scheme, whose steps carry `step_bits` bits of KL."""
    random, batch = np.random.default_rng(0), _BATCH.value
    seconds, sent = [], []
    for _ in range(1 + _ROUNDS.value):
        keys = jnp.asarray(random.integers(0, 1 << 32, (batch, 2), dtype=np.uint32))
        mu = random.standard_normal((batch, channel.size))
        mu *= np.sqrt(2 * np.log(2) * step_bits) / np.linalg.norm(mu, axis=1, keepdims=True)
        begin = time.perf_counter()
        indices, _ = jax.block_until_ready(channel.encode(keys, jnp.asarray(mu, jnp.float32)))
        data = channel.to_bytes(indices)
        seconds.append((time.perf_counter() - begin) / batch)
        sent.append(8 * len(data) / batch)
    steps, step = _BITS.value / step_bits, statistics.median(seconds[1:])
    overhead = statistics.mean(sent[1:]) / step_bits - 1
    print(
        f"{name:<28}{step_bits:10.1f}{steps:8.1f}{step:14.4f}{steps * step:14.2f}{overhead:+12.0%}",
        flush=True,
    )


def main() -> None:
    size, chunks = _SIZE.value, _CHUNKS.value
    print(
        f"{_BITS.value:g} bits in {size} dimensions, {jax.devices()[0].device_kind}, encoder only"
    )
    print(
        f"{'scheme':<28}{'bits/step':>10}{'steps':>8}{'seconds/step':>14}{'seconds/image':>14}"
        f"{'bits over KL':>13}"
    )
    for bits in _PATH_BITS.value:
        trellis = TrellisChannel(size, bits, _MEMORY.value)
        measure(f"trellis {bits}, memory {_MEMORY.value}", trellis, trellis.ideal_rate)
    measure("dithered", DitheredChannel(size, _BITS.value / 64), _BITS.value / 64)
    for k in _CHUNK_BITS.value:
        truncated = poisson_channel(size, chunks, k, tail=0.0, candidates=round(2 ** (k + 2)))
        measure(f"PFR truncated, k = {k:g}", truncated, k * chunks)
    for k in _CHUNK_BITS.value:
        exact = poisson_channel(size, chunks, k, tail=_TAIL.value)
        measure(f"PFR tail {_TAIL.value:g}, k = {k:g}", exact, k * chunks)


if __name__ == "__main__":
    cli.run(main)
