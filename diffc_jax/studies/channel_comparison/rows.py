"""Rows of channel_simulation/schemes.csv: one scheme at one setting, simulated or measured.

A unit is what a scheme sends on its own: a chunk, or a whole message. Columns:

  - scheme, setting; source: "race" (simulated in one dimension, ideal length of the code), "channel" (the
    scheme's class, real bytes) or "theory" (`limits`);
  - kl_bits: KL of a unit; bits: what was sent for it, with its standard error; overhead: bits / kl_bits - 1;
    credited_overhead: the same over the KL of the shift that arrives, (shift |mu|)^2 / (2 ln 2);
  - zipf_bits: with the Zipf code instead; exact_table_bits: with the table for exact samples;
  - shift: mean projection of the sample on mu over |mu|; variance_along and variance_orthogonal: of the
    sample, by dimension; ks_along and ks_orthogonal: distances from N(0, 1), beside those that as many true
    samples have on average (`_true`);
  - log2_candidates: of the mean number of candidates looked at for a unit; units: how many were measured;
  - size, chunks: of a message; encode_seconds, decode_seconds: of a message, medians over batches.

None where it does not apply.

Races are simulated in one dimension: only the projection g ~ N(0, 1) of a candidate on mu decides whether it
wins, so that the other dimensions need not be drawn: orthogonal to mu every winner is N(0, I).
`bounded_races` draws all candidates. `near_exact_race` draws those that take the lead, which makes 2^34
candidates as cheap as a hundred and leaves all distributions as they are.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32
from scipy import special, stats

from diffc_jax import rng
from diffc_jax.channel_simulation.candidate_schemes import (
    later_winners,
    minimal_channel,
    ordered_channel,
    poisson_channel,
)
from diffc_jax.channel_simulation.candidates import CandidateChannel
from diffc_jax.channel_simulation.candidates_distribution import ordered_winner, poisson_winner
from diffc_jax.channel_simulation.channel import Channel, length_of_rate, sample_statistics
from diffc_jax.channel_simulation.dithered import DitheredChannel
from diffc_jax.channel_simulation.index_codes import FixedCode, IndexCode, digits_code, zipf_code
from diffc_jax.channel_simulation.rotation import rotate, unrotate
from diffc_jax.channel_simulation.trellis import TrellisChannel

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
TRUE_KS = float(np.sqrt(np.pi / 2) * np.log(2))
_LARGEST_INDEX = 2.0**62
_NORMALS_AT_ONCE = 1 << 22
_BISECTIONS = 60
_rotate, _unrotate = jax.jit(rotate), jax.jit(unrotate)


@dataclasses.dataclass(frozen=True, eq=False)
class Winners:
    """Winners of independent races.

    Attributes:
        index: 1, 2, ..., as float64: it may be beyond 2^53.
        along: projection on mu less |mu|; N(0, 1) for exact samples.
        candidates: how many were looked at.
    """

    index: Float[np.ndarray, " n"]
    along: Float[np.ndarray, " n"]
    candidates: Float[np.ndarray, " n"]


def near_exact_race_rows(
    *, ideal_rate: int | float, tail: int | float, count: int, seed: int
) -> list[Row]:
    """The Poisson functional representation, exact but for `tail`."""
    generator = generator_of(seed, f"near_exact/{ideal_rate}")
    winners = near_exact_race(ideal_rate, tail, count, generator)
    code = digits_code(poisson_winner(ideal_rate).digits)
    return [_race_row("poisson", f"tail {tail:g}", ideal_rate, winners, code)]


def bounded_race_rows(
    *, ideal_rate: int | float, extra_bits: int, count: int, normals: int | float, seed: int
) -> list[Row]:
    """The bounded schemes, on the same candidates."""
    digits = int(np.ceil(ideal_rate + extra_bits))
    candidates = 1 << digits
    count = max(2, min(count, int(normals / candidates)))
    generator = generator_of(seed, f"bounded/{ideal_rate}/{extra_bits}")
    codes: dict[str, IndexCode] = {
        "poisson_truncated": digits_code(poisson_winner(ideal_rate, candidates).digits),
        "ordered": digits_code(ordered_winner(ideal_rate, candidates).digits),
        "minimal": FixedCode(digits),
    }
    return [
        _race_row(scheme, f"2^(k+{extra_bits}) candidates", ideal_rate, winners, codes[scheme])
        for scheme, winners in bounded_races(ideal_rate, candidates, count, generator).items()
    ]


def near_exact_channel_rows(
    *, ideal_rate: int | float, tail: int | float, chunks: int, **messages: int
) -> list[Row]:
    """The Poisson functional representation on whole messages."""
    channel = poisson_channel(messages["size"], chunks, ideal_rate, tail=tail)
    return [_chunked_row("poisson", f"tail {tail:g}", channel, ideal_rate, **messages)]


def bounded_channel_rows(
    *, scheme: str, ideal_rate: int | float, extra_bits: int, chunks: int, **messages: int
) -> list[Row]:
    """A bounded scheme on whole messages."""
    size, digits = messages["size"], int(np.ceil(ideal_rate + extra_bits))
    candidates = 1 << digits
    channels: dict[str, Callable[[], CandidateChannel]] = {
        "poisson_truncated": lambda: poisson_channel(
            size, chunks, ideal_rate, tail=0.0, candidates=candidates
        ),
        "ordered": lambda: ordered_channel(size, chunks, ideal_rate, candidates),
        "minimal": lambda: minimal_channel(size, chunks, digits),
    }
    row = _chunked_row(
        scheme, f"2^(k+{extra_bits}) candidates", channels[scheme](), ideal_rate, **messages
    )
    return [row | {"log2_candidates": float(digits)}]


def dithered_rows(*, ideal_rate: int | float, size: int, **messages: int) -> list[Row]:
    """Universal quantisation."""
    channel = DitheredChannel(size, ideal_rate)
    return [_whole_row("dithered", "step sqrt(12)", channel, ideal_rate, **messages)]


def trellis_rows(*, path_bits: int, memory: int, size: int, **messages: int) -> list[Row]:
    """The trellis-coded random codebook at the longest mu that it sends without bias."""
    channel = TrellisChannel(size, path_bits, memory)
    return [_whole_row("trellis", f"memory {memory}", channel, channel.ideal_rate, **messages)]


def near_exact_race(
    ideal_rate: int | float, tail: int | float, count: int, generator: np.random.Generator
) -> Winners:
    """The Poisson functional representation, up to a probability of at most `tail` of a later winner.

    Li & El Gamal 2018, cut off where stopping hardly ever changes the winner.

    With score s and time t of the leader, candidates that beat it later come as a Poisson process whose mean
    number after t is `later_winners`; the time of the next one is found by inverting it, its projection is
    normal above what it needs, and the losers in between are a Poisson number. `ideal_rate` is
    |mu|^2 / (2 ln 2).
    """
    length = length_of_rate(ideal_rate)
    time = generator.exponential(size=count)
    g = generator.normal(size=count)
    log_score = np.log(time) - _log_ratio(g, length)
    index = np.ones(count)
    enough = -np.log1p(-tail)
    racing = np.ones(count, bool)
    while racing.any():
        leader, now = log_score[racing], time[racing]
        expected = later_winners(leader, now, np.full(len(now), length))
        passed = generator.exponential(size=len(now))
        found = expected - passed > enough
        ids = np.flatnonzero(racing)
        racing[ids[~found]] = False
        leader, now, expected, passed = (v[found] for v in (leader, now, expected, passed))
        ids = ids[found]
        then = _time_with(leader, now, length, expected - passed)
        least = (np.log(then) - leader) / length + length / 2
        best = -special.ndtri(generator.uniform(size=len(ids)) * special.ndtr(-least))
        index[ids] += 1 + generator.poisson(np.maximum(then - now - passed, 0.0))
        time[ids], g[ids] = then, best
        log_score[ids] = np.log(then) - _log_ratio(best, length)
    stop = _time_with(log_score, time, length, np.full(count, enough))
    return Winners(index, g - length, np.maximum(index, index + stop - time))


def bounded_races(
    ideal_rate: int | float, candidates: int, count: int, generator: np.random.Generator
) -> dict[str, Winners]:
    """poisson_truncated, ordered and minimal with `candidates` candidates, all on the same ones."""
    length, rows = length_of_rate(ideal_rate), max(1, _NORMALS_AT_ONCE // candidates)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for start in range(0, count, rows):
        shape = (min(rows, count - start), candidates)
        g = generator.standard_normal(shape, np.float32)
        gaps = generator.standard_exponential(shape)
        bonus = length * g
        arrivals = {
            "poisson_truncated": np.cumsum(gaps, axis=1),
            "ordered": np.cumsum(gaps / np.arange(candidates, 0, -1), axis=1),
            "minimal": gaps,
        }
        for scheme, times in arrivals.items():
            winner = np.argmin(np.log(times) - bonus, axis=1)
            along = g[np.arange(len(g)), winner] - length
            found.setdefault(scheme, []).append((winner + 1.0, along.astype(np.float64)))
    looked_at = np.full(count, float(candidates))
    joined = {
        scheme: [np.concatenate(parts) for parts in zip(*groups, strict=True)]
        for scheme, groups in found.items()
    }
    return {scheme: Winners(index, along, looked_at) for scheme, (index, along) in joined.items()}


def _race_row(
    scheme: str, setting: str, ideal_rate: int | float, winners: Winners, code: IndexCode
) -> Row:
    index = np.minimum(winners.index, _LARGEST_INDEX).astype(np.int64)
    fixed = scheme == "minimal"
    row = row_of(scheme, setting, "race", ideal_rate, code.lengths(index), winners.along)
    exact = digits_code(poisson_winner(ideal_rate).digits)
    return row | {
        "zipf_bits": None if fixed else float(zipf_code(ideal_rate).lengths(index).mean()),
        "exact_table_bits": None if fixed else float(exact.lengths(index).mean()),
        "log2_candidates": float(np.log2(winners.candidates.mean())),
    }


def _chunked_row(
    scheme: str,
    setting: str,
    channel: CandidateChannel,
    ideal_rate: int | float,
    *,
    messages: int,
    batch: int,
    seed: int,
    size: int,
) -> Row:
    keys, directions = random_messages(messages, size, seed)
    aims = np.asarray(_rotate(keys, directions)).reshape(messages, channel.chunks, -1)
    aims = aims / np.linalg.norm(aims, axis=2, keepdims=True) * length_of_rate(ideal_rate)
    mu = _unrotate(keys, jnp.asarray(aims.reshape(messages, size)))
    sent = _Sent(channel, keys, mu, batch)
    noise = np.asarray(_rotate(keys, sent.sample)).reshape(aims.shape) - aims
    along = np.sum(noise * aims, axis=2).ravel() / length_of_rate(ideal_rate)
    return sent.row(scheme, setting, ideal_rate, along, channel.chunks)


def _whole_row(
    scheme: str,
    setting: str,
    channel: Channel,
    ideal_rate: int | float,
    *,
    messages: int,
    batch: int,
    seed: int,
) -> Row:
    keys, directions = random_messages(messages, channel.size, seed)
    mu = directions * length_of_rate(ideal_rate)
    sent = _Sent(channel, keys, mu, batch)
    projection = np.sum(np.asarray(mu, np.float64) * np.asarray(sent.sample), axis=1)
    along = projection / length_of_rate(ideal_rate) - length_of_rate(ideal_rate)
    return sent.row(scheme, setting, ideal_rate, along, chunks=1)


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
        self._bits = 8 * len(channel.to_bytes(np.concatenate(found)))
        self.sample = jnp.concatenate(samples)

    def row(
        self,
        scheme: str,
        setting: str,
        ideal_rate: int | float,
        along: Float[np.ndarray, " n"],
        chunks: int,
    ) -> Row:
        """The columns of whole messages; `along` has one projection for each unit."""
        found = sample_statistics(self._mu, self.sample)
        encode, decode = np.median(self._seconds, axis=0)
        bits = np.full(along.size, self._bits / along.size)
        return row_of(scheme, setting, "channel", ideal_rate, bits, along) | {
            "bits_stderr": None,
            "chunks": chunks,
            "variance_orthogonal": found.variance,
            "ks_orthogonal": found.orthogonal_ks,
            "ks_orthogonal_true": TRUE_KS / self._mu.size**0.5,
            "size": self._mu.shape[1],
            "encode_seconds": float(encode),
            "decode_seconds": float(decode),
        }


def row_of(
    scheme: str,
    setting: str,
    source: str,
    ideal_rate: int | float,
    bits: Float[np.ndarray, " n"],
    along: Float[np.ndarray, " n"],
) -> Row:
    """The columns of every scheme, and None for the others."""
    root, length, sent = len(along) ** 0.5, length_of_rate(ideal_rate), float(bits.mean())
    shift = float(1 + along.mean() / length)
    return dict.fromkeys(FIELDS) | {
        "scheme": scheme,
        "setting": setting,
        "source": source,
        "kl_bits": ideal_rate,
        "bits": sent,
        "bits_stderr": float(bits.std() / root),
        "overhead": sent / ideal_rate - 1,
        "credited_overhead": sent / (shift**2 * ideal_rate) - 1,
        "shift": shift,
        "shift_stderr": float(along.std() / root / length),
        "variance_along": float(along.var()),
        "ks_along": float(stats.kstest(along, "norm").statistic),
        "ks_along_true": TRUE_KS / root,
        "units": len(along),
    }


def random_messages(
    number: int, size: int, seed: int
) -> tuple[UInt32[Array, "b 2"], Float[Array, "b m"]]:
    """Keys, and random directions."""
    generator = generator_of(seed, f"messages/{size}")
    keys = generator.integers(0, 1 << 32, (number, 2), dtype=np.uint32)
    directions = generator.standard_normal((number, size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return jnp.asarray(keys), jnp.asarray(directions, jnp.float32)


def generator_of(seed: int, name: str) -> np.random.Generator:
    """Random numbers of the study for one purpose."""
    return np.random.default_rng(rng.numpy_seed(seed, f"channel_simulation/{name}"))


def _log_ratio(g: Float[np.ndarray, " n"], length: int | float) -> Float[np.ndarray, " n"]:
    return length * g - length**2 / 2


def _time_with(
    log_score: Float[np.ndarray, " n"],
    now: Float[np.ndarray, " n"],
    length: int | float,
    expected: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """The time from `now` on after which so many winners are expected; `now` if there are fewer already."""
    low = np.log(now)
    # Candidates 40 standard deviations out do not come.
    high = np.maximum(low, log_score + length * 40.0)
    lengths = np.full(len(now), length)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        later: Bool[np.ndarray, " n"] = later_winners(log_score, np.exp(middle), lengths) > expected
        low, high = np.where(later, middle, low), np.where(later, high, middle)
    return np.exp(low)
