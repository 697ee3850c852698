"""experiments/compress.py and decompress.py: files in, files out, and one line for whatever is wrong."""

import itertools
import pathlib
import re
import shutil
import types

import jax
import numpy as np
import PIL.Image
import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.header import header_bytes
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.stream import Header
from diffc_jax.codec.targets import Target, round_up
from diffc_jax.errors import InputError, UsageError
from tests.support.gaussian_run import SIDE, export_model
from tests.support.processes import run_program

MEMORY = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_model(tmp_path_factory.mktemp("model"), 0.0)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    return export_model(tmp_path_factory.mktemp("other"), 0.1)


@pytest.fixture
def images(tmp_path):
    """RGB, grey and palette, all of two tiles."""
    folder = tmp_path / "images"
    folder.mkdir()
    y, x = np.mgrid[:8, :12][..., np.newaxis] / 4.0
    pixels = (128 + 100 * np.sin(y + np.arange(3)) * np.cos(x)).astype(np.uint8)
    rgb = PIL.Image.fromarray(pixels)
    rgb.save(folder / "rgb.png")
    rgb.convert("L").save(folder / "grey.png")
    rgb.quantize(16).save(folder / "palette.png")
    return folder


# What dry runs say of the smallest images.
COST = "about 0.1 GB, and 1 s{} with the shipped model on 2 CPU cores"


def encode(model, inputs, output, target=None, dry_run=False):
    compress(
        model,
        [str(one) for one in inputs],
        str(output),
        target or Target(lossless=True),
        memory=MEMORY,
        seed=0,
        batch_size=2,
        dry_run=dry_run,
    )


def decode(model, inputs, output, at_bpp=None, decoder="flow", dry_run=False, salvage=False):
    options = {"decoder": decoder, "n_steps": 4, "at_bpp": at_bpp, "salvage": salvage}
    sources = [str(one) for one in inputs]
    decompress(model, sources, str(output), batch_size=2, dry_run=dry_run, **options)


def pixels(path):
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fails(kind, job, *arguments, **options):
    with pytest.raises(kind) as caught:
        job(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# As programs


def run(program, *arguments):
    return run_program(f"experiments/{program}.py", *arguments)


def test_variables_are_sent_to_the_device_once(model):
    leaves = jax.tree.leaves(load_codec(model, batch_size=1).programs.variables)
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)


def test_there_and_back(model, images, tmp_path):
    """A stream that was cut decodes to the packet before, with one warning."""
    made = tmp_path / "new" / "a.diffc"
    flags = f"--model={model}", f"--memory={MEMORY}"
    done = run("compress", *flags, f"--input={images}/rgb.png", f"--output={made}", "--lossless")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{made}: {made.stat().st_size} bytes, " in done.stderr
    whole = made.read_bytes()
    made.write_bytes(whole[:-1])
    back = tmp_path / "back.png"
    done = run("decompress", f"--model={model}", f"--input={made}", f"--output={back}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("W")]
    assert len(warnings) == 1
    stream = parse(whole)
    assert warnings[0].endswith(f"{made}: packet {len(stream.cuts)} is cut off or damaged")
    found, expected = pixels(back), pixels(images / "rgb.png")
    exact = slice(SIDE)
    np.testing.assert_array_equal(found[:, exact], expected[:, exact])
    assert found.shape == expected.shape


@pytest.mark.parametrize(
    ("program", "flags", "code", "message"),
    [
        ("compress", ("--bpp=nan",), 2, "--bpp: nan is not a finite number"),
        (
            "compress",
            ("--bpp=1", "--memory=99"),
            2,
            "flag --memory=99: 99 is not an integer in the range [8, 14]",
        ),
        (
            "decompress",
            ("--decoder=foo",),
            2,
            "--decoder: 'foo' is not one of ancestral, flow, mean, kappa=K with K >= 1e-30",
        ),
        ("decompress", (), 1, "--input {input}: no such file or folder"),
    ],
)
def test_programs_fail_with_one_line(program, flags, code, message, tmp_path):
    name = tmp_path / "no.png"
    done = run(program, "--model=no", f"--input={name}", f"--output={tmp_path / 'out'}", *flags)
    assert done.stderr == f"{program}.py: error: {message.format(input=name)}\n"
    assert (done.returncode, done.stdout) == (code, "")
    assert not names(tmp_path)


# As functions


def test_several_files_into_a_folder(model, images, tmp_path):
    encode(model, [images / "r*.png", images / "grey.png", images / "palette.png"], tmp_path / "s")
    assert names(tmp_path / "s") == ["grey.diffc", "palette.diffc", "rgb.diffc"]
    decode(model, [tmp_path / "s" / "*.diffc"], tmp_path / "back")
    assert names(tmp_path / "back") == ["grey.png", "palette.png", "rgb.png"]
    for name in ("rgb", "grey"):
        np.testing.assert_array_equal(
            pixels(tmp_path / "back" / f"{name}.png"), pixels(images / f"{name}.png")
        )
    with PIL.Image.open(images / "palette.png") as palette:
        np.testing.assert_array_equal(
            pixels(tmp_path / "back" / "palette.png"), np.asarray(palette.convert("RGB"))
        )
    assert parse((tmp_path / "s" / "grey.diffc").read_bytes()).header.grey


def test_one_large_image_shows_how_far_it_is(model, images, tmp_path, monkeypatch, caplog):
    with PIL.Image.open(images / "rgb.png") as rgb:
        rgb.resize((40, 16)).save(images / "large.png")
    seconds = itertools.count(step=2.0)
    monkeypatch.setattr(
        "diffc_jax.runtime.progress.time", types.SimpleNamespace(monotonic=lambda: next(seconds))
    )
    with caplog.at_level("INFO", "absl"):
        encode(model, [images / "large.png"], tmp_path / "a.diffc")
    pattern = re.compile(re.escape(f"{images}/large.png: ") + r"(\d+) %, ETA (\d+):(\d\d)")
    lines = [match for text in caplog.messages if (match := pattern.fullmatch(text))]
    done = [int(line[1]) for line in lines]
    left = [60 * int(line[2]) + int(line[3]) for line in lines]
    assert done == sorted(done)
    assert done[0] < 50 < 80 < done[-1]
    # The clock stood at 10, 20, 30, ... seconds.
    for i, (percent, rest) in enumerate(zip(done, left, strict=True), start=1):
        assert rest == pytest.approx(
            10 * i * (100 / percent - 1), rel=60 / (percent * (100.5 - percent)), abs=1.0
        )


def test_dry_runs_say_what_would_be_done(model, images, tmp_path, capsys):
    made = tmp_path / "s" / "grey.diffc"
    encode(model, [images / "grey.png"], made, dry_run=True)
    assert capsys.readouterr().out == (
        f"{images}/grey.png (12x8, grey; {COST.format(' at 1 bit per pixel')}) -> {made}\n"
    )
    assert not made.parent.exists()
    encode(model, [images / "grey.png"], made, Target(packets=2))
    decode(pathlib.Path("none"), [made], tmp_path / "back.png", dry_run=True)
    size, fingerprint = made.stat().st_size, parse(made.read_bytes()).header.fingerprint.hex()
    assert capsys.readouterr().out == (
        f"{made} (12x8, grey, {size} bytes, {8 * size / 96:.3f} bits per pixel, 2 packets,"
        f" one chain in windows of 8 every 7, model {fingerprint}, version 2;"
        f" {COST.format('')}) -> {tmp_path}/back.png\n"
    )
    assert not (tmp_path / "back.png").exists()


def test_prefixes_and_decoders(model, images, tmp_path):
    made = tmp_path / "a.diffc"
    encode(model, [images / "rgb.png"], made)
    back = tmp_path / "back.png"
    n_bits = 8 * made.stat().st_size / 96
    found = []
    for decoder in ("flow", "mean"):
        decode(model, [made], back, at_bpp=n_bits / 2, decoder=decoder)
        found.append(pixels(back))
    assert (found[0] != found[1]).any()
    stream = parse(made.read_bytes())
    least = 8 * stream.cuts[0].n_bytes / 96
    assert fails(UsageError, decode, model, [made], tmp_path / "no.png", at_bpp=0.1) == (
        f"{made}: at: 0.1 bits per pixel are too few; this stream begins at {round_up(least)}"
    )
    assert fails(UsageError, decode, model, [made], back, decoder="kappa=-1") == (
        "--decoder: 'kappa=-1' is not one of ancestral, flow, mean, kappa=K with K >= 1e-30"
    )
    assert not (tmp_path / "no.png").exists()


def test_images_that_are_refused(model, images, tmp_path):
    def message(name):
        return fails(InputError, encode, model, [images / name], tmp_path / "a.diffc")

    with PIL.Image.open(images / "rgb.png") as rgb:
        rgb.convert("RGBA").save(images / "alpha.png")
        rgb.quantize(16).save(images / "clear.png", transparency=0)
        frames = [rgb.rotate(angle).quantize(16) for angle in (0, 90)]
        frames[0].save(images / "moving.gif", save_all=True, append_images=frames[1:])
        rgb.convert("CMYK").save(images / "cmyk.tif")
        rgb.resize((65536, 1)).save(images / "wide.png")
    PIL.Image.fromarray(np.zeros((8, 8), np.uint16)).save(images / "deep.png")
    (images / "text.png").write_text("text")
    (images / "empty.png").touch()
    (images / "cut.png").write_bytes((images / "rgb.png").read_bytes()[:100])
    assert message("alpha.png") == (
        f"{images}/alpha.png: has transparency; put it on a background first"
    )
    assert message("clear.png").endswith(
        "/clear.png: has transparency; put it on a background first"
    )
    assert message("moving.gif") == (
        f"{images}/moving.gif: has 2 frames; save the one to be encoded"
    )
    assert message("cmyk.tif") == (
        f"{images}/cmyk.tif: is a CMYK image; convert it to 8-bit RGB or grey first"
    )
    assert message("deep.png") == (
        f"{images}/deep.png: is a 16-bit image; convert it to 8-bit RGB or grey first"
    )
    unknown = "cannot be decoded (unknown image format or kind of pixels)"
    assert message("text.png") == f"{images}/text.png: {unknown}"
    assert message("empty.png") == f"{images}/empty.png: {unknown}"
    assert message("cut.png").startswith(f"{images}/cut.png: ")
    assert (
        message("wide.png") == f"{images}/wide.png: width of 65536 pixels; 1 to 65535 can be coded"
    )
    assert message("missing.png") == f"--input {images}/missing.png: no such file or folder"
    assert message("*.bmp") == f"--input {images}/*.bmp: no such file or folder"
    assert names(tmp_path) == ["images"]


def test_one_bad_image_stops_before_anything_is_written(model, images, tmp_path):
    (images / "z.png").write_text("text")
    message = fails(InputError, encode, model, [images / "*.png"], tmp_path / "s")
    assert message.startswith(f"{images}/z.png: cannot be decoded (")
    assert not (tmp_path / "s").exists()


def test_targets_that_this_image_cannot_meet_name_it(model, images, tmp_path):
    source, made = images / "rgb.png", tmp_path / "a.diffc"
    message = fails(UsageError, encode, model, [source], made, Target(bpp=0.01))
    assert message.startswith(f"{source}: bpp: 0.01 is too little; this image needs at least ")
    assert names(tmp_path) == ["images"]


def test_outputs_that_do_not_fit(model, images, tmp_path):
    one, all_of_them = [images / "rgb.png"], [images / "*.png"]
    message = fails(UsageError, encode, model, one, tmp_path / "a.png")
    assert message == (
        f"--output {tmp_path}/a.png: the name must end in .diffc, or that of a new folder in a slash"
    )
    message = fails(UsageError, encode, model, all_of_them, tmp_path / "a.diffc")
    assert message == f"--output {tmp_path}/a.diffc: is one file for 3 inputs; name a folder"
    (images / "more").mkdir()
    (images / "more" / "rgb.png").write_bytes((images / "rgb.png").read_bytes())
    message = fails(UsageError, encode, model, [*one, images / "more" / "rgb.png"], tmp_path / "s")
    assert message == (
        f"--input: {images}/rgb.png and {images}/more/rgb.png would both become {tmp_path}/s/rgb.diffc"
    )
    (images / "named.diffc").write_bytes((images / "rgb.png").read_bytes())
    message = fails(InputError, encode, model, [images / "named.diffc"], images)
    assert message == f"--output {images}/named.diffc: is the input; choose another name or folder"
    assert message.count("\n") == 0
    (tmp_path / "file").touch()
    message = fails(
        InputError, encode, model, one, tmp_path / "file" / "a.diffc", Target(packets=2)
    )
    assert message == (
        f"{tmp_path}/file/a.diffc: cannot be written ({tmp_path}/file is not a folder)"
    )
    assert names(tmp_path) == ["file", "images"]


def test_a_failure_leaves_the_old_file(model, images, tmp_path, monkeypatch):
    made = tmp_path / "a.diffc"
    made.write_bytes(b"old")

    def full(*arguments, **options):
        del arguments, options
        raise OSError(28, "No space left on device")

    free = types.SimpleNamespace(free=345_678)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    message = fails(InputError, encode, model, [images / "rgb.png"], made, Target(packets=2))
    reason = "cannot be written (No space left on device; 0.3 MB are left there)"
    assert message == f"{made}: {reason}"
    assert made.read_bytes() == b"old"
    monkeypatch.undo()
    encode(model, [images / "rgb.png"], made, Target(packets=2))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    monkeypatch.setattr(PIL.Image.Image, "save", full)
    message = fails(InputError, decode, model, [made], tmp_path / "back.png")
    assert message == f"{tmp_path}/back.png: {reason}"
    assert names(tmp_path) == ["a.diffc", "images"]


def test_streams_that_are_refused(model, other_model, images, tmp_path):
    made = tmp_path / "a.diffc"
    encode(model, [images / "rgb.png"], made, Target(packets=2))
    data = made.read_bytes()
    header = parse(data).header

    def message(content, codec=model):
        made.write_bytes(content)
        return fails(InputError, decode, codec, [made], tmp_path / "back.png")

    assert message(b"") == f"{made}: is empty"
    assert message(b"GIF89a") == f"{made}: is not a .diffc file"
    assert message(b"DFC\x03" + bytes(99)) == (
        f"{made}: has version 3 of the format; this program reads 1 and 2"
    )
    head = len(header_bytes(header))
    assert message(data[: head - 1]) == (
        f"{made}: is cut off inside the header, after {head - 1} bytes"
    )
    assert message(data[: head + 2]) == (
        f"{made}: is cut off or damaged: {head + 2} bytes cannot hold a step of an image of 12x8 pixels"
    )
    assert message(data[:30]) == (f"{made}: holds no whole step: packet 1 is cut off or damaged")
    absurd = header_bytes(Header(65535, 65535, 1, 12, 0, header.fingerprint))
    assert message(absurd + bytes(1000)) == (
        f"{made}: is cut off or damaged: {len(absurd) + 1000} bytes cannot hold a step for each tile of"
        " 1x1 of an image of 65535x65535 pixels"
    )
    assert message(data, other_model).startswith(
        f"{made}: was made with another model (fingerprint {header.fingerprint.hex()}, this one has "
    )
    assert names(tmp_path) == ["a.diffc", "images"]


def test_models_that_are_refused(model, images, tmp_path):
    def message(path):
        return fails(InputError, encode, path, [images / "rgb.png"], tmp_path / "a.diffc")

    assert message(tmp_path) == (
        f"--model {tmp_path}: there is no params.safetensors;"
        " experiments/train.py writes it when it is done"
    )
    assert message(tmp_path / "no") == f"--model {tmp_path}/no: there is no no"
    alone = tmp_path / "params.safetensors"
    alone.write_bytes((model / "params.safetensors").read_bytes())
    assert message(alone) == f"{tmp_path}/params.json: cannot be read (No such file or directory)"
    (tmp_path / "params.json").write_text("[]")
    assert message(alone).startswith(f"{tmp_path}/params.json: expected `object`, got `array`; ")
    (tmp_path / "params.json").write_bytes((model / "params.json").read_bytes())
    alone.write_bytes((export_model(tmp_path / "nan", np.nan) / alone.name).read_bytes())
    assert message(alone) == (
        f"{alone}: 'fixed/mean' holds NaN or infinity; the model was damaged or its training diverged"
    )
    alone.write_bytes(b"junk")
    assert message(alone).startswith(f"{alone}: is not a readable safetensors file (")
