"""The Viterbi algorithm of the open trellis in machine code, for CPUs.

The same integers as the pass in `open_trellis`, which runs on any device, so that both find the same path. On
CPUs this one is several times as fast.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from jaxtyping import Int, Int16, UInt8


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function in machine code, which other threads need not wait for; options are those of `njit`."""
    # Tests wrap all functions, to check types; numba wants the functions themselves.
    function = inspect.unwrap(function)
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # Numba has no folder to keep compiled code in.
        return numba.njit(nogil=True, **options)(function)


# Indices that cannot be negative, and inner loops in functions of their own, make the compiler vectorise.


@compiled
def _labels(scores, signs, shift, label):  # type: ignore[no-untyped-def]
    shift = np.uint64(shift)
    rest = np.uint64(scores.shape[0]) - shift
    for row in range(rest):
        label[row] = np.int16(scores[row + shift] * signs[row])
    for row in range(shift):
        label[rest + row] = np.int16(scores[row] * signs[rest + row])


@compiled
def _stage(before, label, zero, one, oldest_of_zero, oldest_of_one):  # type: ignore[no-untyped-def]
    for row in range(np.uint64(label.shape[0])):
        even, odd = before[np.uint64(2) * row], before[np.uint64(2) * row + np.uint64(1)]
        even_zero, odd_zero = np.int16(even + label[row]), np.int16(odd - label[row])
        even_one, odd_one = np.int16(even - label[row]), np.int16(odd + label[row])
        # Scores wrap around: the sign of a difference says which is larger.
        zero_ahead = np.int16(odd_zero - even_zero)
        one_ahead = np.int16(odd_one - even_one)
        zero[row] = odd_zero if zero_ahead > 0 else even_zero
        one[row] = odd_one if one_ahead > 0 else even_one
        oldest_of_zero[row] = np.uint8(zero_ahead > 0)
        oldest_of_one[row] = np.uint8(one_ahead > 0)


@compiled
def _path(scores, shifts, signs, behind, path):  # type: ignore[no-untyped-def]
    n_stages, n_rows = scores.shape
    half = n_rows * len(shifts)
    totals = np.empty((2, 2 * half), np.int16)
    totals[0, :] = behind
    totals[0, 0] = 0
    label = np.empty(half, np.int16)
    oldest = np.empty((n_stages, 2 * half), np.uint8)
    for stage in range(n_stages):
        for group in range(len(shifts)):
            rows = label[group * n_rows : (group + 1) * n_rows]
            _labels(scores[stage], signs[group], shifts[group], rows)
        after, decided = totals[(stage + 1) & 1], oldest[stage]
        _stage(totals[stage & 1], label, after[:half], after[half:], decided[:half], decided[half:])
    last = totals[n_stages & 1]
    state, most = 0, np.int16(0)
    for other in range(2 * half):
        ahead = np.int16(last[other] - last[0])
        if ahead > most:
            state, most = other, ahead
    for stage in range(n_stages - 1, -1, -1):
        path[stage] = np.uint8(state >= half)
        state = (state % half) * 2 + oldest[stage, state]


def best_path(
    scores: Int16[np.ndarray, "k rows"],
    shifts: Int[np.ndarray, " groups"],
    signs: Int16[np.ndarray, "groups rows"],
    behind: int,
) -> UInt8[np.ndarray, " k"]:
    """The best path of a message.

    Args:
        scores: what each row of the table has in common with each stage.
        shifts: of each group of states, by how many rows of the table it is shifted.
        signs: of each row in each group.
        behind: score with which all states but the first one begin.

    Returns:
        Bits.
    """
    path = np.zeros(len(scores), np.uint8)
    _path(scores, shifts, signs, np.int16(behind), path)
    return path
