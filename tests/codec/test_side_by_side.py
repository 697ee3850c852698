"""Several images at once: the same bytes and pixels as one by one, in fewer calls."""

import dataclasses

import numpy as np
import pytest

from diffc_jax.codec.chain import Chain
from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import parse
from diffc_jax.codec.encoder import towards
from diffc_jax.codec.image_decoder import decode_group, decode_stream, decoded_together
from diffc_jax.codec.image_encoder import encoding
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.side_by_side import run, run_all
from diffc_jax.codec.stream import Header, Step
from diffc_jax.codec.targets import Target
from diffc_jax.codec.tile_encoder import TileEncoder, advance
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models.gaussian import independent_eps_hat
from tests.support.streams import random_stream

SIDE, MEMORY, BATCH = 8, 8, 3
TARGETS = [{"bpp": 40.0}, {"psnr": 22.0}, {"packets": 2}, {"gamma": 0.0}, {"lossless": True}]


@pytest.fixture(scope="module")
def programs():
    shape = (SIDE, SIDE, 3)
    values = np.arange(1, SIDE**2 + 1) ** -1.2
    variances = np.broadcast_to((8 * values).reshape(SIDE, SIDE, 1), shape).astype(np.float32)
    fixed = {"fixed": {"variances": variances}}
    return ProgramCache(independent_eps_hat, fixed, shape, (-13.3, 5.0), b"abcd", BATCH)


@pytest.fixture(scope="module")
def codec(programs):
    return Codec(programs)


@pytest.fixture(scope="module")
def images():
    """A tile, less, grey, and several tiles."""
    rng = np.random.default_rng(0)
    shapes = [(8, 8, 3), (5, 8, 3), (8, 8, 1), (8, 8, 3), (9, 13, 3), (3, 2, 3), (8, 8, 3)]
    level = rng.integers(60, 190, len(shapes))
    return [
        np.clip(mean + rng.normal(0, 30, shape), 0, 255).astype(np.uint8)
        for mean, shape in zip(level, shapes, strict=True)
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_there_and_back_as_one_by_one(codec, images, target):
    found = codec.encode_many(images, **target, memory=MEMORY)
    assert found == [codec.encode(image, **target, memory=MEMORY) for image in images]
    decoded = codec.decode_many(found)
    for image, one, data in zip(images, decoded, found, strict=True):
        assert one.shape == image.shape
        np.testing.assert_array_equal(one, codec.decode(data))
        assert "lossless" not in target or (one == image).all()


def test_nothing_is_nothing(codec):
    assert codec.encode_many([], bpp=1.0) == codec.decode_many([]) == []


def test_batches_are_filled(codec, images, monkeypatch):
    """Tiles of other images take the places of those that are done."""
    sizes, predict = [], Chain.predict
    monkeypatch.setattr(
        Chain, "predict", lambda *some: sizes.append(len(some[2])) or predict(*some)
    )
    small = [image for image in images if max(image.shape) <= SIDE] * 2
    n_steps = [
        len(parse(data).items)
        for data in codec.encode_many(small, gamma=0.0, memory=MEMORY, seed=1)
    ]
    assert set(sizes) == {BATCH}
    assert len(sizes) <= sum(n_steps) / BATCH + max(n_steps)
    assert len(sizes) < 0.5 * sum(n_steps)


def test_an_image_that_is_refused_does_not_stop_others(programs, images):
    targets = {
        "a": Target(packets=2),
        "little": Target(bpp=0.1),
        "b": Target(packets=2),
        "much": Target(psnr=500.0),
        "c": Target(packets=2),
    }
    begun = []

    def jobs():
        for (name, target), image in zip(targets.items(), images[:1] * 5, strict=True):
            begun.append(name)
            yield name, encoding(programs, image, target, memory=MEMORY, seed=1)

    done, under_way = {}, []
    for name, result in run_all(jobs(), at_once=2):
        under_way.append(len(begun) - len(done))
        done[name] = result
    assert set(done) == set(targets)
    assert max(under_way) == 2
    alone = run(encoding(programs, images[0], Target(packets=2), memory=MEMORY, seed=1))
    assert done["a"]() == done["b"]() == done["c"]() == alone
    with pytest.raises(UsageError, match=r"^bpp: 0.1 is too little"):
        done["little"]()
    with pytest.raises(UsageError, match=r"^psnr: 500.0"):
        done["much"]()


def test_a_step_that_cannot_be_taken_is_that_of_one_tile(programs, images):
    def make():
        x = np.stack([images[0], images[3], images[6]]) / np.float32(127.5) - 1
        keys, end = tile_keys(5, 3), 1 << 48
        return TileEncoder(programs.chain(MEMORY), programs.variables, x, keys, end, BATCH)

    def refuse(*_):
        raise InputError("not this one")

    encoder, other = make(), make()
    choosers = [towards(encoder.end_snr), refuse, towards(encoder.end_snr)]
    wanted = [encoder.wanted(tile, chooser) for tile, chooser in enumerate(choosers)]
    errors = advance(wanted, 3)
    assert {number: str(error) for number, error in errors.items()} == {1: "not this one"}
    other.advance(range(3))
    assert [len(steps) for steps in encoder.steps] == [1, 0, 1]
    assert [encoder.steps[i] for i in (0, 2)] == [other.steps[i] for i in (0, 2)]
    np.testing.assert_array_equal(encoder.z[[0, 2]], other.z[[0, 2]])

    def job(chooser):
        yield [encoder.wanted(0, chooser)]
        return len(encoder.steps[0])

    results = dict(run_all([("refused", job(refuse)), ("done", job(towards(1 << 48)))], 2))
    assert results["done"]() == 2
    with pytest.raises(InputError, match="not this one"):
        results["refused"]()


def test_errors_say_which(codec, images):
    def fails(kind, job):
        with pytest.raises(kind) as caught:
            job()
        return str(caught.value)

    floats = [*images[:2], images[0] / 255.0]
    assert "images[2]: has shape (8, 8, 3)" in fails(
        UsageError, lambda: codec.encode_many(floats, bpp=9.0, memory=MEMORY)
    )
    found = fails(UsageError, lambda: codec.encode_many(images[:1], bpp=0.1, memory=MEMORY))
    assert found.startswith("images[0].bpp: 0.1 is too little")
    assert fails(UsageError, lambda: codec.encode_many(images)).startswith("choose one of bpp,")
    data = codec.encode_many(images[:2], packets=2, memory=MEMORY)
    assert fails(InputError, lambda: codec.decode_many([data[0], b"abc"])).startswith("data[1]: ")
    found = fails(UsageError, lambda: codec.decode_many(data, bpp=0.01))
    assert found.startswith("data[0].bpp: 0.01 bits per pixel are too few")
    assert fails(UsageError, lambda: codec.decode_many(data, n_steps=0)).startswith(
        "data[0].n_steps: "
    )


def test_what_is_wrong_with_one_stream_is_said_of_it(codec, programs, images):
    """Cut, of other latents than the sender's, and with damaged residuals."""
    whole = codec.encode(images[0], packets=3, memory=MEMORY)
    exact = bytearray(codec.encode(images[3], lossless=True, memory=MEMORY))
    streams = [parse(whole), parse(whole[:-1]), parse(whole), parse(bytes(exact))]
    *_, (tile, last) = streams[2].items
    items = [*streams[2].items[:-1], (tile, dataclasses.replace(last, check=last.check ^ 8))]
    streams[2] = dataclasses.replace(streams[2], items=items)
    tile, residual = streams[3].items[-1]
    damaged = dataclasses.replace(residual, crc=residual.crc ^ 1)
    streams[3] = dataclasses.replace(streams[3], items=[*streams[3].items[:-1], (tile, damaged)])
    for size in (2, 4):
        found = [
            one
            for group in decoded_together(streams, size)
            for one in decode_group(programs, group)
        ]
        for one, stream in zip(found, streams, strict=True):
            expected = decode_stream(programs, stream)
            assert (one.warnings, one.lossless, one.n_bytes) == (
                expected.warnings,
                expected.lossless,
                expected.n_bytes,
            )
            np.testing.assert_array_equal(one.image, expected.image)
        assert [len(one.warnings) for one in found] == [0, 1, 1, 1]


def test_only_streams_that_are_alike_are_decoded_together():
    def stream(width=8, memory=MEMORY, fingerprint=b"ab"):
        header = Header(width, 8, 8, memory, width, fingerprint)
        return parse(random_stream(header, 2, 0)[0])

    a, wide, other, another = stream(), stream(12), stream(memory=12), stream(fingerprint=b"cd")
    small = stream(5)
    assert all(isinstance(item, Step) for _, item in a.items)

    def groups(streams, most=4):
        return [len(group) for group in decoded_together(streams, most)]

    assert groups([]) == []
    assert groups([a, small, a]) == [3]
    assert groups([a, a, a, a, a], 2) == [2, 2, 1]
    assert groups([a, wide, wide, a, a]) == [1, 1, 1, 2]
    assert groups([a, a, other, other, another]) == [2, 2, 1]
