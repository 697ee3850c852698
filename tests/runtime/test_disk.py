"""Full disks and folders that disappear: one line, wherever the error comes up."""

import errno
import os
import pathlib
import shutil
import types

import pytest

from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime import disk, files
from diffc_jax.runtime.writers import MetricWriter
from tests.support.refusals import fails

SPACE = "No space left on device; 1.5 MB are left there"


@pytest.fixture(autouse=True)
def little_space(monkeypatch):
    space = types.SimpleNamespace(free=1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: space)


def write_full(path):
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_with_its_space(tmp_path):
    path = tmp_path / "new" / "a.npz"
    fails(InputError, f"{path}: cannot be written ({SPACE})", lambda: write_full(path))
    assert not list(path.parent.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.json"
    fails(
        InputError,
        f"{path}: cannot be written (File exists)",
        lambda: files.write_json(path, {}),
    )


def test_metrics_on_a_full_disk(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    full = pathlib.Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    writer._lines.close()
    writer._lines = full.open("w")
    path = tmp_path / "metrics.jsonl"
    fails(
        InputError,
        f"{path}: cannot be written ({SPACE})",
        lambda: writer.scalars(1, {"train/loss": 1.0}),
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("200000 requested and 14320 written"), SPACE),
        (OSError(errno.EFBIG, "x"), "File too large; 1.5 MB are left there"),
        (OSError(errno.EDQUOT, "x"), "Disk quota exceeded; 1.5 MB are left there"),
        (OSError(errno.EROFS, "x"), "Read-only file system; 1.5 MB are left there"),
        (ValueError("UNKNOWN: error writing: No space left on device [type=x]"), SPACE),
    ],
)
@pytest.mark.parametrize("names_the_cause", [True, False])
def test_libraries_say_it_in_their_own_ways(error, reason, names_the_cause, tmp_path):
    def write():
        with disk.writing(tmp_path):
            try:
                raise error
            except Exception as cause:
                if names_the_cause:
                    raise RuntimeError("it did not work") from cause
                raise RuntimeError("it did not work")  # noqa: B904

    fails(InputError, f"{tmp_path}: cannot be written ({reason})", write)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "x"), OSError(errno.EIO, "x"), ValueError("x"), UsageError("x")]
)
def test_other_errors_are_left_as_they_are(error, tmp_path):
    with pytest.raises(type(error)) as caught, disk.writing(tmp_path):
        raise error
    assert caught.value is error


def test_places_are_checked_before_work(tmp_path, monkeypatch):
    disk.check_writable(tmp_path / "a" / "b" / "c.png")
    assert not list(tmp_path.iterdir())
    reason = f"{tmp_path}: cannot be written (Is a directory)"
    fails(InputError, reason, lambda: disk.check_writable(tmp_path))
    # New names need both: to write to a folder, and to look things up in it.
    for lacking in (os.W_OK, os.X_OK):
        monkeypatch.setattr("os.access", lambda _, mode, lacking=lacking: not mode & lacking)
        assert disk.folder_flaw(tmp_path) == f"Permission denied: {tmp_path}"
    path = tmp_path / "a" / "b.png"
    reason = f"{path}: cannot be written (Permission denied: {tmp_path})"
    fails(InputError, reason, lambda: disk.check_writable(path))
