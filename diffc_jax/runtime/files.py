"""Files that are either whole or absent, on disk or in an object store (gs://, s3://)."""

import contextlib
import glob
import hashlib
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from etils import epath

from diffc_jax.errors import InputError
from diffc_jax.runtime import lock, owner, signals
from diffc_jax.runtime.disk import only_writing, writing
from diffc_jax.runtime.json_text import parse_json
from diffc_jax.runtime.progress import ShareProgress

# What the folder of a run can be. Both know `/`, open, exists, glob, unlink, ...
AnyPath: TypeAlias = pathlib.Path | epath.Path

_HASHED_AT_ONCE = 1 << 20


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path of this machine; ~ is the home folder, and ~name that of a user, if there is one."""
    return pathlib.Path(os.path.expanduser(path))


def as_path(path: str | os.PathLike[str]) -> AnyPath:
    """A `local_path`; what begins like gs:// is one of an object store (packages gcsfs, s3fs)."""
    return epath.Path(path) if "://" in os.fspath(path) else local_path(path)


def is_remote(path: AnyPath) -> bool:
    """Whether a path is one of an object store, where files cannot be appended to or renamed at once."""
    return "://" in os.fspath(path)


def split_names(values: Iterable[str]) -> list[str]:
    """The names in the values of a flag, which are lists with commas; a value that exists is one name."""
    return [
        name
        for value in values
        for name in ([value] if _names_something(value) else value.split(","))
    ]


def _names_something(value: str) -> bool:
    return os.path.exists(value) or bool(glob.glob(value, recursive=True))


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives a temporary name, on the same disk as `path`; it replaces `path` only if the block succeeds.

    Nothing is left of it if the block fails or SIGTERM ends the program (`signals.leave_at_signals`). What a
    killed process left is removed by the next one that writes to the folder.

    Raises:
        InputError: the folder cannot be created or written, the disk is full, or the folder of the run was
            deleted or belongs to another process now (`lock.check`).
    """
    path = as_path(path)
    if not isinstance(path, pathlib.Path):
        with _scratch_folder() as folder:
            temporary = folder / path.name
            with writing(path):
                yield temporary
            path.write_bytes(temporary.read_bytes())  # objects appear when they are whole
        return
    lock.check(path)
    temporary = owner.temporary_name(path)
    with signals.ending_with(lambda: owner.discard(temporary)), writing(path):
        with only_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            owner.remove_leftovers(path.parent.absolute())
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        temporary.replace(path)


@contextlib.contextmanager
def _scratch_folder() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as folder, signals.ending_with(lambda: _remove(folder)):
        yield pathlib.Path(folder)


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def on_disk(path: AnyPath) -> Iterator[pathlib.Path]:
    """The file itself, or a copy of one of an object store, for libraries that read files by name.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(path, pathlib.Path):
        yield path
        return
    with _scratch_folder() as folder:
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file on disk, hexadecimal; logs how far it is when that takes long.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    progress = ShareProgress(f"SHA-256 of {path}")
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        while chunk := stream.read(_HASHED_AT_ONCE):
            digest.update(chunk)
            progress.reach(stream.tell() / size)
    return digest.hexdigest()


def to_json(value: Any, *, in_one_line: bool = False) -> str:
    """`value` as JSON (RFC 8259), of what `as_json` makes of it.

    Fields are sorted and indented, or in their order in one line.
    """
    layout: dict[str, Any] = {} if in_one_line else {"indent": 2, "sort_keys": True}
    return json.dumps(as_json(value), allow_nan=False, **layout)


def as_json(value: Any) -> Any:
    r"""`value` as `read_json` gives it back once it was written.

    JSON has no NaN and no infinity, which become None, and only Unicode: in names of files that are not
    UTF-8, `\udce9` stands for the byte 0xe9, as in the names of packed images.
    """
    if isinstance(value, Mapping):
        return {as_json(name): as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as `to_json` does, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(value) + "\n")


def read_json(path: str | os.PathLike[str], kind: Any = Any, fix: str = "") -> Any:
    """Reads a JSON file; NaN and infinity, which older versions wrote, become None.

    Args:
        path: the file.
        kind: the type of what it should hold, see `typed`.
        fix: what to do about a file that holds something else, for messages.

    Raises:
        InputError: it is missing, not JSON or not of that type.
    """
    try:
        data = as_path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return parse_json(data, path, kind, fix)
