"""Files named by a config field: lists, folders and globs."""

import glob
import pathlib
import re
from collections.abc import Callable

from diffc_jax.errors import InputError, UsageError


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `batch_2` before `batch_10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def entries(path: str, source: str) -> list[str]:
    """The comma-separated parts of a `path` field.

    Raises:
        UsageError: there is none.
    """
    parts = [part.strip() for part in path.split(",") if part.strip()]
    if not parts:
        raise UsageError(
            f"is empty; source={source} needs a file, a folder or a glob", field="path"
        )
    return parts


def expand(
    path: str, source: str, in_folder: Callable[[pathlib.Path], bool], kind: str
) -> list[pathlib.Path]:
    """All files named by a `path` field, those of one folder or glob in natural order.

    Args:
        path: files, folders and globs, separated by commas.
        source: the kind of source, for messages.
        in_folder: which files of a folder are meant.
        kind: what such a file is called, for messages.

    Raises:
        UsageError: the field is empty.
        InputError: a file does not exist, or a folder or glob holds none.
    """
    files = []
    for part in entries(path, source):
        here = pathlib.Path(part).expanduser()
        if here.is_file():
            found = [here]
        elif here.is_dir():
            found = [file for file in here.iterdir() if file.is_file() and in_folder(file)]
        elif glob.has_magic(part):
            matches = map(pathlib.Path, glob.glob(str(here), recursive=True))
            found = [file for file in matches if file.is_file()]
        else:
            raise InputError(f"{part}: no such file or folder")
        if not found:
            raise InputError(f"{part}: holds no {kind}")
        files += sorted(found, key=lambda file: natural_key(str(file)))
    return files
