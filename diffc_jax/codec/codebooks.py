"""The samples that the paths of a stream name, in the codebooks of each version of the format."""

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8, UInt32

from diffc_jax.channel_simulation.open_trellis import OpenTrellis
from diffc_jax.channel_simulation.open_trellis_reach import MEMORIES
from diffc_jax.channel_simulation.trellis import TrellisChannel
from diffc_jax.codec.step_sizes import most_bits
from diffc_jax.errors import UsageError


@runtime_checkable
class Codebook(Protocol):
    """Decodes the paths of a batch of messages, of which each has its own number of bits."""

    def decode(
        self, keys: UInt32[Array, "b 2"], paths: Sequence[tuple[bytes, int]]
    ) -> Float[Array, "b m"]:
        """Samples of N(0, I), by path and number of its bits."""
        ...


class OpenCodebook:
    """That of version 2, which is also searched.

    Attributes:
        trellis: that does both.

    Raises:
        UsageError: the memory is not one of `MEMORIES`.
    """

    def __init__(self, size: int, memory: int):
        if memory not in MEMORIES:
            known = ", ".join(map(str, MEMORIES))
            raise UsageError(f"{memory} is not one of {known}", field="memory")
        self.trellis = OpenTrellis(size, memory, most_bits(size))

    def search(
        self, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"], path_bits: Sequence[int]
    ) -> list[bytes]:
        """The path of each message whose sample goes furthest in the direction of mu, of so many bits."""
        found = self.trellis.search(keys, mu, np.array(path_bits, np.int32))
        packed = np.packbits(np.asarray(found), axis=1)
        return [row[: -(-k // 8)].tobytes() for row, k in zip(packed, path_bits, strict=True)]

    def decode(
        self, keys: UInt32[Array, "b 2"], paths: Sequence[tuple[bytes, int]]
    ) -> Float[Array, "b m"]:
        """See `Codebook`."""
        bits = np.zeros((len(paths), self.trellis.most_bits), np.uint8)
        path_bits = np.array([k for _, k in paths], np.int32)
        for row, (path, k) in zip(bits, paths, strict=True):
            row[:k] = np.unpackbits(np.frombuffer(path, np.uint8), count=k)
        return self.trellis.decode(keys, bits, path_bits)


class CircularCodebook:
    """That of version 1: the bits of a path are a power of two, and each has a program of its own."""

    def __init__(self, size: int, memory: int):
        self._channel = functools.cache(lambda k: TrellisChannel(size, k, memory))
        self._size = size

    def decode(
        self, keys: UInt32[Array, "b 2"], paths: Sequence[tuple[bytes, int]]
    ) -> Float[Array, "b m"]:
        """See `Codebook`."""
        samples = jnp.zeros((len(paths), self._size), jnp.float32)
        for path_bits in sorted({k for _, k in paths}):
            mine = [k == path_bits for _, k in paths]
            rows: list[UInt8[np.ndarray, " bytes"]] = [
                np.frombuffer(path, np.uint8) if is_mine else np.zeros(path_bits // 8, np.uint8)
                for (path, _), is_mine in zip(paths, mine, strict=True)
            ]
            found = self._channel(path_bits).decode(keys, jnp.asarray(np.stack(rows)))
            samples = jnp.where(np.array(mine)[:, None], found, samples)
        return samples


def make_codebook(version: int, size: int, memory: int) -> OpenCodebook | CircularCodebook:
    """The codebook of a version of the format, for tiles of `size` dimensions."""
    return OpenCodebook(size, memory) if version == 2 else CircularCodebook(size, memory)
