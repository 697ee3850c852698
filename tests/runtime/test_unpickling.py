"""Pickles are gone over before Python makes room for what they announce."""

import io
import pickle
import struct

import numpy as np
import pytest

from diffc_jax.runtime.unpickling import RestrictedUnpickler, check_sizes

CONTENT = {
    "data": np.zeros((10, 192), np.uint8),
    "labels": list(range(300)),
    "text": "\u00e9" * 300,
    "long": 2**5000,
    "number": 1.5,
    "nested": (1, [2, {3: None}]),
    "bytes": b"abc" * 100,
    "array": bytearray(b"xx"),
}
HUGE = 10_000


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_pass(protocol):
    data = pickle.dumps(CONTENT, protocol)
    check_sizes(b"before" + data + b"after", len(b"before"))
    with pytest.raises((EOFError, ValueError)):
        check_sizes(data[:-1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x8e" + struct.pack("<Q", HUGE) + b"N.", f"it announces {HUGE} bytes and has 2"),
        (b"\x95" + struct.pack("<Q", HUGE) + b"N.", f"it announces {HUGE} bytes and has 2"),
        (b"X" + struct.pack("<I", 100) + b"N.", "it announces 100 bytes and has 2"),
        (b"Nr" + struct.pack("<I", 100) + b".", "it numbers an object 100"),
        (b"Np999999999\n.", "it numbers an object 999999999"),
        (b"N\xff.", "unknown opcode 0xff"),
        (b"N", "it is cut off"),
        (b"cnumpy\n", "it is cut off"),
        (b"J\0", "it is cut off"),
    ],
)
def test_what_is_not_there_is_told(data, message):
    for checked in (lambda: check_sizes(data), RestrictedUnpickler(io.BytesIO(data), {}).load):
        with pytest.raises((ValueError, EOFError)) as caught:
            checked()
        assert str(caught.value) == message
