"""Channels that send the number of one of many candidates drawn from shared randomness.

A message is rotated and cut into chunks of equal size. For each chunk both sides know an endless sequence
of candidates z_1, z_2, ... ~ N(0, I); with arrival times t_n of its own the encoder lets them race, and the
winner is the n that minimises t_n / w_n, w_n = exp(mu . z_n - |mu|^2 / 2) being the ratio of the target's
density to the candidates'. The schemes differ in their arrival times (`Race`).

Candidate n of a chunk needs no other candidate, so that a decoder draws the winners alone, and the work of an
encoder is one normal for each dimension and candidate.

  - chunk c of a message has as key word c of the stream CANDIDATES of the message's key
    (`bits.random_words`); page p of 2^32 candidates has word 0 of stream p of the chunk's key;
  - candidate n = 0, 1, ... consists of the words of stream n mod 2^32 of its page: the low and high 16 bits
    of their first and second halves are looked up in a table, the quantiles of N(0, 1) at
    (i + 1/2) / 2^16, scaled to variance 1. They end at +-4.3, which a sum of 32 or more does not show.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32
from scipy import special

from diffc_jax.channel_simulation.bits import Stream, random_words
from diffc_jax.channel_simulation.channel import check_means
from diffc_jax.channel_simulation.index_codes import IndexCode
from diffc_jax.channel_simulation.rotation import rotate, unrotate
from diffc_jax.errors import UsageError

MIN_CHUNK_SIZE = 32
MAX_CANDIDATES = 1 << 40
# Arithmetic is done for so many candidates of one chunk at a time, whatever else there is to do: the result
# for a message does not depend on its batch.
BLOCK = 1024
_BLOCKS_OF_A_PAGE = (1 << 32) // BLOCK
_JOBS = 64
_MOST_BLOCKS_OF_A_STAGE = 4096
_QUANTILE_BITS = 16
_NORMALS_OF_A_WORD = 4


@dataclasses.dataclass(frozen=True)
class Race:
    """Arrival times of candidates, and when the search may end; schemes override what is theirs.

    Attributes:
        candidates: N, how many start, 1 to `MAX_CANDIDATES`.
        in_order: arrival times are sums of the increments; otherwise they are the increments themselves.

    Raises:
        UsageError: an attribute is out of range.
    """

    candidates: int
    in_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise UsageError(
                f"{self.candidates}; choose 1 to 2^{MAX_CANDIDATES.bit_length() - 1}",
                field="candidates",
            )

    def increments(self, gaps: Float[Array, " n"], left: Float[Array, " n"]) -> Float[Array, " n"]:
        """Increments of arrival times, of about one unit for each candidate: `gaps` themselves.

        Args:
            gaps: independent exponential variables of mean 1, one for each candidate.
            left: how many of the N candidates have not arrived, this one included.
        """
        del left
        return gaps

    def is_over(
        self,
        log_score: Float[np.ndarray, " a"],
        elapsed: Float[np.ndarray, " a"],
        length: Float[np.ndarray, " a"],
    ) -> Bool[np.ndarray, " a"]:
        """Whether no later candidate needs to be looked at: never, before all have been seen.

        Args:
            log_score: ln of the smallest t / w so far.
            elapsed: arrival time of the last candidate so far.
            length: |mu|.
        """
        del elapsed, length
        return np.zeros(len(log_score), bool)


@dataclasses.dataclass(frozen=True)
class CandidateChannel:
    """Implements `channel.Channel`; `indices` are int64, the numbers 1, 2, ... of the winners of the chunks.

    Attributes:
        size: M, dimensions of a message.
        chunks: how many chunks of equal size a message is sent in.
        race: which candidates can win.
        code: how indices are written.

    Raises:
        UsageError: an attribute is out of range.
    """

    size: int
    chunks: int
    race: Race
    code: IndexCode

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.size % self.chunks:
            raise UsageError(
                f"{self.chunks} do not divide {self.size} dimensions evenly", field="chunks"
            )
        if self.chunk_size < MIN_CHUNK_SIZE:
            raise UsageError(
                f"{self.chunks} leave {self.chunk_size} dimensions each; "
                f"{MIN_CHUNK_SIZE} are needed, so at most {self.size // MIN_CHUNK_SIZE} chunks",
                field="chunks",
            )

    @property
    def chunk_size(self) -> int:
        """Dimensions of a chunk."""
        return self.size // self.chunks

    def encode(
        self, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
    ) -> tuple[Int[np.ndarray, "b c"], Float[Array, "b m"]]:
        """See `channel.Channel.encode`.

        Raises:
            ValueError: mu is not `size` long, or not finite.
        """
        check_means(mu, self.size)
        chunk_keys, aims = _cut(self.chunks, keys, mu)
        winners = _search(self.race, np.asarray(chunk_keys), np.asarray(aims))
        indices = winners.reshape(-1, self.chunks) + 1
        return indices, self.decode(keys, indices)

    def decode(
        self, keys: UInt32[Array, "b 2"], indices: Int[np.ndarray, "b c"]
    ) -> Float[Array, "b m"]:
        """See `channel.Channel.decode`. All positive indices have a sample.

        Raises:
            ValueError: there are not `chunks` indices for each key, or one is not positive.
        """
        if indices.shape != (len(keys), self.chunks):
            raise ValueError(f"indices are {indices.shape}, not {(len(keys), self.chunks)}")
        if indices.size and indices.min() < 1:
            raise ValueError(f"index {indices.min()} is not positive")
        numbers = np.asarray(indices, np.int64).reshape(-1) - 1
        pages, places = (numbers >> 32).astype(np.uint32), (numbers & 0xFFFFFFFF).astype(np.uint32)
        return _draw(self.chunks, self.chunk_size, keys, pages, places)

    def to_bytes(self, indices: Int[np.ndarray, "b c"]) -> bytes:
        """See `channel.Channel.to_bytes`."""
        return self.code.encode(np.asarray(indices, np.int64).reshape(-1))

    def from_bytes(self, data: bytes, count: int) -> Int[np.ndarray, "b c"]:
        """See `channel.Channel.from_bytes`.

        Raises:
            InputError: no messages have these bytes.
        """
        return self.code.decode(data, count * self.chunks).reshape(count, self.chunks)


def _chunk_keys(keys: UInt32[Array, "b 2"], chunks: int) -> UInt32[Array, "bc 2 2"]:
    """Keys of each chunk's candidates (shared) and of its arrival times (the encoder's own)."""
    candidates = random_words(keys, Stream.CANDIDATES, chunks).reshape(-1, 2)
    return jnp.stack(
        [candidates, random_words(keys, Stream.ARRIVALS, chunks).reshape(-1, 2)], axis=1
    )


@functools.partial(jax.jit, static_argnums=0)
def _cut(
    chunks: int, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
) -> tuple[UInt32[Array, "bc 2 2"], Float[Array, "bc d"]]:
    """Keys and means of the chunks."""
    return _chunk_keys(keys, chunks), rotate(keys, mu).reshape(len(mu) * chunks, -1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(
    chunks: int,
    chunk_size: int,
    keys: UInt32[Array, "b 2"],
    pages: UInt32[Array, " bc"],
    places: UInt32[Array, " bc"],
) -> Float[Array, "b m"]:
    """Messages of one candidate for each chunk."""
    chunk_keys = _chunk_keys(keys, chunks)[:, :1]
    draw = functools.partial(_candidates, size=chunk_size)
    chosen = jax.vmap(draw)(chunk_keys, pages, places[:, None])
    return unrotate(keys, chosen.reshape(len(keys), chunks * chunk_size))


def _search(
    race: Race, keys: UInt32[np.ndarray, "a 2 2"], aims: Float[np.ndarray, "a d"]
) -> Int[np.ndarray, " a"]:
    """Numbers 0, 1, ... of the winners."""
    lengths = np.linalg.norm(aims.astype(np.float64), axis=1)
    best, elapsed = np.full(len(aims), np.inf), np.zeros(len(aims))
    winner = np.zeros(len(aims), np.int64)
    racing = np.arange(len(aims))
    for blocks in _stages(race.candidates):
        if not racing.size:
            break
        jobs, block = np.repeat(racing, len(blocks)), np.tile(blocks, len(racing))
        left = (race.candidates - block * BLOCK).astype(np.float32)
        starts = np.zeros((len(racing), len(blocks)))
        if race.in_order:
            # Sums of so many increments need double precision.
            spans_of = functools.partial(_spans, race)
            (spans,) = _in_groups(spans_of, (keys[:, 1],), jobs, block, left)
            ends = elapsed[racing, None] + np.cumsum(spans.reshape(starts.shape), axis=1)
            starts = ends - spans.reshape(starts.shape)
            elapsed[racing] = ends[:, -1]
        best_of = functools.partial(_best, race)
        scores, places = _in_groups(best_of, (keys, aims), jobs, block, left, starts.reshape(-1))
        scores = scores.reshape(starts.shape)
        first = scores.argmin(axis=1)
        score = scores[np.arange(len(racing)), first] + lengths[racing] ** 2 / 2
        number = blocks[first] * BLOCK + places.reshape(starts.shape)[np.arange(len(racing)), first]
        better = score < best[racing]
        best[racing] = np.where(better, score, best[racing])
        winner[racing] = np.where(better, number, winner[racing])
        racing = racing[~race.is_over(best[racing], elapsed[racing], lengths[racing])]
    return winner


def _stages(candidates: int) -> Iterator[Int[np.ndarray, " n"]]:
    """Numbers of the blocks up to each time at which a search may end."""
    n_blocks, first = -(-candidates // BLOCK), 0
    while first < n_blocks:
        last = min(n_blocks, first + min(max(1, first // 4), _MOST_BLOCKS_OF_A_STAGE))
        yield np.arange(first, last)
        first = last


def _in_groups(
    function: Callable[..., tuple[Array, ...]],
    of_chunks: tuple[np.ndarray, ...],
    jobs: Int[np.ndarray, " n"],
    *of_jobs: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Results of many jobs, each for a chunk, of which `function` does up to _JOBS at a time.

    It takes their number and _JOBS rows of every array, of which some have a row for each chunk.
    """
    results = []
    for start in range(0, len(jobs), _JOBS):
        group = slice(start, start + _JOBS)
        rows = [array[jobs[group]] for array in of_chunks] + [array[group] for array in of_jobs]
        count = len(rows[0])
        padded = (np.pad(row, [(0, _JOBS - count)] + [(0, 0)] * (row.ndim - 1)) for row in rows)
        results.append([np.asarray(result)[:count] for result in function(count, *padded)])
    return tuple(np.concatenate(columns) for columns in zip(*results, strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _spans(
    race: Race,
    count: int | Int[Array, ""],
    keys: UInt32[Array, "j 2"],
    blocks: Int[Array, " j"],
    left: Float[Array, " j"],
) -> tuple[Float[Array, " j"]]:
    """How much time passes in each block."""

    def job(i: Array, spans: Float[Array, " j"]) -> Float[Array, " j"]:
        return spans.at[i].set(jnp.sum(_increments(race, keys[i], blocks[i], left[i])))

    return (jax.lax.fori_loop(0, count, job, jnp.zeros(len(keys))),)


@functools.partial(jax.jit, static_argnums=0)
def _best(
    race: Race,
    count: int | Int[Array, ""],
    keys: UInt32[Array, "j 2 2"],
    aims: Float[Array, "j d"],
    blocks: Int[Array, " j"],
    left: Float[Array, " j"],
    starts: Float[Array, " j"],
) -> tuple[Float[Array, " j"], Int[Array, " j"]]:
    """The smallest ln t - mu . z of each block, and its place there."""
    places = jnp.arange(_width(race), dtype=jnp.uint32)

    def job(i: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        arrivals = _increments(race, keys[i, 1], blocks[i], left[i])
        if race.in_order:
            arrivals = starts[i] + jnp.cumsum(arrivals)
        page = (blocks[i] // _BLOCKS_OF_A_PAGE).astype(jnp.uint32)
        numbers = blocks[i].astype(jnp.uint32) * BLOCK + places  # modulo 2^32
        candidates = _candidates(keys[i, :1], page, numbers, aims.shape[1])
        weights = jnp.dot(candidates, aims[i], precision=jax.lax.Precision.HIGHEST)
        scores = jnp.where(places < left[i], jnp.log(arrivals) - weights, jnp.inf)
        return found[0].at[i].set(jnp.min(scores)), found[1].at[i].set(jnp.argmin(scores))

    nothing = jnp.zeros(len(keys)), jnp.zeros(len(keys), jnp.int32)
    return jax.lax.fori_loop(0, count, job, nothing)


def _width(race: Race) -> int:
    return min(BLOCK, race.candidates)


def _increments(
    race: Race, key: UInt32[Array, "2"], block: Int[Array, ""], left: Float[Array, ""]
) -> Float[Array, " n"]:
    width = _width(race)
    words = random_words(key[None], block.astype(jnp.uint32), -(-width // 2)).reshape(-1)[:width]
    uniform = jnp.minimum((words.astype(jnp.float32) + 0.5) * 2.0**-32, 1.0 - 2.0**-24)
    return race.increments(
        -jnp.log1p(-uniform), jnp.maximum(left - jnp.arange(width, dtype=jnp.float32), 1.0)
    )


def _candidates(
    key: UInt32[Array, "1 2"], page: UInt32[Array, ""], numbers: UInt32[Array, " n"], size: int
) -> Float[Array, "n d"]:
    """Some candidates of one page of one chunk."""
    page_key = random_words(key, page, 1)[0]
    count = -(-size // _NORMALS_OF_A_WORD)
    words = jax.vmap(lambda number: random_words(page_key, number, count)[0])(numbers)
    halves = jnp.stack([words & 0xFFFF, words >> _QUANTILE_BITS], axis=-1)
    return jnp.asarray(_quantiles())[halves.reshape(len(numbers), -1)[:, :size]]


@functools.cache
def _quantiles() -> Float[np.ndarray, " n"]:
    count = 1 << _QUANTILE_BITS
    normal = special.ndtri((np.arange(count) + 0.5) / count)
    return (normal / np.sqrt(np.mean(normal**2))).astype(np.float32)
