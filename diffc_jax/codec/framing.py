"""Parts of byte streams: whole numbers in few bytes (LEB128), and a checksum (CRC-8/SAE-J1850)."""

LONGEST_VARINT = 5

_POLYNOMIAL = 0x1D
_INITIAL = _FINAL_XOR = 0xFF


def encode_varint(value: int) -> bytes:
    """Seven bits a byte, least significant first; the top bit is set on all bytes but the last."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes, start: int) -> tuple[int, int]:
    """The number that begins at byte `start`, and the index of the byte after it.

    Raises:
        EOFError: the data end first.
        ValueError: longer than five bytes, or than it need be.
    """
    value = 0
    for i in range(LONGEST_VARINT):
        if start + i >= len(data):
            raise EOFError
        byte = data[start + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if i and not byte:
                raise ValueError("a number is longer than it need be")
            return value, start + i + 1
    raise ValueError(f"a number is longer than {LONGEST_VARINT} bytes")


def crc8(data: bytes, before: int = 0) -> int:
    """The checksum of `data`, or of `before`'s data and `data` together if `before` is a checksum."""
    register = before ^ _INITIAL
    for byte in data:
        register = _REMAINDERS[register ^ byte]
    return register ^ _FINAL_XOR


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte << 1 ^ (_POLYNOMIAL if byte & 0x80 else 0)
    return byte & 0xFF


_REMAINDERS = bytes(map(_remainder, range(256)))
