"""Numbers as the container writes them: integers of any size, checksums."""

import pytest

from diffc_jax.codec.framing import crc8, decode_varint, encode_varint


def test_varint():
    for value in (0, 1, 127, 128, 300, 65535, (1 << 35) - 1):
        assert decode_varint(b"\xff" + encode_varint(value) + b"\xff", 1) == (
            value,
            1 + len(encode_varint(value)),
        )
    assert encode_varint(300) == b"\xac\x02"
    with pytest.raises(ValueError, match=r"^a number is longer than it need be$"):
        decode_varint(b"\x80\x00", 0)
    with pytest.raises(ValueError, match=r"^a number is longer than 5 bytes$"):
        decode_varint(b"\xff" * 6, 0)
    with pytest.raises(EOFError):
        decode_varint(b"\xff", 0)


def test_checksum_is_that_of_the_catalogue():
    assert crc8(b"123456789") == 0x4B
    assert crc8(b"6789", crc8(b"12345")) == 0x4B
