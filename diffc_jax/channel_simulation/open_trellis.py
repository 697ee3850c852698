"""An open, tapered trellis: random codebooks whose paths have any number of bits, in one program.

Like `trellis` it cuts a randomly rotated mu into stages of one path bit each, and the state of a shift
register of nu bits names the label of a stage, a vector of N(0, I). What is different:

- The register starts at zero and may end anywhere, so that one pass of the Viterbi algorithm finds the best
  path of all. A circular register needs several passes and finds it less often.
- Stages at the beginning, where few states can be reached, are shorter, and those at the end, where few
  paths are left to choose from, are longer than the others. They may begin and end at any dimension: the
  labels of a stage are those dimensions of rows of one periodic table.
- The number of bits of a path is data, not part of the program, and may differ within a batch.

Scores are 16-bit integers that wrap around. Two of them are compared by the sign of their difference, which
is right because scores of the states of a stage never differ by 2^15 (Hekstra 1989). The path that is found
is the best one up to the rounding of scores and depends neither on the batch nor, but for sums of float32
that exceed 2^24, on the machine. The sample does not at all (see `rotation`).
"""

import dataclasses
import functools
import multiprocessing
import typing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int16, UInt8, UInt32

from diffc_jax.channel_simulation.bits import Stream, random_signs
from diffc_jax.channel_simulation.channel import check_dimensions
from diffc_jax.channel_simulation.labels import LABEL_SCALE, LARGEST_TARGET, label_table
from diffc_jax.channel_simulation.open_trellis_stages import stage_ends
from diffc_jax.channel_simulation.rotation import dealing_and_block, rotate, unrotate
from diffc_jax.errors import UsageError

if typing.TYPE_CHECKING:
    from diffc_jax.channel_simulation.host_scores import Tables

MEMORY_RANGE = (4, 16)
# The sums that place stages are integers below 2^31.
MOST_BITS_RANGE = (1, 640)
# Labels repeat after so many dimensions.
PERIOD = 192
# Rows of the table. More states than these use the same rows, shifted, with other signs.
MOST_ROWS = 1024
# Scores of a stage go up to this one: 4 * memory * LARGEST_SCORE < 2^15, see `_viterbi`.
LARGEST_SCORE = 511
# Sums of so many stages are computed at once.
_CHUNK = 16
# So many scores are updated at once: what stays in a CPU's cache.
_STATES_ON_CPU = 1 << 17
_STATES_ELSEWHERE = 1 << 24


@functools.cache
def _threads(process: int | None) -> ThreadPoolExecutor:
    """Those of a process, started once; what it forks has none of them."""
    del process
    return ThreadPoolExecutor(multiprocessing.cpu_count())


def _for_each(do: Callable[[int], None], count: int) -> None:
    """Calls `do` with each number below `count`, on as many threads as there are cores."""
    if count == 1:
        do(0)
    else:
        list(_threads(multiprocessing.current_process().ident).map(do, range(count)))


@dataclasses.dataclass(frozen=True)
class OpenTrellis:
    """Codebooks of 2^k samples of N(0, I) for any k up to `most_bits`, and their search.

    `open_trellis_reach` says how far the best of the samples goes in the direction of mu.

    Attributes:
        size: M, dimensions of a message.
        memory: nu, bits of the shift register, 4 to 16. Time and memory of a search grow as k 2^nu.
        most_bits: most bits of a path, at most 640 and at most `size`.

    Raises:
        UsageError: an attribute is out of range.
    """

    size: int
    memory: int = 14
    most_bits: int = 512

    def __post_init__(self) -> None:
        low, high = MEMORY_RANGE
        if not low <= self.memory <= high:
            raise UsageError(
                f"{self.memory}; choose {low} to {high} bits of shift register", field="memory"
            )
        low, high = MOST_BITS_RANGE
        if not low <= self.most_bits <= min(high, self.size):
            raise UsageError(
                f"{self.most_bits}; choose {low} to {min(high, self.size)} for {self.size} dimensions",
                field="most_bits",
            )

    def search(
        self,
        keys: UInt32[Array, "b 2"],
        mu: Float[Array, "b m"],
        path_bits: Int[Array | np.ndarray, " b"],
    ) -> UInt8[Array | np.ndarray, "b most"]:
        """The paths whose samples go furthest in the direction of mu, whatever its length.

        Args:
            keys: shared randomness of each message.
            mu: directions.
            path_bits: k, bits of each path, 1 to `most_bits`.

        Returns:
            Bits, 0 or 1; those beyond k are 0.

        Raises:
            ValueError: mu is not `size` long.
        """
        check_dimensions(mu, self.size)
        if jax.default_backend() != "cpu" or isinstance(mu, jax.core.Tracer):
            return _search(self, keys, mu, jnp.asarray(path_bits))
        try:
            # Takes a while to load, and not every program searches.
            from diffc_jax.channel_simulation.host_scores import scores_of_stages
            from diffc_jax.channel_simulation.viterbi import best_path
        except ImportError:  # numba is missing
            return _search(self, keys, mu, jnp.asarray(path_bits))
        paths = np.zeros((len(mu), self.most_bits), np.uint8)
        tables, all_ends, shifts = self._host_tables, self._ends, np.array(self._shifts)

        def search_one(message: int) -> None:
            k = host_bits[message]
            ends = all_ends[k, : k + 1]
            scores = scores_of_stages(host_keys[message], host_mu[message], ends, tables)
            paths[message, :k] = best_path(scores, shifts, self._signs, _behind(self))

        host_keys, host_mu, host_bits = (np.asarray(one) for one in (keys, mu, path_bits))
        _for_each(search_one, len(mu))
        return paths

    def decode(
        self,
        keys: UInt32[Array, "b 2"],
        paths: UInt8[Array | np.ndarray, "b most"],
        path_bits: Int[Array | np.ndarray, " b"],
    ) -> Float[Array, "b m"]:
        """The samples of paths, of which the first `path_bits` bits count; the same to the last bit."""
        traced = any(isinstance(one, jax.core.Tracer) for one in (keys, paths, path_bits))
        if jax.default_backend() != "cpu" or traced:
            return _decode(self, keys, paths, path_bits)
        try:
            from diffc_jax.channel_simulation.host_samples import sample_of_path
        except ImportError:  # numba is missing
            return _decode(self, keys, paths, path_bits)
        host_keys, host_paths, host_bits = (np.asarray(one) for one in (keys, paths, path_bits))
        dealing, block = dealing_and_block(self.size)
        tables = self.table, np.array(self._shifts), self._signs
        samples = np.empty((len(host_paths), self.size), np.float32)

        def decode_one(message: int) -> None:
            k = host_bits[message]
            path, ends = host_paths[message, :k], self._ends[k, : k + 1]
            samples[message] = sample_of_path(
                host_keys[message], path, ends, *tables, self.memory, LABEL_SCALE, dealing, block
            )

        _for_each(decode_one, len(samples))
        return jnp.asarray(samples)

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return min(MOST_ROWS, 1 << (self.memory - 1))

    @functools.cached_property
    def table(self) -> Float[np.ndarray, "rows period"]:
        """See `label_table`."""
        return label_table(Stream.OPEN_TRELLIS_TABLE, self.n_rows, PERIOD)

    @functools.cached_property
    def _ends(self) -> Int[np.ndarray, "most1 most1"]:
        """`stage_ends` of paths of 0, 1, .. `most_bits` bits; the first row does not count."""
        number = np.maximum(np.arange(self.most_bits + 1), 1)
        return np.asarray(stage_ends(self.size, self.most_bits, number))

    @functools.cached_property
    def _host_tables(self) -> "Tables":
        from diffc_jax.channel_simulation.host_scores import Tables, in_tiles

        dealing, block = dealing_and_block(self.size)
        tiles = in_tiles(self.table)
        return Tables(tiles, PERIOD, dealing, block, LARGEST_TARGET, LARGEST_SCORE)

    @functools.cached_property
    def _shifts(self) -> list[int]:
        """By how many rows the groups of n_rows states are shifted."""
        groups = (1 << (self.memory - 1)) // self.n_rows
        return [h * (3 * self.n_rows // 8 + 5) % self.n_rows for h in range(groups)]

    @functools.cached_property
    def _signs(self) -> Int16[np.ndarray, "groups rows"]:
        """Sign of each row in each group: the parity of the bits that row and 0x155 times group share."""
        groups = np.arange(len(self._shifts))[:, None]
        shared = np.arange(self.n_rows) & (0x155 * groups)
        parity = np.bitwise_count(shared) & 1
        return (1 - 2 * parity.astype(np.int16)).astype(np.int16)


def _targets(
    trellis: OpenTrellis, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
) -> Float[Array, "b m"]:
    """Mu as the search sees it: rotated, with random signs, in integers."""
    signs = random_signs(keys, Stream.TRELLIS_SIGNS, trellis.size)
    rotated = rotate(keys, mu) * signs
    largest = jnp.max(jnp.abs(rotated), axis=1, keepdims=True)
    unit = jnp.maximum(largest * np.float32(1 / LARGEST_TARGET), jnp.finfo(jnp.float32).tiny)
    # Products: what XLA makes of a quotient, and what `host_scores` repeats.
    return jnp.rint(rotated * (1 / unit))


def _rounded(found: Float[Array, "most b rows"]) -> Int16[Array, "most b rows"]:
    """Scores in units of the largest one of a message over `LARGEST_SCORE`."""
    largest = jnp.maximum(jnp.max(jnp.abs(found), axis=(0, 2), keepdims=True), 1)
    return jnp.rint(found * (LARGEST_SCORE / largest)).astype(jnp.int16)


@functools.partial(jax.jit, static_argnums=0)
def _search(
    trellis: OpenTrellis,
    keys: UInt32[Array, "b 2"],
    mu: Float[Array, "b m"],
    path_bits: Int[Array, " b"],
) -> UInt8[Array, "b most"]:
    target = _targets(trellis, keys, mu)
    b, states = len(mu), 1 << trellis.memory
    on_cpu = jax.default_backend() == "cpu"
    most = max(1, (_STATES_ON_CPU if on_cpu else _STATES_ELSEWHERE) // states)
    group = max(size for size in range(1, b + 1) if b % size == 0 and size <= most)

    def search_group(
        messages: tuple[Float[Array, "g m"], Int[Array, " g"]],
    ) -> UInt8[Array, "g most"]:
        return _viterbi(trellis, *messages)

    grouped = target.reshape(-1, group, trellis.size), path_bits.reshape(-1, group)
    return jax.lax.map(search_group, grouped).reshape(b, trellis.most_bits)


@functools.partial(jax.jit, static_argnums=0)
def _decode(
    trellis: OpenTrellis,
    keys: UInt32[Array, "b 2"],
    paths: UInt8[Array | np.ndarray, "b most"],
    path_bits: Int[Array, " b"],
) -> Float[Array, "b m"]:
    # The register before each stage, the newest bit on top; before the first one it is 0.
    memory, rows = trellis.memory, trellis.n_rows
    bits = jnp.pad(paths.astype(jnp.int32), ((0, 0), (memory, 0)))
    ages = np.arange(trellis.most_bits)[:, None] + memory - np.arange(1, memory + 1)
    register = bits[:, ages]
    state = register[:, :, :-1] @ (1 << np.arange(memory - 2, -1, -1, dtype=np.int32))
    group, row = state // rows, state % rows
    row = (row + jnp.asarray(trellis._shifts)[group]) % rows
    flips = jnp.asarray(trellis._signs)[group, state % rows]
    sign = flips * (1 - 2 * (bits[:, memory:] ^ register[:, :, -1]))
    ends = stage_ends(trellis.size, trellis.most_bits, path_bits)[:, 1:]
    dimensions = np.arange(trellis.size)
    after = jax.vmap(functools.partial(jnp.searchsorted, side="right"), (0, None))(ends, dimensions)
    stage = jnp.minimum(after, path_bits[:, None] - 1)
    label = jnp.asarray(trellis.table)[
        jnp.take_along_axis(row, stage, axis=1), dimensions[None] % PERIOD
    ]
    label *= jnp.take_along_axis(sign, stage, axis=1) / np.float32(LABEL_SCALE)
    return unrotate(keys, label * random_signs(keys, Stream.TRELLIS_SIGNS, trellis.size))


def _correlations(
    trellis: OpenTrellis,
    target: Float[Array, "b m"],
    ends: Int[Array, "b most1"],
    n_stages: Int[Array, ""],
) -> Float[Array, "most b rows"]:
    """What each row of the table has in common with each stage of the targets; the first `n_stages` count.

    The table is periodic, so a stage is first added up over whole periods, as the difference of two sums
    from the beginning on. Target, table and all sums are integers.
    """
    b, size = target.shape
    n_periods = -(-size // PERIOD)
    periods = jnp.pad(target, ((0, 0), (0, (n_periods + 1) * PERIOD - size)))
    periods = periods.reshape(b, n_periods + 1, PERIOD)
    before = [jnp.zeros((b, PERIOD))]
    for i in range(n_periods):
        before.append(before[-1] + periods[:, i])
    sums = jnp.stack(before, axis=1)
    table = trellis.table.T

    def chunk(i: Int[Array, ""], found: Float[Array, "most b rows"]) -> Float[Array, "most b rows"]:
        last = jax.lax.dynamic_slice_in_dim(ends, i * _CHUNK, _CHUNK + 1, axis=1)
        period, rest = (last // PERIOD)[..., None], (last % PERIOD)[..., None]
        is_before = np.arange(PERIOD)[None, None] < rest
        partial = jnp.where(is_before, jnp.take_along_axis(periods, period, axis=1), 0)
        until = jnp.take_along_axis(sums, period, axis=1) + partial
        stages = (until[:, 1:] - until[:, :-1]).swapaxes(0, 1).reshape(-1, PERIOD)
        values = jnp.dot(stages, table, precision=jax.lax.Precision.HIGHEST)
        values = values.reshape(_CHUNK, b, trellis.n_rows)
        return jax.lax.dynamic_update_slice_in_dim(found, values, i * _CHUNK, axis=0)

    padded = -(-trellis.most_bits // _CHUNK) * _CHUNK
    ends = jnp.pad(ends, ((0, 0), (0, padded - trellis.most_bits)), mode="edge")
    found = jnp.zeros((padded, b, trellis.n_rows))
    return jax.lax.fori_loop(0, -(-n_stages // _CHUNK), chunk, found)


def _behind(trellis: OpenTrellis) -> int:
    """Score at the beginning of a state that no path begins in, see `_viterbi`."""
    return -2 * trellis.memory * LARGEST_SCORE


def _viterbi(
    trellis: OpenTrellis, target: Float[Array, "b m"], path_bits: Int[Array, " b"]
) -> UInt8[Array, "b most"]:
    """Bits of the best path of each message.

    A state is the register, the newest bit on top: 2 row and 2 row + 1 lead to row and rows + row. After
    `memory` stages of up to LARGEST_SCORE the best path to one state is at most 2 memory LARGEST_SCORE better
    than that to another, and as much behind starts what does not start at 0.
    """
    b, rows = len(target), 1 << (trellis.memory - 1)
    n_stages = jnp.max(path_bits)
    ends = jnp.asarray(stage_ends(trellis.size, trellis.most_bits, path_bits))
    found = _correlations(trellis, target, ends, n_stages)
    scores = _rounded(found)

    def labels(stage: Int[Array, ""]) -> Int16[Array, "b rows"]:
        score = scores[stage]
        shifted = jnp.stack([jnp.roll(score, -shift, axis=1) for shift in trellis._shifts], axis=1)
        return (shifted * trellis._signs[None]).reshape(b, rows)

    def forward(
        stage: Int[Array, ""], carry: tuple[Int16[Array, "b states"], UInt8[Array, "most b bytes"]]
    ) -> tuple[Int16[Array, "b states"], UInt8[Array, "most b bytes"]]:
        total, decisions = carry
        label = labels(stage)
        even, odd = jnp.moveaxis(total.reshape(b, rows, 2), -1, 0)
        # What the odd state is ahead of the even one on the way to row, and to rows + row.
        zero = odd - even - 2 * label
        one = odd - even + 2 * label
        total = jnp.concatenate(
            [even + label + jnp.maximum(zero, 0), even - label + jnp.maximum(one, 0)], axis=1
        )
        planes = jnp.split(zero > 0, 4, axis=1) + jnp.split(one > 0, 4, axis=1)
        byte = functools.reduce(
            jnp.bitwise_or, [plane.astype(jnp.uint8) << i for i, plane in enumerate(planes)]
        )
        return total, jax.lax.dynamic_update_index_in_dim(decisions, byte, stage, axis=0)

    def backward(
        i: Int[Array, ""], carry: tuple[Int[Array, " b"], UInt8[Array, "most b"]]
    ) -> tuple[Int[Array, " b"], UInt8[Array, "most b"]]:
        state, paths = carry
        stage = n_stages - 1 - i
        place, plane = state % (rows // 4), state // (rows // 4)
        byte = jnp.take_along_axis(decisions[stage], place[:, None], axis=1)[:, 0]
        oldest = (byte >> plane.astype(jnp.uint8)) & 1
        paths = jax.lax.dynamic_update_index_in_dim(
            paths, (state >= rows).astype(jnp.uint8), stage, axis=0
        )
        return state % rows * 2 + oldest.astype(jnp.int32), paths

    total = jnp.full((b, 2 * rows), np.int16(_behind(trellis))).at[:, 0].set(0)
    decisions = jnp.zeros((trellis.most_bits, b, rows // 4), jnp.uint8)
    total, decisions = jax.lax.fori_loop(0, n_stages, forward, (total, decisions))
    # Stages behind the end of a shorter path score 0: the best state does not change, its bits do not count.
    best = jnp.argmax(total - total[:, :1], axis=1).astype(jnp.int32)
    paths = jnp.zeros((trellis.most_bits, b), jnp.uint8)
    _, paths = jax.lax.fori_loop(0, n_stages, backward, (best, paths))
    return jnp.where(np.arange(trellis.most_bits)[None] < path_bits[:, None], paths.T, 0)
