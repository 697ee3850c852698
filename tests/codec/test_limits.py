"""Sizes that a few bytes announce, models that know no such images, schedules that code nothing."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import diffc_jax as dj
from diffc_jax.codec import image_decoder, targets
from diffc_jax.codec.container import CodedStep, StreamWriter, parse
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.header import least_bytes
from diffc_jax.codec.image_decoder import decode_stream, decoding_bytes
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.picture_targets import picture_header
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import Header
from diffc_jax.codec.targets import Target
from diffc_jax.runtime.export import export_params, read_tensors
from diffc_jax.runtime.image_files import as_array
from tests.codec.test_images import GAMMA_RANGE, MEMORY, SIDE, encode, make_codec, make_image
from tests.support.gaussian_run import export_model
from tests.support.image_files import encoded
from tests.support.refusals import fails
from tests.support.streams import random_stream


@pytest.fixture(scope="module")
def codec():
    return make_codec()


def announcing(width, height, tile):
    """A stream of one step for each tile of an image of this size."""
    header = Header(width, height, tile, MEMORY, 0, bytes(2))
    return random_stream(header, header.n_tiles)[0]


def test_grey_pixels_are_counted_once(codec, monkeypatch):
    monkeypatch.setattr(targets, "_OVERHEAD", 0)
    for shape in ((SIDE, SIDE, 1), (SIDE, 2 * SIDE, 1)):
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        with pytest.raises(dj.UsageError, match=f"more than the {noise.size} bytes of the pixels"):
            encode(codec, noise, lossless=True)


def test_a_picture_may_be_smaller_than_its_tiles():
    """A dry run asks for the least size of the stream that is written: it has one chain."""
    header = Header(8 * SIDE, 8 * SIDE, SIDE, MEMORY, 0, bytes(2))
    target = Target(bpp=8 * least_bytes(picture_header(header)) / header.n_pixels)
    targets.check_target(target, picture_header(header))
    with pytest.raises(dj.UsageError, match="is too little"):
        targets.check_target(target, header)


def test_few_bytes_announce_many_pixels():
    """One step of no bits, as docs/limits.md says."""
    writer = StreamWriter(picture_header(Header(8192, 8192, 64, 14, 0, bytes(2))))
    sizes: tuple[int, ...] = (0,)
    while sizes or not writer.between_steps:
        path_bits = writer.next_sizes.offer(sizes).path_bits(0)
        writer.append(CodedStep(sizes, 0, bytes(-(-path_bits // 8)), 0))
        sizes = ()
    data = writer.to_bytes()
    assert parse(data).header.n_pixels == 67108864
    pages = pathlib.Path(__file__).parents[2] / "docs" / "limits.md"
    assert f"a `.diffc` file of {len(data)} bytes can announce them" in pages.read_text()


def test_seeds_are_whole_numbers_of_any_type(codec):
    image = make_image(SIDE, SIDE)
    same = [
        encode_image(codec, image, Target(packets=1), memory=MEMORY, seed=seed)
        for seed in (3, np.int64(3))
    ]
    assert same[0] == same[1]


def test_batches_of_no_tiles_are_refused():
    fails(dj.UsageError, "batch_size: must be positive, not 0", lambda: dj.load_codec(batch_size=0))


def test_streams_of_too_many_pixels_are_refused(tmp_path, codec, capsys):
    data = announcing(8192, 8193, 8192)
    said = (
        "is 8192x8193, and no image of more than 67108864 pixels is decoded; set max_pixels=67117056 to use"
        " it nevertheless"
    )
    fails(dj.InputError, f"data: {said}", lambda: dj.Codec(codec).decode(data))
    source, made = tmp_path / "a.diffc", tmp_path / "a.png"
    source.write_bytes(data)
    options = {"decoder": "flow", "n_steps": 1, "at_bpp": None, "batch_size": 1, "dry_run": True}

    def decode(**more):
        decompress(pathlib.Path("none"), [str(source)], str(made), **options, **more)

    fails(dj.InputError, f"{source}: {said}", decode)
    decode(max_pixels=67117056)
    out = capsys.readouterr().out
    assert out.endswith(
        "; about 6.6 GB, and 62 min with the shipped model on 2 CPU cores) -> " + f"{made}\n"
    )


def test_images_of_too_many_pixels_are_not_decoded(tmp_path):
    path = tmp_path / "a.png"
    # A header and three bytes of pixels.
    path.write_bytes(encoded(np.zeros((8, 12, 3), np.uint8))[:44])
    said = "is 12x8, and no image of more than 95 pixels is decoded; set max_pixels=96 to use it nevertheless"
    fails(dj.InputError, f"{path}: {said}", lambda: dj.read_image(path, max_pixels=95))
    with pytest.raises(dj.InputError, match="cannot be decoded"):
        dj.read_image(path)


@pytest.mark.parametrize("shape", [(150, 3, 3), (129, 2)])
def test_tall_images_are_copied_whole(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(as_array(PIL.Image.fromarray(pixels)), pixels)


def test_dry_runs_refuse_a_memory_without_tables(tmp_path):
    model, image = export_model(tmp_path, 0.0), tmp_path / "a.png"
    image.write_bytes(encoded(np.zeros((8, 8, 3), np.uint8)))
    arguments = model, [str(image)], str(tmp_path / "a.diffc"), Target(bpp=8.0)
    options = {"memory": 10, "seed": 0, "batch_size": 1, "dry_run": True}
    text = "memory: 10 is not one of 8, 12, 14"
    fails(dj.UsageError, text, lambda: compress(*arguments, **options))


@pytest.mark.parametrize("target", [{"bpp": 14.0}, {"lossless": True}])
def test_bands_of_tiles_change_nothing(codec, monkeypatch, target):
    data = encode(codec, make_image(40, 20), **target)
    stream = parse(data[:-3])
    reconstruct, tiles = Reconstructor.__call__, []

    def noting_keys(self, variables, z, snr, own_keys, batch_size):
        tiles.append(own_keys[:, 1].tolist())
        return reconstruct(self, variables, z, snr, own_keys, batch_size)

    monkeypatch.setattr(Reconstructor, "__call__", noting_keys)
    whole = decode_stream(codec, stream, "ancestral", 4)
    monkeypatch.setattr(image_decoder, "_BAND_VALUES", 1)
    assert len(image_decoder._bands(stream.header, codec.batch_size)) == 3
    bands = decode_stream(codec, stream, "ancestral", 4)
    np.testing.assert_array_equal(bands.image, whole.image)
    assert (bands.warnings, bands.lossless) == (whole.warnings, whole.lossless)
    # Each tile has noise of its own: its key says which.
    of_bands = [tile for some in tiles[1:] for tile in some]
    assert tiles[0] == of_bands == ([14] if "lossless" in target else [*range(15)])


def test_memory_grows_with_the_image_alone():
    """Latents are of a band, whatever the height."""
    once, twice = (decoding_bytes(parse(announcing(640, side, 64)), 16) for side in (17408, 34816))
    n_bytes = 640 * 17408 * 3
    assert n_bytes < twice - once < 1.1 * n_bytes


def test_a_model_without_a_clue_is_told_before_files_grow():
    shape = (SIDE, SIDE, 3)

    def white_everywhere(variables, z, gamma):
        del variables
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(s * gamma))[:, None, None, None] for s in (-1, 1))
        return (z - alpha) / sigma

    clueless = ProgramCache(white_everywhere, {}, shape, GAMMA_RANGE, bytes(4), 2)
    image = make_image(8, 16)
    fails(
        dj.UsageError,
        "lossless: takes more than the 384 bytes of the pixels; this model does not know such images, so"
        " store them as PNG",
        lambda: encode_image(clueless, image, Target(lossless=True), memory=MEMORY),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma_max": None}, "schedule.gamma_max: expected `float`, got `null`"),
        (
            {"gamma_max": -13.3},
            "schedule.gamma_min: -13.3 is not below schedule.gamma_max = -13.3",
        ),
    ],
)
def test_cards_with_a_schedule_that_codes_nothing(tmp_path, changes, message):
    card = export_model(tmp_path, 0.0) / "params.json"
    content = json.loads(card.read_text())
    content["schedule"] |= changes
    card.write_text(json.dumps(content))
    fails(
        dj.InputError,
        f"{card}: {message}; is it the card of the weights beside it?",
        lambda: dj.load_codec(tmp_path),
    )


def test_learnt_ends_that_coincide_are_refused(tmp_path):
    weights = export_model(tmp_path, 0.0) / "params.safetensors"
    card = json.loads(weights.with_suffix(".json").read_text())
    card["schedule"]["name"] = "learned_linear"
    ends = {"params/schedule/start": np.float32(-3.0), "params/schedule/range": np.float32(0.0)}
    export_params(weights, {**read_tensors(weights), **ends}, card)
    fails(
        dj.InputError,
        f"{weights}: its noise schedule goes from gamma -3 to -3, which must be two finite numbers in this"
        " order; the parameters are damaged or their training diverged",
        lambda: dj.load_codec(tmp_path),
    )
