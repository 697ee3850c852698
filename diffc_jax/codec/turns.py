"""The order of the packets of a stream: the tile with the least signal-to-noise ratio has the next one.

It follows from the increments in the packets before, which are integers, and from nothing else.
"""

import heapq
from collections.abc import Sequence

from diffc_jax.codec import noise_levels


class Turns:
    """Whose turn it is: the tile of the lowest signal-to-noise ratio, the first such in raster order."""

    def __init__(self, n_tiles: int):
        """All tiles begin with a signal-to-noise ratio of 0."""
        self._queue = [(0, tile) for tile in range(n_tiles)]
        # Path bits of the last step of each tile, and what the next increment should be at as many.
        self._path_bits: list[int | None] = [None] * n_tiles
        self._predictions = [noise_levels.START] * n_tiles

    @property
    def tile(self) -> int | None:
        """The tile whose turn it is; None when all are finished."""
        return self._queue[0][1] if self._queue else None

    @property
    def started(self) -> bool:
        """Whether this tile had a packet before."""
        return self._path_bits[self._queue[0][1]] is not None

    def prediction(self, path_bits: int) -> noise_levels.Prediction:
        """Of the first increment of a packet of this tile.

        Args:
            path_bits: of its steps, a power of two.
        """
        tile = self._queue[0][1]
        before = self._path_bits[tile] or path_bits
        octaves = path_bits.bit_length() - before.bit_length()
        return self._predictions[tile].with_bits(octaves)

    def advance(self, path_bits: int, increments: Sequence[int]) -> None:
        """This tile has a packet of these steps.

        Args:
            path_bits: of each step, a power of two.
            increments: codes of what they add to the signal-to-noise ratio.
        """
        snr, tile = self._queue[0]
        snr += sum(map(noise_levels.increment, increments))
        prediction = self.prediction(path_bits)
        for code in increments:
            prediction = prediction.after(code)
        self._path_bits[tile], self._predictions[tile] = path_bits, prediction
        heapq.heapreplace(self._queue, (snr, tile))

    def finish(self) -> None:
        """This tile has no more turns."""
        heapq.heappop(self._queue)
