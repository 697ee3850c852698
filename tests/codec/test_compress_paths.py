"""What compress.py and decompress.py take as inputs and outputs, and one file of several that is refused."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.paths import pair_files
from diffc_jax.codec.targets import Target
from diffc_jax.data.files import is_image_name
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.files import split_names
from tests.support.gaussian_run import export_model
from tests.support.refusals import fails


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with images in two folders of it, one name with a comma, and other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b,c.JPG", "in/sub.v1/a.png", "in/.trash/x.png", "in/.h.png"):
        path = pathlib.Path(name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    pathlib.Path("in/notes.txt").touch()
    return tmp_path


def pairs(inputs, output):
    found = pair_files(split_names(inputs), output, ".diffc", is_image_name)
    return {str(source): str(made) for source, made in found}


OF_FOLDER = {
    "in/a.png": "out/a.diffc",
    "in/b,c.JPG": "out/b,c.diffc",
    "in/sub.v1/a.png": "out/sub.v1/a.diffc",
}


@pytest.mark.parametrize("name", ["in", "in/"])
@pytest.mark.parametrize("output", ["out", "out/"])
@pytest.mark.usefixtures("folder")
def test_a_folder_becomes_a_folder(name, output):
    assert pairs([name], output) == OF_FOLDER


@pytest.mark.usefixtures("folder")
def test_a_folder_is_not_taken_from_where_it_goes_to():
    for made in ("in/out/a.diffc", "in/out/old.png"):
        pathlib.Path(made).parent.mkdir(exist_ok=True)
        pathlib.Path(made).touch()
    expected = {source: f"in/{made}" for source, made in OF_FOLDER.items()}
    assert pairs(["in"], "in/out") == expected


@pytest.mark.usefixtures("folder")
def test_the_folder_where_it_goes_to_may_be_named_in_other_ways():
    pathlib.Path("in/out").mkdir()
    pathlib.Path("in/out/old.png").touch()
    pathlib.Path("link").symlink_to("in/out")
    for output in ("in/sub.v1/../out", "link"):
        assert set(pairs(["in"], output)) == set(OF_FOLDER)


@pytest.mark.usefixtures("folder")
def test_links_to_folders_are_followed_once():
    """Not in circles, nor to what the folder holds anyway."""
    pathlib.Path("elsewhere/deep").mkdir(parents=True)
    pathlib.Path("elsewhere/deep/d.png").touch()
    pathlib.Path("elsewhere/back").symlink_to("../in")
    pathlib.Path("in/linked").symlink_to("../elsewhere")
    pathlib.Path("in/other").symlink_to("../elsewhere/deep")
    pathlib.Path("in/again").symlink_to("sub.v1")
    pathlib.Path("in/self").symlink_to(".")
    linked = {"in/other/d.png": "out/other/d.diffc"}
    assert pairs(["in"], "out") == {**OF_FOLDER, **linked}


@pytest.mark.parametrize(
    "inputs",
    [
        ["in/a.png,in/sub.v1", "in/b,c.JPG"],
        ["in/a.png", "in/sub.v1", "in/b,c.JPG"],
        ["in/b,?.JPG", "in/a.p*,in/sub.v1/"],
    ],
)
@pytest.mark.usefixtures("folder")
def test_names_with_commas_are_given_by_flags_of_their_own(inputs):
    pathlib.Path("in/sub.v1/a.png").rename("in/sub.v1/d.png")
    made = {"in/a.png": "out/a.diffc", "in/b,c.JPG": "out/b,c.diffc"}
    assert pairs(inputs, "out") == {**made, "in/sub.v1/d.png": "out/d.diffc"}


@pytest.mark.usefixtures("folder")
def test_outputs_that_end_in_a_slash_or_exist_are_folders():
    assert pairs(["in/a.png"], "out-v1.5/") == {"in/a.png": "out-v1.5/a.diffc"}
    assert pairs(["in/a.png"], "new.diffc/") == {"in/a.png": "new.diffc/a.diffc"}
    pathlib.Path("there.v2").mkdir()
    assert pairs(["in/a.png"], "there.v2") == {"in/a.png": "there.v2/a.diffc"}
    assert pairs(["in/sub.v1"], "out-v1.5") == {"in/sub.v1/a.png": "out-v1.5/a.diffc"}
    assert pairs(["in/a.png"], "out/b.diffc") == {"in/a.png": "out/b.diffc"}


@pytest.mark.usefixtures("folder")
def test_inputs_and_outputs_that_do_not_fit():
    fails(
        UsageError,
        "--output x.diffc: is one file for a folder; name a folder",
        lambda: pairs(["in/sub.v1"], "x.diffc"),
    )
    fails(
        UsageError,
        "--output x.DIFFC: is one file for a folder; name a folder",
        lambda: pairs(["in/sub.v1"], "x.DIFFC"),
    )
    pathlib.Path("empty").mkdir()
    fails(
        InputError,
        "--input empty: is a folder without a file to take; name files instead",
        lambda: pairs(["empty"], "out"),
    )
    fails(
        InputError,
        "--input in/b: no such file or folder",
        lambda: pairs(["in/a.png,in/b,d.JPG"], "out"),
    )
    fails(
        InputError,
        "--input in/s*: matches no file, and patterns leave folders out",
        lambda: pairs(["in/s*"], "out"),
    )
    fails(
        UsageError,
        "--input: in/a.png and in/sub.v1/a.png would both become out/a.diffc",
        lambda: pairs(["in/a.png,in/sub.v1"], "out"),
    )


# One of several


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_model(tmp_path_factory.mktemp("model"), 0.0)


@pytest.fixture
def images(tmp_path):
    """Three images, of which the second is the smallest, so that it needs most bits per pixel."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, width in (("a", 40), ("b", 4), ("c", 40)):
        PIL.Image.fromarray(np.full((8, width, 3), 100, np.uint8)).save(folder / f"{name}.png")
    return folder


def encode(model, images, output, target, dry_run=False):
    size = {"memory": 8, "seed": 0, "batch_size": 2}
    compress(model, [str(images)], str(output), target, **size, dry_run=dry_run)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_an_image_that_cannot_meet_the_target_is_left_out(model, images, tmp_path, caplog, capsys):
    target, out = Target(bpp=2.5), tmp_path / "out"
    fails(
        UsageError,
        "1 of 3 files are left out, as said above",
        lambda: encode(model, images, out, target, dry_run=True),
    )
    said = f"{images}/b.png: bpp: 2.5 is too little; this image needs at least 2.750"
    assert said in caplog.messages
    assert [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"{images}/a.png",
        f"{images}/c.png",
    ]
    assert not out.exists()
    caplog.clear()
    fails(
        UsageError,
        "1 of 3 files are left out, as said above",
        lambda: encode(model, images, out, target),
    )
    (line,) = (text for text in caplog.messages if "too little" in text)
    assert line.startswith(f"{images}/b.png: bpp: 2.5 is too little; this image needs at least ")
    assert names(out) == ["a.diffc", "c.diffc"]


def test_times_of_dry_runs_grow_with_the_rate(model, tmp_path, capsys):
    """A large photograph takes half a second for each 64x64 pixels at 1 bpp, and half of that at 0.25."""
    PIL.Image.new("L", (640, 640)).save(tmp_path / "large.png")

    def said(target):
        encode(model, tmp_path / "large.png", tmp_path / "out/", target, dry_run=True)
        return capsys.readouterr().out.partition(", and ")[2].partition(" with")[0]

    at = {bpp: int(said(Target(bpp=bpp)).removesuffix(" s")) for bpp in (0.25, 1.0)}
    assert 50 <= at[1.0] <= 65
    assert at[0.25] == pytest.approx(at[1.0] / 2, abs=1)
    assert said(Target(lossless=True)) == f"{at[1.0]} s at 1 bit per pixel"


def test_a_stream_that_has_nothing_to_decode_is_left_out(model, images, tmp_path, caplog):
    coded, out = tmp_path / "coded", tmp_path / "out"
    encode(model, images, coded, Target(gamma=2.0))
    least = 8 * (coded / "a.diffc").stat().st_size / (40 * 8)
    fails(
        UsageError,
        "1 of 3 files are left out, as said above",
        lambda: decompress(
            *(model, [str(coded)], f"{out}/"),
            decoder="mean",
            n_steps=2,
            at_bpp=least,
            salvage=False,
            batch_size=2,
        ),
    )
    (line,) = (text for text in caplog.messages if "too few" in text)
    assert line.startswith(f"{coded}/b.diffc: at: ")
    assert names(out) == ["a.png", "c.png"]


def test_streams_that_end_before_their_target_say_so(model, images, tmp_path, caplog):
    def said(target):
        caplog.clear()
        with caplog.at_level("INFO", logger="absl"):
            encode(model, images / "a.png", tmp_path / "a.diffc", target)
        return caplog.messages[-1].partition(" s; ")[2], (tmp_path / "a.diffc").read_bytes()

    least = load_codec(model, batch_size=1).programs.gamma_range[0]
    note, whole = said(Target(packets=1000))
    n_packets = len(parse(whole).cuts)
    end = f"the least noise of this model, gamma {least:.2f}, comes"
    assert note == f"{end} after {n_packets} packets"
    assert said(Target(packets=n_packets)) == ("", whole)
    assert said(Target(gamma=least - 1)) == (f"{end} before gamma {least - 1:g}", whole)
    assert said(Target(gamma=least)) == ("", whole)


@pytest.mark.parametrize("n_inputs", [1, 2])
def test_names_that_become_too_long_are_refused(model, images, tmp_path, n_inputs):
    """A suffix that is longer than the old one, and a name that no folder can hold."""
    long = images / f"{250 * 'x'}.png"
    (images / "a.png").rename(long)
    if n_inputs == 1:
        (images / "b.png").unlink()
        (images / "c.png").unlink()
    made = tmp_path / "out" / f"{250 * 'x'}.diffc"
    fails(
        InputError,
        f"{made}: cannot be written (File name too long)",
        lambda: encode(model, images, f"{tmp_path}/out", Target(bpp=5.0)),
    )
    made = tmp_path / f"{300 * 'x'}.diffc"
    fails(
        InputError,
        f"{made}: cannot be written (File name too long)",
        lambda: encode(model, long, made, Target(bpp=5.0)),
    )
    assert names(tmp_path) == ["images"]


def test_a_folder_of_streams_has_names_in_capitals(model, images, tmp_path, capsys):
    """As compress.py writes them where --output says so."""
    coded = tmp_path / "coded" / "A.DIFFC"
    encode(model, images / "a.png", coded, Target(gamma=2.0))
    options = {"decoder": "mean", "n_steps": None, "at_bpp": None, "batch_size": 2}
    decompress(None, [str(coded.parent)], f"{tmp_path}/out/", **options, dry_run=True)
    assert capsys.readouterr().out.endswith(f" -> {tmp_path}/out/A.png\n")


def test_nothing_is_open_before_there_is_something_to_write(model, images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(
        "diffc_jax.codec.files.encoding", lambda *_, **__: pytest.fail("was reached")
    )
    with pytest.raises(pytest.fail.Exception):
        encode(model, images, out, Target(bpp=5.0))
    assert not out.exists()
    (tmp_path / "locked").touch()
    fails(
        InputError,
        f"{tmp_path}/locked/x/a.diffc: cannot be written ({tmp_path}/locked is not a folder)",
        lambda: encode(model, images, tmp_path / "locked" / "x", Target(bpp=5.0)),
    )


def test_an_image_that_is_too_wide_is_left_out_of_a_dry_run(
    model, images, tmp_path, caplog, capsys
):
    PIL.Image.fromarray(np.zeros((1, 65536, 3), np.uint8)).save(images / "wide.png")
    fails(
        InputError,
        "1 of 4 files are left out, as said above",
        lambda: encode(model, images, tmp_path / "out", Target(bpp=20.0), dry_run=True),
    )
    said = f"{images}/wide.png: width of 65536 pixels; 1 to 65535 can be coded"
    assert said in caplog.messages
    shown = [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == [f"{images}/{name}.png" for name in "abc"]


def test_a_dry_run_counts_the_rows_that_are_added_to_a_narrow_picture(
    model, images, tmp_path, capsys, monkeypatch
):
    """65535x1 pixels are coded as 65535x8."""
    monkeypatch.setattr("diffc_jax.codec.files.PICTURE_BYTES", 15_000)
    PIL.Image.fromarray(np.zeros((1, 65535, 3), np.uint8)).save(images / "long.png")
    encode(model, images / "long.png", tmp_path / "out", Target(bpp=20.0), dry_run=True)
    assert "(65535x1, RGB; about 7.9 GB" in capsys.readouterr().out


def test_an_original_beside_its_file_is_not_replaced(tmp_path, monkeypatch):
    """Where a folder is named, which may be the one with the originals; a file that is named is replaced."""
    model = export_model(tmp_path, level=0.0)
    original = tmp_path / "in" / "a.png"
    original.parent.mkdir()
    PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(original)
    before = original.read_bytes()
    options = {"memory": 8, "seed": 0, "batch_size": 1}
    folder = f"{original.parent}/"
    compress(model, [str(original)], folder, Target(gamma=-1.0), **options)
    coded = original.with_suffix(".diffc")
    options = {"decoder": "mean", "n_steps": None, "at_bpp": None, "batch_size": 1}
    for output in (folder, str(original.parent)):
        with pytest.raises(InputError) as error:
            decompress(model, [str(coded)], output, **options)
        assert str(error.value) == (
            f"--output {output}: {original} is beside {coded}, perhaps what it was made of, and would be"
            " replaced; name another folder"
        )
    monkeypatch.chdir(tmp_path)  # the same folder in another spelling
    with pytest.raises(InputError, match=r"^--output in/: in/a\.png is beside"):
        decompress(model, [str(coded)], "in/", **options)
    assert original.read_bytes() == before
    decompress(model, [str(coded)], f"{tmp_path}/out/", **options)
    decompress(model, [str(coded)], f"{tmp_path}/out/", **options)
    decompress(model, [str(coded)], str(original), **options)
    assert original.read_bytes() == (tmp_path / "out" / "a.png").read_bytes() != before


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert pairs(["~/in/a.png"], "~/out/") == {f"{folder}/in/a.png": f"{folder}/out/a.diffc"}
