"""Images in folders: every file once, whichever links lead to it."""

import errno
import os
import pathlib
import stat

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.files import (
    BROKEN,
    HIDDEN,
    IMAGES,
    LINKED,
    SPECIAL,
    TWICE,
    LeftOut,
    entries,
    is_image_name,
    mode_of,
    scan,
)
from diffc_jax.errors import InputError


class FolderStore:
    """All images below one or more folders, sorted by their path in each folder.

    Hidden files and folders are left out. Links are followed, but an image that is in one of the folders
    itself is used under that path only, and one elsewhere under the first of the links to it.
    """

    def __init__(self, spec: SourceSpec):
        parts = entries(spec.path, "folder")
        walk = _Walk(spec.skip_corrupt)
        found = walk.images([os.fspath(pathlib.Path(os.path.expanduser(part))) for part in parts])
        for part, files in zip(parts, found, strict=True):
            if files is not None and not files:
                raise InputError(f"{part}: holds no {IMAGES}")
        self.files = [file for files in found for file in files or ()]
        roots = dict.fromkeys(os.path.realpath(os.path.expanduser(part)) for part in parts)
        self.name = "+".join(os.path.basename(root) for root in roots)
        walk.left_out.log(self.name)

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


class _Walk:
    """Searches folders for images; knows where it has been by real paths, which need no inode numbers."""

    def __init__(self, skip_broken: bool):
        self.left_out = LeftOut()
        self._skip_broken = skip_broken
        self._been: set[str] = set()
        self._files: list[list[str]] = []
        # Number of the root, and path.
        self._links: list[tuple[int, str]] = []
        self._met_again: set[int] = set()

    def images(self, roots: list[str]) -> list[list[str] | None]:
        """Sorted images of each root; None where all of them are those of another root.

        Raises:
            InputError: a folder that cannot be read, or a broken link that is not to be skipped.
        """
        self._files = [[] for _ in roots]
        # What is in the folders themselves comes first, so that links to it are known for what they are.
        for number, root in enumerate(roots):
            mode = mode_of(root)
            if mode is None or not stat.S_ISDIR(mode):
                raise InputError(f"{root}: no such folder")
            self._search(number, root, os.path.realpath(root), TWICE)
        to_files: list[tuple[int, str]] = []
        while self._links:
            links, self._links = sorted(self._links), []
            for number, path in links:
                mode = self._mode_of_link(path)
                if mode is not None and stat.S_ISDIR(mode):
                    self._search(number, path, os.path.realpath(path), LINKED)
                elif mode is not None and self._is_image(path, stat.S_ISREG(mode)):
                    to_files.append((number, path))
        linked: set[str] = set()
        for number, path in sorted(to_files):
            target = os.path.realpath(path)
            folder, name = os.path.split(target)
            in_sight = folder in self._been and is_image_name(name) and not name.startswith(".")
            if in_sight or target in linked:
                self.left_out.add(LINKED)
            else:
                linked.add(target)
                self._files[number].append(path)
        return [
            sorted(files) if files or number not in self._met_again else None
            for number, files in enumerate(self._files)
        ]

    def _search(self, number: int, folder: str, real: str, reason: str) -> None:
        waiting = [(folder, real)]
        while waiting:
            folder, real = waiting.pop()
            if real in self._been:
                self.left_out.add(reason)
                self._met_again.add(number)
                continue
            self._been.add(real)
            for entry in scan(folder):
                if entry.name.startswith("."):
                    self.left_out.add(HIDDEN)
                elif entry.is_symlink():
                    self._links.append((number, entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, os.path.join(real, entry.name)))
                elif self._is_image(entry.path, entry.is_file(follow_symlinks=False)):
                    self._files[number].append(entry.path)

    def _is_image(self, path: str, regular: bool) -> bool:
        if not is_image_name(path):
            self.left_out.add_other(path)
        elif not regular:
            self.left_out.add(SPECIAL)
        return regular and is_image_name(path)

    def _mode_of_link(self, path: str) -> int | None:
        try:
            return os.stat(path).st_mode
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if not self._skip_broken:
            raise InputError(
                f"{path}: is a broken link to {os.readlink(path)}; mend or remove it, or set"
                " skip_corrupt=True to leave it out"
            )
        self.left_out.add(BROKEN)
        return None
