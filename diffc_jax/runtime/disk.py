"""Disks that are full, fail or may not be written, as one line."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import stat
from collections.abc import Iterator

from diffc_jax.errors import DiffcError, InputError

# What only writing can be the cause of.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# All that NumPy says of it, without a number.
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Around what writes to `path`: a disk that is full becomes one line.

    Raises:
        InputError: names `path`, the reason and the space that is left.
    """
    try:
        yield
    except Exception as error:
        reason = None if isinstance(error, DiffcError) else _reason(error)
        if reason is None:
            raise
        raise InputError(f"{path}: cannot be written ({reason}{_space_left(path)})") from error


@contextlib.contextmanager
def only_writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Around what does nothing else than write to `path`: every error of the system becomes one line.

    Raises:
        InputError: as of `writing`.
    """
    try:
        with writing(path):
            yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def check_writable(path: pathlib.Path) -> None:
    """Checks, before work whose result goes to `path`, that it can be written; creates nothing.

    Raises:
        InputError: it is a folder, its name is too long, or its folder cannot be made or written.
    """
    folder = _existing(path.parent)
    # A name can be too long for a folder that is still to be made, too.
    with only_writing(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = os.stat(folder / path.name)
        if folder == path.parent and stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path}: cannot be written (Is a directory)")
    if flaw := folder_flaw(folder):
        raise InputError(f"{path}: cannot be written ({flaw})")


def folder_flaw(folder: pathlib.Path) -> str:
    """Why nothing can be written to a folder, which may be still to be made; empty if it can."""
    found = _existing(folder)
    if not found.is_dir():
        return f"{found} is not a folder"
    if not os.access(found, os.W_OK | os.X_OK):
        return f"Permission denied: {found}"
    return ""


def _existing(path: pathlib.Path) -> pathlib.Path:
    """The path, or the nearest folder above it that exists."""
    return next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))


def _reason(error: BaseException) -> str | None:
    """What the system said, if it was the disk's fault; some libraries keep no more of it than the text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
            return os.strerror(cause.errno)
        if isinstance(cause, OSError) and _SHORT_WRITE.fullmatch(str(cause)):
            return os.strerror(errno.ENOSPC)
        texts = (os.strerror(number) for number in _DISK_ERRORS)
        if found := next((text for text in texts if text in str(cause)), None):
            return found
        cause = cause.__cause__ or cause.__context__
    return None


def _space_left(path: str | os.PathLike[str]) -> str:
    if "://" in os.fspath(path):
        return ""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(_existing(pathlib.Path(path))).free
        return f"; {free / 1e6:.1f} MB are left there"
    return ""
