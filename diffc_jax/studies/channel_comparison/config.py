"""The configuration of the comparison of schemes that send Gaussian samples."""

from ml_collections import ConfigDict

from diffc_jax.channel_simulation.candidates import MIN_CHUNK_SIZE
from diffc_jax.channel_simulation.candidates_distribution import MAX_IDEAL_RATE
from diffc_jax.channel_simulation.open_trellis_reach import LEAST_BITS, MEMORIES
from diffc_jax.channel_simulation.trellis import TrellisChannel
from diffc_jax.codec.step_sizes import most_bits
from diffc_jax.config.checks import (
    above,
    all_finite,
    at_least,
    has_fields,
    integers,
    numbers,
    within,
)
from diffc_jax.config.sources import plain
from diffc_jax.errors import UsageError

_MOST_BOUNDED_BITS = 24
# Longer races have losers beyond 2^63, of which NumPy draws no numbers.
_MOST_RACE_BITS = 30.0


def channel_config() -> ConfigDict:
    """All fields with their defaults; locked, so that a misspelt field is an error."""
    config = ConfigDict()
    config.seed = 0
    # Of a later winner, where the near-exact Poisson functional representation stops.
    config.tail = 1e-3
    # Bounded schemes have 2^(k + extra) candidates for k bits a chunk, rounded up to a power of two.
    config.extra_bits = (2, 4)

    # Races of candidates in one dimension.
    config.races = ConfigDict()
    config.races.chunk_bits = (1.0, 2.0, 3.3, 5.0, 8.0, 10.0, 14.0, 16.0)
    config.races.near_exact = 100_000
    config.races.bounded = 20_000  # at most; with many candidates as many as these normals make:
    config.races.bounded_normals = 2.0**27

    # Whole messages through the codes of chunks, all chunks with exactly k bits.
    config.chunks = ConfigDict()
    config.chunks.size = 2048
    config.chunks.number = 16
    config.chunks.near_exact_bits = (1.0, 2.0, 3.3, 5.0)
    config.chunks.bounded_bits = (2.0, 5.0, 8.0, 10.0, 14.0)
    config.chunks.messages = 32
    config.chunks.batch = 8

    # Whole messages of the schemes that need no chunks.
    config.whole = ConfigDict()
    config.whole.size = 12288
    config.whole.path_bits = (32, 64, 128, 256, 512, 1024)
    config.whole.memory = (8, 10, 12)
    config.whole.dithered_bits = (16.0, 64.0, 256.0, 1024.0, 4096.0)
    config.whole.messages = 256
    config.whole.batch = 32

    # Those whose paths have the length that shared randomness says, by the bits that they have on average.
    config.exact = ConfigDict()
    config.exact.path_bits = (32, 64, 128, 256, 448)
    config.exact.memory = (8, 12, 14)
    # Ideal rates of messages, or bits of codebooks, of the limits.
    config.limit_bits = tuple(2.0**i for i in range(13))
    return config.lock()


def shrink_to_smoke(config: ConfigDict) -> None:
    """Makes the comparison a matter of seconds."""
    config.races.chunk_bits = (1.0, 3.3, 5.0)
    config.races.near_exact, config.races.bounded_normals = 2000, 2.0**18
    config.extra_bits = (2,)
    config.chunks.size, config.chunks.number = 256, 4
    config.chunks.near_exact_bits, config.chunks.bounded_bits = (1.0, 2.0), (2.0, 5.0)
    config.chunks.messages, config.chunks.batch = 8, 4
    config.whole.size = 1024
    config.whole.path_bits, config.whole.memory = (32, 64), (6,)
    config.whole.dithered_bits = (16.0, 256.0)
    config.whole.messages, config.whole.batch = 8, 4
    config.exact.path_bits, config.exact.memory = (32,), (8,)
    config.limit_bits = (1.0, 8.0, 64.0, 512.0)


def validate(config: ConfigDict) -> None:
    """Checks all fields.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    has_fields(plain(config), plain(channel_config()))
    races, chunks, whole = config.races, config.chunks, config.whole
    all_finite(plain(config))
    for field, values in (
        ("extra_bits", config.extra_bits),
        ("races.chunk_bits", races.chunk_bits),
        ("chunks.near_exact_bits", chunks.near_exact_bits),
        ("chunks.bounded_bits", chunks.bounded_bits),
        ("whole.dithered_bits", whole.dithered_bits),
        ("limit_bits", config.limit_bits),
    ):
        numbers(field, values)
    for group in ("whole", "exact"):
        for field in ("path_bits", "memory"):
            integers(f"{group}.{field}", config[group][field])
    within("seed", config.seed, 0, 2**32)
    above("tail", config.tail, 0.0)
    within("tail", config.tail, 0.0, 1.0)
    _distinct("extra_bits", config.extra_bits)
    if chunks.bounded_bits and not config.extra_bits:
        raise UsageError(
            "() has no number for the schemes of chunks.bounded_bits; give one, or empty both",
            field="extra_bits",
        )
    for value in config.extra_bits:
        within("extra_bits", value, 0, 11)
    for field, values in (
        ("races.chunk_bits", races.chunk_bits),
        ("chunks.near_exact_bits", chunks.near_exact_bits),
        ("chunks.bounded_bits", chunks.bounded_bits),
    ):
        _distinct(field, values)
        for value in values:
            above(field, value, 0.0)
            most = _MOST_RACE_BITS if field == "races.chunk_bits" else MAX_IDEAL_RATE
            within(field, value, 0.0, most)
    for field, values in (
        ("races.chunk_bits", races.chunk_bits),
        ("chunks.bounded_bits", chunks.bounded_bits),
    ):
        if (
            values
            and config.extra_bits
            and max(values) + max(config.extra_bits) > _MOST_BOUNDED_BITS
        ):
            raise UsageError(
                f"{max(values):g} bits and extra_bits = {max(config.extra_bits)} make more than "
                f"2^{_MOST_BOUNDED_BITS} candidates",
                field=field,
            )
    for field in ("near_exact", "bounded"):
        at_least(f"races.{field}", races[field], 2)
    at_least("races.bounded_normals", races.bounded_normals, 1)
    at_least("chunks.number", chunks.number, 1)
    if chunks.size % chunks.number or chunks.size < MIN_CHUNK_SIZE * chunks.number:
        raise UsageError(
            f"{chunks.number} does not divide chunks.size = {chunks.size} into parts of "
            f"at least {MIN_CHUNK_SIZE} dimensions",
            field="chunks.number",
        )
    for part in ("chunks", "whole"):
        at_least(f"{part}.messages", config[part].messages, 2)
        at_least(f"{part}.batch", config[part].batch, 1)
        if config[part].messages % config[part].batch:
            raise UsageError(
                f"{config[part].batch} does not divide {part}.messages = {config[part].messages}",
                field=f"{part}.batch",
            )
    _distinct("whole.path_bits", whole.path_bits)
    _distinct("whole.memory", whole.memory)
    _distinct("whole.dithered_bits", whole.dithered_bits)
    at_least("whole.size", whole.size, 2)
    for path_bits in whole.path_bits:
        for memory in whole.memory:
            try:
                TrellisChannel(whole.size, path_bits, memory)
            except UsageError as error:
                raise error.in_group("whole") from error
    for value in whole.dithered_bits:
        above("whole.dithered_bits", value, 0.0)
    _distinct("exact.path_bits", config.exact.path_bits)
    _distinct("exact.memory", config.exact.memory)
    for value in config.exact.path_bits:
        # Some targets need paths that are half as long again.
        within("exact.path_bits", value, LEAST_BITS, 7 * most_bits(whole.size) // 10 + 1)
    for memory in config.exact.memory:
        if memory not in MEMORIES:
            known = ", ".join(map(str, MEMORIES))
            raise UsageError(f"{memory} is not one of {known}", field="exact.memory")
    _distinct("limit_bits", config.limit_bits)
    for value in config.limit_bits:
        within("limit_bits", value, 1.0, 2.0**16)


def _distinct(field: str, values: tuple[int | float, ...]) -> None:
    if len(set(values)) < len(values):
        raise UsageError(f"{tuple(values)} names a number twice", field=field)
