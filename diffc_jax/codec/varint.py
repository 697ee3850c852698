"""Whole numbers of any size in few bytes: LEB128."""

LONGEST = 5


def encode(value: int) -> bytes:
    """Seven bits a byte, least significant first; the top bit is set on all bytes but the last."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode(data: bytes, start: int) -> tuple[int, int]:
    """The number that begins at byte `start`, and the index of the byte after it.

    Raises:
        EOFError: the data end first.
        ValueError: longer than five bytes, or than it need be.
    """
    value = 0
    for i in range(LONGEST):
        if start + i >= len(data):
            raise EOFError
        byte = data[start + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if i and not byte:
                raise ValueError("a number is longer than it need be")
            return value, start + i + 1
    raise ValueError(f"a number is longer than {LONGEST} bytes")
