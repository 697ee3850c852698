"""Rows of channel_simulation/schemes.csv: one scheme at one setting, simulated or run for real.

A unit is what a scheme sends on its own: a chunk, or a whole message. Columns:

  - scheme, setting; source: "race" (simulated in one dimension, ideal length of the code) or "channel" (the
    scheme's class, real bytes);
  - kl_bits: KL of a unit; bits: what was sent for it, with its standard error; overhead: bits / kl_bits - 1;
    credited_overhead: the same over the KL of the shift that arrives, (shift |mu|)^2 / (2 ln 2);
  - zipf_bits: with the Zipf code instead; exact_table_bits: with the table for exact samples;
  - shift: mean projection of the sample on mu over |mu|; variance_along and variance_orthogonal: of the
    sample, by dimension; ks_along and ks_orthogonal: distances from N(0, 1), beside those that as many true
    samples have on average (`_true`);
  - log2_candidates: of the mean number of candidates looked at for a unit; units: how many were measured;
  - size, chunks: of a message; encode_seconds, decode_seconds: of a message, medians over batches.

None where it does not apply.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32
from scipy import stats

from diffc_jax import rng
from diffc_jax.channel_simulation.candidates import CandidateChannel
from diffc_jax.channel_simulation.candidates_distribution import ordered_winner, poisson_winner
from diffc_jax.channel_simulation.channel import Channel, sample_statistics
from diffc_jax.channel_simulation.dithered import DitheredChannel
from diffc_jax.channel_simulation.index_codes import FixedCode, IndexCode, digits_code, zipf_code
from diffc_jax.channel_simulation.minimal import minimal_channel
from diffc_jax.channel_simulation.ordered import ordered_channel
from diffc_jax.channel_simulation.pfr import poisson_channel
from diffc_jax.channel_simulation.rotation import rotate, unrotate
from diffc_jax.channel_simulation.trellis import TrellisChannel
from diffc_jax.studies.channel_comparison.races import Winners, bounded_races, near_exact_race

Row = dict[str, Any]
BOUNDED = ("poisson_truncated", "ordered", "minimal")
FIELDS = (
    *("scheme", "setting", "source", "kl_bits", "bits", "bits_stderr", "overhead"),
    *("credited_overhead", "zipf_bits", "exact_table_bits", "shift", "shift_stderr"),
    *("variance_along", "variance_orthogonal", "ks_along", "ks_along_true", "ks_orthogonal"),
    *("ks_orthogonal_true", "log2_candidates", "units", "size", "chunks"),
    *("encode_seconds", "decode_seconds"),
)
# Mean of the Kolmogorov-Smirnov distance of n true samples, times the root of n.
_TRUE_KS = float(np.sqrt(np.pi / 2) * np.log(2))
_LARGEST_INDEX = 2.0**62
_rotate, _unrotate = jax.jit(rotate), jax.jit(unrotate)


def near_exact_race_rows(
    *, kl_bits: int | float, tail: int | float, count: int, seed: int
) -> list[Row]:
    """The Poisson functional representation, exact but for `tail`."""
    generator = _generator(seed, f"near_exact/{kl_bits}")
    winners = near_exact_race(kl_bits, tail, count, generator)
    code = digits_code(poisson_winner(kl_bits).digits)
    return [_race_row("poisson", f"tail {tail:g}", kl_bits, winners, code)]


def bounded_race_rows(
    *, kl_bits: int | float, extra_bits: int, count: int, normals: int | float, seed: int
) -> list[Row]:
    """The bounded schemes, on the same candidates."""
    digits = _candidate_bits(kl_bits, extra_bits)
    candidates = 1 << digits
    count = max(2, min(count, int(normals / candidates)))
    generator = _generator(seed, f"bounded/{kl_bits}/{extra_bits}")
    codes: dict[str, IndexCode] = {
        "poisson_truncated": digits_code(poisson_winner(kl_bits, candidates).digits),
        "ordered": digits_code(ordered_winner(kl_bits, candidates).digits),
        "minimal": FixedCode(digits),
    }
    return [
        _race_row(scheme, f"2^(k+{extra_bits}) candidates", kl_bits, winners, codes[scheme])
        for scheme, winners in bounded_races(kl_bits, candidates, count, generator).items()
    ]


def near_exact_channel_rows(
    *, kl_bits: int | float, tail: int | float, chunks: int, **messages: int
) -> list[Row]:
    """The Poisson functional representation on whole messages."""
    channel = poisson_channel(messages["size"], chunks, kl_bits, tail=tail)
    return [_chunked_row("poisson", f"tail {tail:g}", channel, kl_bits, **messages)]


def bounded_channel_rows(
    *, scheme: str, kl_bits: int | float, extra_bits: int, chunks: int, **messages: int
) -> list[Row]:
    """A bounded scheme on whole messages."""
    size, digits = messages["size"], _candidate_bits(kl_bits, extra_bits)
    candidates = 1 << digits
    channels: dict[str, Callable[[], CandidateChannel]] = {
        "poisson_truncated": lambda: poisson_channel(
            size, chunks, kl_bits, tail=0.0, candidates=candidates
        ),
        "ordered": lambda: ordered_channel(size, chunks, kl_bits, candidates),
        "minimal": lambda: minimal_channel(size, chunks, digits),
    }
    row = _chunked_row(
        scheme, f"2^(k+{extra_bits}) candidates", channels[scheme](), kl_bits, **messages
    )
    return [row | {"log2_candidates": float(digits)}]


def dithered_rows(*, kl_bits: int | float, size: int, **messages: int) -> list[Row]:
    """Universal quantisation."""
    channel = DitheredChannel(size, kl_bits)
    return [_whole_row("dithered", "step sqrt(12)", channel, kl_bits, **messages)]


def trellis_rows(*, path_bits: int, memory: int, size: int, **messages: int) -> list[Row]:
    """The trellis-coded random codebook at the longest mu that it sends without bias."""
    channel = TrellisChannel(size, path_bits, memory)
    return [_whole_row("trellis", f"memory {memory}", channel, channel.ideal_rate, **messages)]


def _race_row(
    scheme: str, setting: str, kl_bits: int | float, winners: Winners, code: IndexCode
) -> Row:
    index = np.minimum(winners.index, _LARGEST_INDEX).astype(np.int64)
    fixed = scheme == "minimal"
    row = _row(scheme, setting, "race", kl_bits, code.lengths(index), winners.along)
    exact = digits_code(poisson_winner(kl_bits).digits)
    return row | {
        "zipf_bits": None if fixed else float(zipf_code(kl_bits).lengths(index).mean()),
        "exact_table_bits": None if fixed else float(exact.lengths(index).mean()),
        "log2_candidates": float(np.log2(winners.candidates.mean())),
    }


def _chunked_row(
    scheme: str,
    setting: str,
    channel: CandidateChannel,
    kl_bits: int | float,
    *,
    messages: int,
    batch: int,
    seed: int,
    size: int,
) -> Row:
    keys, directions = _messages(messages, size, seed)
    aims = np.asarray(_rotate(keys, directions)).reshape(messages, channel.chunks, -1)
    aims = aims / np.linalg.norm(aims, axis=2, keepdims=True) * _length(kl_bits)
    mu = _unrotate(keys, jnp.asarray(aims.reshape(messages, size)))
    sent = _Sent(channel, keys, mu, batch)
    noise = np.asarray(_rotate(keys, sent.sample)).reshape(aims.shape) - aims
    along = np.sum(noise * aims, axis=2).ravel() / _length(kl_bits)
    bits = np.full(along.size, sent.bits / along.size)
    row = _row(scheme, setting, "channel", kl_bits, bits, along)
    return row | sent.columns() | {"chunks": channel.chunks, "bits_stderr": None}


def _whole_row(
    scheme: str,
    setting: str,
    channel: Channel,
    kl_bits: int | float,
    *,
    messages: int,
    batch: int,
    seed: int,
) -> Row:
    keys, directions = _messages(messages, channel.size, seed)
    mu = directions * _length(kl_bits)
    sent = _Sent(channel, keys, mu, batch)
    projection = np.sum(np.asarray(mu, np.float64) * np.asarray(sent.sample), axis=1)
    along = projection / _length(kl_bits) - _length(kl_bits)
    bits = np.full(messages, sent.bits / messages)
    row = _row(scheme, setting, "channel", kl_bits, bits, along)
    return row | sent.columns() | {"chunks": 1, "bits_stderr": None}


class _Sent:
    """Messages that went through a channel batch by batch, and bits of all of them in one stream."""

    def __init__(
        self,
        channel: Channel,
        keys: UInt32[Array, "b 2"],
        mu: Float[Array, "b m"],
        batch: int,
    ):
        jax.block_until_ready(channel.encode(keys[:batch], mu[:batch]))
        self._seconds, self._mu = [], mu
        found, samples = [], []
        for start in range(0, len(mu), batch):
            part = slice(start, start + batch)
            begin = time.perf_counter()
            indices, sample = jax.block_until_ready(channel.encode(keys[part], mu[part]))
            data = channel.to_bytes(indices)
            middle = time.perf_counter()
            channel.decode(keys[part], channel.from_bytes(data, batch)).block_until_ready()
            times = middle - begin, time.perf_counter() - middle
            self._seconds.append([seconds / batch for seconds in times])
            found.append(np.asarray(indices))
            samples.append(sample)
        self.bits = 8 * len(channel.to_bytes(np.concatenate(found)))
        self.sample = jnp.concatenate(samples)

    def columns(self) -> Row:
        """What is measured on whole messages."""
        law = sample_statistics(self._mu, self.sample)
        encode, decode = np.median(self._seconds, axis=0)
        return {
            "variance_orthogonal": law.variance,
            "ks_orthogonal": law.orthogonal_ks,
            "ks_orthogonal_true": _TRUE_KS / self._mu.size**0.5,
            "size": self._mu.shape[1],
            "encode_seconds": float(encode),
            "decode_seconds": float(decode),
        }


def _row(
    scheme: str,
    setting: str,
    source: str,
    kl_bits: int | float,
    bits: Float[np.ndarray, " n"],
    along: Float[np.ndarray, " n"],
) -> Row:
    """The columns that all have, None for the others."""
    root, length, sent = len(along) ** 0.5, _length(kl_bits), float(bits.mean())
    shift = float(1 + along.mean() / length)
    return dict.fromkeys(FIELDS) | {
        "scheme": scheme,
        "setting": setting,
        "source": source,
        "kl_bits": kl_bits,
        "bits": sent,
        "bits_stderr": float(bits.std() / root),
        "overhead": sent / kl_bits - 1,
        "credited_overhead": sent / (shift**2 * kl_bits) - 1,
        "shift": shift,
        "shift_stderr": float(along.std() / root / length),
        "variance_along": float(along.var()),
        "ks_along": float(stats.kstest(along, "norm").statistic),
        "ks_along_true": _TRUE_KS / root,
        "units": len(along),
    }


def _messages(
    number: int, size: int, seed: int
) -> tuple[UInt32[Array, "b 2"], Float[Array, "b m"]]:
    """Keys, and random directions."""
    generator = _generator(seed, f"messages/{size}")
    keys = generator.integers(0, 1 << 32, (number, 2), dtype=np.uint32)
    directions = generator.standard_normal((number, size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return jnp.asarray(keys), jnp.asarray(directions, jnp.float32)


def _candidate_bits(kl_bits: int | float, extra_bits: int) -> int:
    return int(np.ceil(kl_bits + extra_bits))


def _length(kl_bits: int | float) -> float:
    return float(np.sqrt(2 * np.log(2) * kl_bits))


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(rng.numpy_seed(seed, f"channel_simulation/{name}"))
