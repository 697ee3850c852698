"""Files named by a config field: lists, folders and globs; and the images in folders and tar archives."""

import glob
import os
import pathlib
import re
import tarfile
import weakref
from array import array
from collections.abc import Callable

from diffc_jax.config.sources import SourceSpec
from diffc_jax.errors import InputError, UsageError

_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
_KIND = "images (" + ", ".join(sorted(_SUFFIXES)) + ")"
_BLOCK = 512
# What the `path` of a source names; of the others a file, a folder or a glob.
_FOLDERS = {
    "folder": "a folder",
    "array_record": "a prepared folder",
    "packed": "a prepared folder",
}


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image and is not hidden."""
    path = pathlib.PurePosixPath(name)
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


class FolderStore:
    """All images below one or more folders, sorted by their path in each folder."""

    def __init__(self, spec: SourceSpec):
        self.files: list[str] = []
        parts = entries(spec.path, "folder")
        for part in parts:
            root = pathlib.Path(part).expanduser()
            if not root.is_dir():
                raise InputError(f"{part}: no such folder")
            found = sorted(
                os.path.join(folder, name)
                for folder, _, names in os.walk(root, followlinks=True)
                for name in names
                if is_image_name(name)
            )
            if not found:
                raise InputError(f"{part}: holds no {_KIND}")
            self.files += found
        self.name = "+".join(pathlib.Path(part).expanduser().resolve().name for part in parts)

    def __len__(self) -> int:
        return len(self.files)

    def label(self, index: int) -> str:
        """The file's path."""
        return self.files[index]

    def read(self, index: int) -> bytes:
        """The file's bytes."""
        try:
            return pathlib.Path(self.files[index]).read_bytes()
        except OSError as error:
            raise InputError(f"{self.files[index]}: cannot be read ({error.strerror})") from error


class TarStore:
    """All images in one or more plain tar archives, in the order of the archives.

    Nothing is extracted: an index of offsets is made when the archives are opened (about 30,000
    members a second), and members are read in place.
    """

    def __init__(self, spec: SourceSpec):
        files = expand(spec.path, "tar", lambda file: file.suffix == ".tar", "tar files")
        self.files = [str(file) for file in files]
        self._archives = [file.open("rb", buffering=0) for file in files]
        for archive in self._archives:
            weakref.finalize(self, archive.close)
        self._members: list[str] = []
        self._where, self._offsets, self._sizes = array("I"), array("Q"), array("Q")
        for number, file in enumerate(files):
            self._index(number, file)
        stems = dict.fromkeys(re.sub(r"[-_.]\d+$", "", file.stem) for file in files)
        self.name = "+".join(stems)

    def _index(self, number: int, path: pathlib.Path) -> None:
        length, before = path.stat().st_size, len(self._members)
        try:
            with tarfile.open(path, "r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # else 2 kB stay per member
                    if member.offset_data + member.size > length:
                        raise InputError(f"{path}: is truncated in member {member.name}")
                    if member.isreg() and is_image_name(member.name):
                        self._members.append(member.name)
                        self._where.append(number)
                        self._offsets.append(member.offset_data)
                        self._sizes.append(member.size)
                end = archive.offset
        except tarfile.TarError as error:
            raise InputError(
                f"{path}: is truncated or not a plain tar file ({error}); "
                "compressed archives must be unpacked with gunzip or the like first"
            ) from error
        self._check_end(number, path, end)
        if len(self._members) == before:
            raise InputError(f"{path}: holds no {_KIND}")

    def _check_end(self, number: int, path: pathlib.Path, offset: int) -> None:
        tail = os.pread(self._archives[number].fileno(), 1 << 20, offset)
        if len(tail) < _BLOCK or any(tail[:_BLOCK]):
            raise InputError(f"{path}: is truncated: the end mark of the archive is missing")
        if any(tail):
            raise InputError(
                f"{path}: goes on after its end mark, like archives joined with cat; "
                "split it or pack the images anew"
            )

    def __len__(self) -> int:
        return len(self._members)

    def label(self, index: int) -> str:
        """Archive and member."""
        return f"{self.files[self._where[index]]}, member {self._members[index]}"

    def read(self, index: int) -> bytes:
        """The member's bytes."""
        stream = self._archives[self._where[index]]
        return os.pread(stream.fileno(), self._sizes[index], self._offsets[index])


def entries(path: str, source: str) -> list[str]:
    """The comma-separated parts of a `path` field; UsageError if there is none."""
    parts = [part.strip() for part in path.split(",") if part.strip()]
    if not parts:
        needed = _FOLDERS.get(source, "a file, a folder or a glob")
        raise UsageError(f"is empty; source={source} needs {needed}", field="path")
    return parts


def expand(
    path: str, source: str, in_folder: Callable[[pathlib.Path], bool], kind: str
) -> list[pathlib.Path]:
    """All files named by a `path` field, those of one folder or glob in natural order.

    `in_folder` tells which files of a folder are meant; messages name the kind of source and of file.

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


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `batch_2` before `batch_10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
