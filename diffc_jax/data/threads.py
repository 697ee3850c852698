"""Decoding in threads."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_windows(function: Callable[[T], R], items: Sequence[T]) -> Iterator[list[R]]:
    """Yields `function` of all items in order, some dozens a core at a time.

    Memory does not grow with the number of items. Pillow and the encoders run in parallel.
    """
    threads = os.cpu_count() or 1
    window = 64 * threads
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(items), window):
            yield list(pool.map(function, items[first : first + window]))
