"""Numbers as the container writes them: noise levels, integers of any size, checksums."""

import pytest

from diffc_jax.codec import noise_levels
from diffc_jax.codec.framing import crc8, decode_varint, encode_varint


def test_noise_levels_are_exact():
    for code in range(noise_levels.LOWEST, noise_levels.HIGHEST + 1):
        units = noise_levels.increment(code)
        assert isinstance(units, int)
        assert noise_levels.to_float(units) == pytest.approx(2 ** (code / 16), rel=1e-5)
        assert noise_levels.nearest_code(noise_levels.to_float(units)) == code
    assert noise_levels.increment(0) == 1 << 48
    assert noise_levels.increment(-512) == 1 << 16
    assert noise_levels.increment(511) == 125515 << 63
    assert [noise_levels.nearest_code(d) for d in (0.0, 1e-30, 1e30, 1.02, 1.03)] == [
        *(-512, -512, 511, 0, 1)
    ]
    assert [noise_levels.nearest_code(d) for d in (float("inf"), -1.0)] == [511, -512]


def test_codes_of_increments():
    above_zero = noise_levels.Prediction(0, 1)

    def bits(code, prediction=above_zero):
        packed = noise_levels.pack([code], prediction)
        return "".join(f"{byte:08b}" for byte in packed)

    # The prediction, then in turn one step to either side.
    assert bits(1) == "10000000"
    assert bits(2) == "01000000"
    assert bits(0) == "01100000"
    assert bits(3) == "00100000"
    assert bits(-1) == "00101000"
    assert bits(-88, noise_levels.START) == "10000000"
    prediction = noise_levels.START
    for code, expected in ((-88, (-88, 12)), (-71, (-71, 9)), (-68, (-68, 2)), (-70, (-70, 1))):
        prediction = prediction.after(code)
        assert prediction == expected
    assert prediction.with_bits(-2) == (-102, 1)
    for prediction in ((-608, 24), (-80, 1), (0, 7), (607, 1)):
        prediction = noise_levels.Prediction(*prediction)
        codes = list(range(-512, 512))
        for code in codes:
            packed = noise_levels.pack([code], prediction)
            assert noise_levels.unpack(b"\xff" + packed + b"\xff", 1, 1, prediction) == (
                [code],
                1 + len(packed),
            )
        packed = noise_levels.pack(codes[::37], prediction)
        found, _ = noise_levels.unpack(packed, 0, len(codes[::37]), prediction)
        assert found == codes[::37]


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
