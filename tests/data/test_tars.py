"""Which members of tar archives are images of the set, and archives beyond the limit of open files."""

import concurrent.futures
import gc
import io
import os
import resource
import shutil
import subprocess
import tarfile

import numpy as np
import pytest

from diffc_jax.data import SourceSpec, tars
from diffc_jax.data.tars import TarStore
from diffc_jax.errors import InputError
from tests.support.image_files import encoded, opened, pixels, write_tar
from tests.support.refusals import fails


def image(number):
    return encoded(pixels(number))


def write(path, *members):
    """Members are (name, number of the image), (name, what it links to) or (name, type of tarfile)."""
    with tarfile.open(path, "w") as archive:
        for name, content, *kind in members:
            info = tarfile.TarInfo(name)
            if kind:
                (info.type,), info.linkname = kind, content
                archive.addfile(info)
            else:
                data = image(content) if isinstance(content, int) else content
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE


def read(path, **fields):
    """Names and pixels of the images."""
    source = opened(source="tar", path=str(path), **fields)
    names = [source.label(index).split("member ")[1] for index in range(len(source))]
    return names, [source[index] for index in range(len(source))]


def left_out(caplog):
    return [record.getMessage() for record in caplog.records if "left out:" in record.getMessage()]


def check(path, expected, **fields):
    """`expected` has the number of the image of each name."""
    names, images = read(path, **fields)
    assert names == list(expected)
    np.testing.assert_array_equal(images, [pixels(number) for number in expected.values()])


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level("INFO", logger="absl")


def test_hard_links_are_images_in_their_place(tmp_path, caplog):
    path = write(
        tmp_path / "a.tar",
        ("./x/0.png", 0),
        ("./y/0.png", "./x/0.png", HARD),
        ("./y/1.png", "x/0.png", HARD),
        ("./x/blob", 1),
        ("./x/1.png", "./x/blob", HARD),
        ("z.png", "./y/1.png", HARD),
        ("./x/2.png", 2),
    )
    check(
        path,
        {
            "./x/0.png": 0,
            "./y/0.png": 0,
            "./y/1.png": 0,
            "./x/1.png": 1,
            "z.png": 0,
            "./x/2.png": 2,
        },
    )
    assert left_out(caplog) == ["a: left out: other files (none) 1"]


def test_what_symbolic_links_lead_to_counts_once(tmp_path, caplog):
    path = write(
        tmp_path / "a.tar",
        ("x/early.png", "../.store/b", SOFT),
        ("x/0.png", 0),
        ("x/again.png", "0.png", SOFT),
        ("latest", "x", SOFT),
        ("y/through.png", "../latest/./blob", SOFT),
        ("x/blob", 1),
        (".store/b", 2),
        ("y/late.png", "through.png", SOFT),
    )
    check(path, {"x/early.png": 2, "x/0.png": 0, "y/through.png": 1})
    assert left_out(caplog) == [
        "a: left out: other files (none) 3, links to what is there already 2"
    ]


@pytest.mark.parametrize(
    ("kind", "target"),
    [(SOFT, "../c/1.png"), (SOFT, "/etc/1.png"), (SOFT, "1.png"), (HARD, "e/2.png")],
    ids=["outside", "absolute", "itself", "not before"],
)
def test_links_to_nothing_in_the_archive(tmp_path, caplog, kind, target):
    path = write(tmp_path / "e.tar", ("e/0.png", 0), ("e/1.png", target, kind), ("e/2.png", 2))
    fails(
        InputError,
        f"{path}, member e/1.png: is a link to {target}, which is not in the archive; "
        "pack with tar --dereference, or set skip_corrupt=True to leave it out",
        lambda: read(path),
    )
    check(path, {"e/0.png": 0, "e/2.png": 2}, skip_corrupt=True)
    assert left_out(caplog)[-1] == "e: left out: broken links 1"


def test_hidden_members_and_other_files_are_left_out(tmp_path, caplog):
    path = write(
        tmp_path / "a.tar",
        ("./a/.ipynb_checkpoints/0.png", 9),
        ("./a/0.png", 0),
        ("./a/0.cls", b"7"),
        ("./._0.png", b"resource fork"),
        ("../up..png", 1),
        ("p.png", "", tarfile.FIFOTYPE),
        ("folder.png", "", tarfile.DIRTYPE),
    )
    check(path, {"./a/0.png": 0, "../up..png": 1})
    assert left_out(caplog) == ["a: left out: hidden 2, no regular files 2, other files (.cls) 1"]


def test_archives_made_inside_of_hidden_folders(tmp_path):
    path = write(tmp_path / "a.tar", ("./.data/0.png", 0), ("./.data/.x/1.png", 1))
    check(path, {"./.data/0.png": 0})


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_members_are_refused(tmp_path, version, caplog):
    """GNU tar's ways to leave out what is zero: the pixels of these members lie in pieces."""
    content = bytearray(encoded(pixels(0), "BMP"))
    (tmp_path / "0.bmp").write_bytes(bytes(content))
    with (tmp_path / "1.bmp").open("wb") as stream:
        stream.write(content[:54])
        stream.seek(1 << 20)
        stream.write(content[54:])
    path = tmp_path / "s.tar"
    options = ["--format=gnu"] if version == "gnu" else ["--format=posix"]
    options += [] if version == "gnu" else [f"--sparse-version={version}"]
    subprocess.run(
        ["tar", "--sparse", *options, "-cf", path, "-C", tmp_path, "0.bmp", "1.bmp"], check=True
    )
    assert path.stat().st_size < 1 << 20
    fails(
        InputError,
        f"{path}, member 1.bmp: is stored as a sparse file, which is not read; "
        "pack without tar --sparse, or set skip_corrupt=True to leave it out",
        lambda: read(path),
    )
    check(path, {"0.bmp": 0}, skip_corrupt=True)
    assert left_out(caplog) == ["s: left out: sparse files 1"]


def test_ordinary_archives_keep_order_and_labels(tmp_path):
    names = ["b/2.png", "a/10.PNG", "a/2.png", "./c.png", "b/1.png"]
    path = write(tmp_path / "a.tar", *((name, number) for number, name in enumerate(names)))
    found, images = read(path)
    assert found == names
    np.testing.assert_array_equal(images, [pixels(number) for number in range(5)])


def test_of_members_with_one_name_the_last_counts(tmp_path, caplog):
    path = write(
        tmp_path / "a.tar",
        ("a/x.png", 0),
        ("a/kept.png", "a/x.png", HARD),
        ("a/y.png", "kept.png", SOFT),
        ("./a/x.png", 1),
        ("a/y.png", 2),
        ("a/./x.png", 3),
        ("b/late.png", "../a/y.png", SOFT),
    )
    check(path, {"a/kept.png": 0, "a/y.png": 2, "a/./x.png": 3})
    assert left_out(caplog) == [
        "a: left out: earlier versions of members 3, links to what is there already 1"
    ]


def test_a_file_takes_the_place_of_an_earlier_link(tmp_path):
    """For what leads to its name, too."""
    path = write(
        tmp_path / "a.tar",
        ("a/y.png", 0),
        ("a/.x.png", "y.png", SOFT),
        ("a/.x.png", 5),
        ("a/z.png", ".x.png", SOFT),
    )
    check(path, {"a/y.png": 0, "a/z.png": 5})


def test_order_of_archives_is_not_that_of_the_file_system(tmp_path, monkeypatch):
    """Numbers that are equal are told apart, too."""
    names = ["n_01.tar", "n_1.tar", "n_001.tar"]
    for name in names:
        write(tmp_path / name, ("0.png", 0))
    orders = set()
    for found in (names, names[::-1]):
        paths = [str(tmp_path / name) for name in found]
        monkeypatch.setattr("glob.glob", lambda *_, paths=paths, **__: paths)
        orders.add(tuple(opened(source="tar", path=f"{tmp_path}/n_*.tar").files))
    assert orders == {tuple(str(tmp_path / name) for name in sorted(names))}


def test_archives_found_twice_count_once(tmp_path, caplog):
    folder = tmp_path / "d"
    folder.mkdir()
    for number in (2, 10):
        write(folder / f"n_{number}.tar", ("0.png", number))
    (folder / "a_latest.tar").symlink_to("n_10.tar")
    (folder / "again").symlink_to(".")
    (folder / ".hidden.tar").write_bytes(b"junk")
    (folder / "n_3.tar.gz").write_bytes(b"junk")
    os.mkfifo(folder / "pipe.tar")
    for path, line in (
        (f"{folder}/n_2.tar,{folder}/n_*.tar", "named twice 1"),
        (f"{folder}/n_2.tar,{folder}/*_*.tar", "links to what is there already 1, named twice 1"),
        (f"{folder}/**/n_*.tar", "links to what is there already 80"),
        (
            folder,
            "folders 1, hidden 1, links to what is there already 1, no regular files 1, "
            "other files (.gz) 1",
        ),
    ):
        caplog.clear()
        source = opened(source="tar", path=str(path))
        assert [source.label(index) for index in range(len(source))] == [
            f"{folder}/n_{number}.tar, member 0.png" for number in (2, 10)
        ], path
        assert left_out(caplog) == [f"n: left out: {line}"]


def test_paths_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "p.tar")
    fails(
        InputError,
        f"{tmp_path}/p.tar: is neither a regular file nor a folder",
        lambda: read(tmp_path / "p.tar"),
    )
    (tmp_path / "gone.tar").symlink_to("nowhere.tar")
    for path in (tmp_path, tmp_path / "g*.tar"):
        fails(
            InputError,
            f"{tmp_path}/gone.tar: is a broken link; mend or remove it",
            lambda path=path: read(path),
        )


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0"])
@pytest.mark.parametrize("kind", [b"0", b"2", b"5", b"S"])
def test_impossible_sizes_are_one_line(tmp_path, size, kind):
    path = write(tmp_path / "a.tar", ("0.png", 0))
    content = bytearray(path.read_bytes())
    content[124:136] = size
    content[156:157] = kind
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    refused = {
        b"2": ", member 0.png: is a link",
        b"S": "(: is truncated|, member 0.png: is stored)",
    }
    with pytest.raises(InputError, match=f"^{path}{refused.get(kind, ': is truncated')}"):
        read(path)


def test_an_archive_cut_behind_its_reader_is_noticed(tmp_path):
    path = write(tmp_path / "a.tar", ("0.png", 0), ("1.png", 1))
    source = opened(source="tar", path=str(path))
    os.truncate(path, 1200)
    fails(
        InputError,
        f"{path}, member 1.png: is no longer there; the archive was changed",
        lambda: source[1],
    )


def test_archives_are_closed_with_their_source(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.png": image(0)})
    store = TarStore(SourceSpec(source="tar", path=str(path)))
    store.read(0)
    descriptor = store._open(str(path)).descriptor
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    del store
    gc.collect()
    assert str(path) not in {
        os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
    }


@pytest.fixture
def few_open_files():
    """Lets this process open some dozens of files more than it has open now."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 60, allowed[1]))
    yield highest + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def test_more_archives_than_open_files(tmp_path, few_open_files):
    count = 2 * few_open_files
    first = write(tmp_path / "n0.tar", ("0.png", 0), ("1.png", 1))
    for number in range(1, count):
        shutil.copyfile(first, tmp_path / f"n{number}.tar")
    source = opened(source="tar", path=str(tmp_path))
    order = np.random.default_rng(0).permutation(2 * count)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda index: source[int(index)], order))
    np.testing.assert_array_equal(images, [pixels(index % 2) for index in order])


def test_open_files_are_an_eighth_of_the_limit(monkeypatch):
    for limit, count, kept in ((1024, 2000, 128), (1024, 100, 100), (4, 9, 1), (-1, 9999, 9999)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert tars.files_to_keep_open(count) == kept
