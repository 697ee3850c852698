"""What the `path` of a source names: its parts, the files among them, and which files are images."""

import collections
import glob
import os
import pathlib
import re
import resource
import stat
import weakref
from collections.abc import Callable

from absl import logging

from diffc_jax.errors import InputError, UsageError

# What Pillow registers for AVIF, BMP, GIF, JPEG, JPEG 2000, MPO, PNG, PPM, TIFF and WebP. Written down, so
# that the images of a folder, and with them the order of training, do not depend on Pillow's version.
IMAGE_SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".avifs", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc"),
        *(".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png"),
        *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
IMAGES = "images (" + ", ".join(sorted(IMAGE_SUFFIXES)) + ")"
# What the `path` of a source names; of the others a file, a folder or a glob.
_FOLDERS = {
    "folder": "a folder",
    "array_record": "a prepared folder",
    "packed": "a prepared folder",
}
# Reasons to leave an entry out of a set.
HIDDEN, FOLDER, SPECIAL = "hidden", "folders", "no regular files"
LINKED, BROKEN, TWICE = "links to what is there already", "broken links", "named twice"
_OTHER = "other files"
_HARMLESS = {HIDDEN, _OTHER}
_MOST_SUFFIXES = 5
# Of everything but the files of one store.
_OTHER_OPEN_FILES = 256


def is_image_name(name: str) -> bool:
    """Whether a file name ends like that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class LeftOut:
    """Counts what lies among the files of a set without belonging to it, by reason."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._suffixes: collections.Counter[str] = collections.Counter()

    def add(self, reason: str) -> None:
        """Counts one entry."""
        self._counts[reason] += 1

    def add_other(self, name: str) -> None:
        """Counts a file that is not of the kind looked for; the line will show its suffix."""
        self._counts[_OTHER] += 1
        self._suffixes[os.path.splitext(name)[1] or "none"] += 1

    def __str__(self) -> str:
        """The reasons with their counts, the most frequent one first; empty if nothing was left out."""
        suffixes = _by_frequency(self._suffixes)
        more = ["..."] if len(suffixes) > _MOST_SUFFIXES else []
        shown = {_OTHER: f" ({', '.join(suffixes[:_MOST_SUFFIXES] + more)})"}
        return ", ".join(
            f"{reason}{shown.get(reason, '')} {self._counts[reason]}"
            for reason in _by_frequency(self._counts)
        )

    def log(self, name: str) -> None:
        """One line about what was left out of the set with this name, if anything was."""
        if self._counts:
            level = logging.INFO if self._counts.keys() <= _HARMLESS else logging.WARNING
            logging.log(level, "%s: left out: %s", name, self)


def _by_frequency(counts: "collections.Counter[str]") -> list[str]:
    return sorted(counts, key=lambda key: (-counts[key], key))


class OpenFile:
    """A file that several threads read at any position; closed with the last reference to it."""

    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on."""
        return os.pread(self.descriptor, size, offset)


def files_to_keep_open(count: int) -> int:
    """How many of `count` files a store may hold open at once.

    An eighth of what the process may (`ulimit -n`): there are several stores, and other things to open.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count if allowed == resource.RLIM_INFINITY else min(count, max(1, allowed // 8))


def allow_open_files(count: int, name: str) -> None:
    """Raises this process's limit of open files where a library keeps `count` of them open.

    Raises:
        InputError: the administrator's limit is lower; the message begins with `name`.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_OPEN_FILES
    if allowed == resource.RLIM_INFINITY or needed <= allowed:
        return
    if most != resource.RLIM_INFINITY and needed > most:
        raise InputError(
            f"{name}: {count} files have to be open at once, and `ulimit -H -n` is {most}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def entries(path: str, source: str) -> list[str]:
    """The comma-separated parts of a `path` field; UsageError if there is none."""
    parts = [part.strip() for part in path.split(",") if part.strip()]
    if not parts:
        needed = _FOLDERS.get(source, "a file, a folder or a glob")
        raise UsageError(f"is empty; source={source} needs {needed}", field="path")
    return parts


def mode_of(path: str) -> int | None:
    """The mode of what a path leads to, None if there is nothing.

    Raises:
        InputError: that cannot be found out.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def scan(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, in no order; InputError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error


def expand(
    path: str,
    source: str,
    in_folder: Callable[[pathlib.Path], bool],
    kind: str,
    left_out: LeftOut,
) -> list[pathlib.Path]:
    """All files named by a `path` field, each once, those of one folder or glob in natural order.

    `in_folder` tells which files of a folder are meant; messages name the kind of source and of file.
    What else was found is counted in `left_out`.

    Raises:
        UsageError: the field is empty.
        InputError: a file does not exist or cannot be read, or a folder or glob holds none.
    """
    files = []
    for part in entries(path, source):
        here = os.path.expanduser(part)
        mode = mode_of(here)
        if mode is None and not glob.has_magic(part):
            raise InputError(f"{part}: no such file or folder")
        if mode is None:
            candidates = glob.glob(here, recursive=True)
            found = [file for file in candidates if _belongs(file, True, left_out)]
        elif stat.S_ISDIR(mode):
            found = [
                file
                for file in _visible(here, left_out)
                if _belongs(file, in_folder(pathlib.Path(file)), left_out)
            ]
        elif stat.S_ISREG(mode):
            found = [here]
        else:
            raise InputError(f"{part}: is neither a regular file nor a folder")
        if not found:
            raise InputError(f"{part}: holds no {kind}")
        files += sorted(map(pathlib.Path, found), key=lambda file: natural_key(str(file)))
    return _each_once(files, left_out)


def _visible(folder: str, left_out: LeftOut) -> list[str]:
    shown = []
    for entry in scan(folder):
        if entry.name.startswith("."):
            left_out.add(HIDDEN)
        else:
            shown.append(entry.path)
    return shown


def _belongs(path: str, wanted: bool, left_out: LeftOut) -> bool:
    mode = mode_of(path)
    if mode is None and wanted:
        raise InputError(f"{path}: is a broken link; mend or remove it")
    regular = mode is not None and stat.S_ISREG(mode)
    if regular and wanted:
        return True
    if mode is None or regular:
        left_out.add_other(path)
    else:
        left_out.add(FOLDER if stat.S_ISDIR(mode) else SPECIAL)
    return False


def _each_once(files: list[pathlib.Path], left_out: LeftOut) -> list[pathlib.Path]:
    """One of the paths that lead to the same file: the one in the fewest folders, rather no link."""
    best: dict[str, tuple[int, bool, pathlib.Path]] = {}
    for file in files:
        real = os.path.realpath(file)
        candidate = (len(file.parts), file.is_symlink(), file)
        if real in best:
            same = os.path.abspath(best[real][2]) == os.path.abspath(file)
            left_out.add(TWICE if same else LINKED)
        if real not in best or candidate[:2] < best[real][:2]:
            best[real] = candidate
    chosen = {str(file) for _, _, file in best.values()}
    return [file for file in dict.fromkeys(files) if str(file) in chosen]


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts `batch_2` before `batch_10`, and that no two names share."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts], name
