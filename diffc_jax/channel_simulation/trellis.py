"""A trellis-coded random codebook: that of version 1 of the format, whose files are still read.

mu is rotated by a shared random map and cut into K stages of about M / K dimensions, one path bit each.
A shift register of nu bits names the label of a stage, a vector of N(0, I): the nu - 1 bits sent before
choose a row of a fixed Gaussian table, the newest and the oldest bit its sign (+ if they are equal), and
shared random signs make it different at every stage. The register is circular: before the first stage it
holds the last bits of the path. The 2^K paths are 2^K samples of N(0, I); the Viterbi algorithm finds one
that correlates well with mu in time K 2^nu.

Both pairs of branches that leave a state and that enter one have opposite labels, as in Viterbi's
superorthogonal convolutional codes. Such paths differ most where the choice falls, which is worth about as
much as four times the states with independent labels, and a stage has 2^(nu - 1) correlations to compute
instead of 2^(nu + 1).

The search is in small integers, which float32 adds without rounding: its result does not depend on the
order of additions, hence not on batch, device or compiler. Nor does the sample (see `rotation`).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

from diffc_jax.channel_simulation.bits import Stream, random_bits, random_signs, random_words
from diffc_jax.channel_simulation.channel import check_means, rate_of_energy
from diffc_jax.channel_simulation.labels import LABEL_SCALE, LARGEST_TARGET, label_table
from diffc_jax.channel_simulation.rotation import rotate, unrotate
from diffc_jax.channel_simulation.trellis_reach import mean_projections
from diffc_jax.errors import InputError, UsageError

PATH_BITS_RANGE = (32, 2048)
PATH_BITS_STEP = 32
MEMORY_RANGE = (3, 15)
# Each pass of a search starts half a circle from the one before, in the state where that one came by.
PASSES = 2
# Searches of short paths begin at several seams, so many that the stages of a pass number this many.
SEAM_STAGES = 512
# So many correlations are kept at once: what stays in a CPU's cache, elsewhere what bounds the memory of a
# large batch. The result does not depend on it.
CORRELATIONS_ON_CPU = 1 << 18
CORRELATIONS_ELSEWHERE = 1 << 26


@dataclasses.dataclass(frozen=True)
class TrellisChannel:
    """Sends messages of a fixed number of bits; implements `channel.Channel`.

    The distribution of a sample z if |mu| <= `reach` (benchmarks/trellis_speed.py, M = 12288):
      - its projection on mu varies less than a true sample's, whose standard deviation is 1: at
        `reach`, where the code is most efficient, by 0.16 (K = 256) to 0.27 (K = 32). Below, the search
        chooses only as many bits as it needs, and chance the others: the deviation is 0.17 to 0.26 at
        0.95 of `reach`, 0.27 to 0.36 at 0.7, 0.62 to 0.66 at 0.3, and 1 at 0.
      - the mean of the projection is |mu| to 0.5 % at `reach`; far below it was up to 0.15 too large,
        because one table of fractions serves all K and is interpolated.
      - orthogonal to mu it is N(0, I): variance to 0.3 %, kurtosis 3.00, correlation of neighbours
        0.00. Short stages with few states are the exception: with 6 dimensions the variance is 0.92 at
        memory 6.
    Beyond `reach` the projection stays `reach`: a message cannot carry more. With K = 32 or 64 memory beyond
    about 10 or 13 gains nothing, because the search no longer finds the best state at the seam.

    Attributes:
        size: M, dimensions of a message.
        path_bits: K, bits of a message: a multiple of 32 from 32 to 2048, at most `size`.
        memory: nu, bits of the shift register, 3 to 15. Time and memory of a search grow as K 2^nu.

    Raises:
        UsageError: an attribute is out of range.
    """

    size: int
    path_bits: int
    memory: int = 10

    def __post_init__(self) -> None:
        low, high = PATH_BITS_RANGE
        if not low <= self.path_bits <= high or self.path_bits % PATH_BITS_STEP:
            raise UsageError(
                f"{self.path_bits}; choose a multiple of {PATH_BITS_STEP} from {low} to {high}",
                field="path_bits",
            )
        if self.size < self.path_bits:
            raise UsageError(
                f"{self.path_bits} for {self.size} dimensions; choose at most a bit for each",
                field="path_bits",
            )
        low, high = MEMORY_RANGE
        if not low <= self.memory <= high:
            raise UsageError(
                f"{self.memory}; choose {low} to {high} bits of shift register", field="memory"
            )

    @property
    def reach(self) -> float:
        """Longest mu that is sent without bias: the mean projection of the best path on any direction."""
        return float(self._projections[-1])

    @property
    def ideal_rate(self) -> float:
        """Ideal rate of a message of the best efficiency, |mu| = `reach`, in bits."""
        return rate_of_energy(self.reach**2)

    @property
    def bytes_per_message(self) -> int:
        """Bytes of a path."""
        return self.path_bits // 8

    def encode(
        self, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
    ) -> tuple[UInt8[Array, "b n"], Float[Array, "b m"]]:
        """See `channel.Channel.encode`; indices are path bits, packed from the most significant one.

        Raises:
            ValueError: mu is not `size` long, or not finite.
        """
        check_means(mu, self.size)
        path = _encode(self, self._table, self._projections, keys, mu)
        return path, self.decode(keys, path)

    def encode_free(
        self, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"], free_bits: Int[Array, " b"]
    ) -> tuple[UInt8[Array, "b n"], Float[Array, "b m"]]:
        """Like `encode`, but so many bits are searched (0 to `path_bits`) whatever the length of mu."""
        path = _encode(self, self._table, self._projections, keys, mu, free_bits)
        return path, self.decode(keys, path)

    def decode(
        self, keys: UInt32[Array, "b 2"], indices: UInt8[Array | np.ndarray, "b n"]
    ) -> Float[Array, "b m"]:
        """See `channel.Channel.decode`. Any `bytes_per_message` bytes are a valid path.

        Raises:
            ValueError: a path is not `bytes_per_message` long.
        """
        if indices.shape[1] != self.bytes_per_message:
            raise ValueError(
                f"paths have {indices.shape[1]} bytes, messages have {self.bytes_per_message}"
            )
        return _decode(self, self._table, keys, indices)

    def to_bytes(self, indices: UInt8[Array | np.ndarray, "b n"]) -> bytes:
        """One path after the other."""
        return np.asarray(indices).tobytes()

    def from_bytes(self, data: bytes, count: int) -> UInt8[np.ndarray, "b n"]:
        """See `channel.Channel.from_bytes`."""
        if len(data) != count * self.bytes_per_message:
            raise InputError(
                f"{count} messages of {self.bytes_per_message} bytes were expected, not {len(data)} bytes"
            )
        return np.frombuffer(data, np.uint8).reshape(count, -1)

    @functools.cached_property
    def _table(self) -> Float[np.ndarray, "rows d"]:
        """See `label_table`."""
        return label_table(Stream.TRELLIS_TABLE, 1 << (self.memory - 1), _stage_sizes(self)[0])

    @functools.cached_property
    def _projections(self) -> Float[np.ndarray, " k1"]:
        """Mean projection of the best path with 0 to K free bits."""
        return mean_projections(self.size, self.path_bits, self.memory)


@functools.partial(jax.jit, static_argnums=0)
def _encode(
    channel: TrellisChannel,
    table: Float[Array, "rows d"],
    projections: Float[Array, " k1"],
    keys: UInt32[Array, "b 2"],
    mu: Float[Array, "b m"],
    free_bits: Int[Array, " b"] | None = None,
) -> UInt8[Array, "b n"]:
    """A path near mu, of which only `free_bits` bits, evenly spread, are not left to chance.

    By default as many as make the mean projection |mu|.
    """
    target, length = _target(channel, keys, mu)
    if free_bits is None:
        free_bits = _free_bits(projections, keys, length)
    k = channel.path_bits
    places, number = np.arange(k)[None], free_bits[:, None]
    free = (places + 1) * number // k > places * number // k
    forced = random_bits(keys, Stream.TRELLIS_FORCED_BITS, k)
    allowed = jnp.stack([free | ~forced, free | forced], axis=-1)
    return jnp.packbits(_search(table, _to_stages(channel, target), allowed), axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _decode(
    channel: TrellisChannel,
    table: Float[Array, "rows d"],
    keys: UInt32[Array, "b 2"],
    packed: UInt8[Array, "b n"],
) -> Float[Array, "b m"]:
    path = jnp.unpackbits(packed, axis=1)
    # The register before each stage, the newest bit first, and of it all but the oldest.
    ages = np.arange(1, channel.memory + 1)
    register = path[:, np.arange(channel.path_bits)[:, None] - ages]
    rows = register[:, :, :-1].astype(jnp.int32) @ (1 << np.int32(channel.memory - 1 - ages[:-1]))
    sign = 1 - 2 * (path ^ register[:, :, -1]).astype(jnp.float32)
    labels = _from_stages(channel, table[rows] * sign[:, :, None]) / LABEL_SCALE
    signs = random_signs(keys, Stream.TRELLIS_SIGNS, channel.size)
    return unrotate(keys, labels * signs)


def _target(
    channel: TrellisChannel, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
) -> tuple[Float[Array, "b m"], Float[Array, " b"]]:
    """Mu as the labels see it, in integers, and its length.

    Sums of integers and maxima are the same in any order of evaluation.
    """
    signs = random_signs(keys, Stream.TRELLIS_SIGNS, channel.size)
    rotated = rotate(keys, mu) * signs
    largest = jnp.max(jnp.abs(rotated), axis=1, keepdims=True)
    scale = jnp.maximum(largest / LARGEST_TARGET, jnp.finfo(jnp.float32).tiny)
    target = jnp.rint(rotated / scale)
    energy = jnp.sum(target.astype(jnp.int32) ** 2, axis=1)
    return target, scale[:, 0] * jnp.sqrt(energy.astype(jnp.float32))


def _free_bits(
    projections: Float[Array, " k1"], keys: UInt32[Array, "b 2"], length: Float[Array, " b"]
) -> Int[Array, " b"]:
    """How many bits make the mean projection `length`; between two numbers chance decides."""
    more = jnp.clip(jnp.searchsorted(projections, length), 1, len(projections) - 1)
    fewer = projections[more - 1]
    fraction = (length - fewer) / (projections[more] - fewer)
    word = random_words(keys, Stream.TRELLIS_FREE_BITS, 1)[:, 0, 0]
    return jnp.where((word >> 8).astype(jnp.float32) < fraction * 2**24, more, more - 1)


def _search(
    table: Float[Array, "rows d"], stages: Float[Array, "b k d"], allowed: Bool[Array, "b k 2"]
) -> Bool[Array, "b k"]:
    """Bits of good circular paths, found for groups of messages of a bounded size."""
    b, k, _ = stages.shape
    on_cpu = jax.default_backend() == "cpu"
    correlations = CORRELATIONS_ON_CPU if on_cpu else CORRELATIONS_ELSEWHERE
    most = max(1, correlations // (k * len(table)))
    group = max(size for size in range(1, b + 1) if b % size == 0 and size <= most)

    def search_group(
        messages: tuple[Float[Array, "g k d"], Bool[Array, "g k 2"]],
    ) -> Bool[Array, "g k"]:
        labels = jnp.einsum("gkd,rd->kgr", messages[0], table, precision=jax.lax.Precision.HIGHEST)
        penalties = jnp.where(messages[1], 0.0, -jnp.inf).swapaxes(0, 1)
        return _viterbi(labels, penalties)

    def grouped(values: Array) -> Array:
        return values.reshape(-1, group, *values.shape[1:])

    return jax.lax.map(search_group, (grouped(stages), grouped(allowed))).reshape(b, k)


def _viterbi(
    labels: Float[Array, "k b rows"], penalties: Float[Array, "k b 2"]
) -> Bool[Array, "b k"]:
    """Bits of the best circular path that was found through any of several states at several seams.

    A state is the register, the newest bit on top: 2 row and 2 row + 1 lead to row and rows + row. The first
    pass may start and end in any state, and its middle is the first guess at the state half a circle on.
    Each later pass starts and ends there, so that its path is circular and no worse than the one before.
    """
    k, b, rows = labels.shape
    seams = np.arange(max(1, SEAM_STAGES // k))
    seams = seams * k // (2 * len(seams))
    n = len(seams)

    def forward(
        score: Float[Array, "n b states"], stage: Int[Array, " n"]
    ) -> tuple[Float[Array, "n b states"], UInt8[Array, "n b bytes"]]:
        label = labels[stage]
        even, odd = jnp.moveaxis(score.reshape(n, b, rows, 2), -1, 0)
        from_even = jnp.stack([even + label, even - label], axis=2)
        from_odd = jnp.stack([odd - label, odd + label], axis=2)
        best = jnp.maximum(from_even, from_odd) + penalties[stage][..., None]
        packed = jnp.packbits((from_odd > from_even).reshape(n, b, 2 * rows), axis=2)
        return best.reshape(n, b, 2 * rows), packed

    def backward(
        state: UInt32[Array, "n b"], packed: UInt8[Array, "n b bytes"]
    ) -> tuple[UInt32[Array, "n b"], UInt32[Array, "n b"]]:
        byte = jnp.take_along_axis(packed, (state >> 3)[..., None], axis=2)[..., 0]
        oldest = (byte >> (7 - state % 8).astype(jnp.uint8)) & 1
        return state % rows * 2 + oldest, state

    def search_pass(
        start: UInt32[Array, "n b"], number: Int[Array, ""]
    ) -> tuple[UInt32[Array, "n b"], tuple[Float[Array, "n b"], Bool[Array, "k n b"]]]:
        first = seams + (PASSES - 1 - number) % 2 * (k // 2)
        free = number == 0
        possible = free | (np.arange(2 * rows, dtype=np.uint32)[None, None] == start[..., None])
        order = jnp.asarray((np.arange(k)[:, None] + first[None]) % k)
        score, packed = jax.lax.scan(forward, jnp.where(possible, 0.0, -jnp.inf), order)
        end = jnp.where(free, jnp.argmax(score, axis=2).astype(jnp.uint32), start)
        found = jnp.take_along_axis(score, end[..., None], axis=2)[..., 0]
        _, states = jax.lax.scan(backward, end, packed, reverse=True)
        return states[k // 2 - 1], (found, states >= rows)

    start = jnp.zeros((n, b), jnp.uint32)
    _, (scores, paths) = jax.lax.scan(search_pass, start, jnp.arange(PASSES))
    best = jnp.argmax(scores[-1], axis=0)
    path = jnp.take_along_axis(paths[-1], best[None, None], axis=1)[:, 0]
    places = (np.arange(k)[:, None] - jnp.asarray(seams)[best][None]) % k
    return jnp.take_along_axis(path, places, axis=0).T


def _to_stages(channel: TrellisChannel, vectors: Float[Array, "b m"]) -> Float[Array, "b k d"]:
    """Cuts vectors into stages: long ones of d = ceil(M / K) first, then d - 1 and a zero."""
    b = len(vectors)
    d, split = _stage_sizes(channel)
    long = vectors[:, :split].reshape(b, -1, d)
    short = vectors[:, split:].reshape(b, channel.path_bits - long.shape[1], d - 1)
    return jnp.concatenate([long, jnp.pad(short, ((0, 0), (0, 0), (0, 1)))], axis=1)


def _from_stages(channel: TrellisChannel, stages: Float[Array, "b k d"]) -> Float[Array, "b m"]:
    b = len(stages)
    d, split = _stage_sizes(channel)
    long = stages[:, : split // d].reshape(b, split)
    short = stages[:, split // d :, : d - 1].reshape(b, channel.size - split)
    return jnp.concatenate([long, short], axis=1)


def _stage_sizes(channel: TrellisChannel) -> tuple[int, int]:
    """Dimensions of a long stage, and of all long stages together."""
    d = -(-channel.size // channel.path_bits)
    return d, d * (channel.size - channel.path_bits * (d - 1))
