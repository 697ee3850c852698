"""CRC-8/SAE-J1850, which guards the header and each packet of a stream."""

_POLYNOMIAL = 0x1D
_INITIAL = _FINAL_XOR = 0xFF


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
