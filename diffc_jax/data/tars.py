"""Images in plain tar archives, read in place."""

import dataclasses
import functools
import pathlib
import posixpath
import re
import tarfile
from array import array

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.files import (
    BROKEN,
    HIDDEN,
    IMAGES,
    LINKED,
    SPECIAL,
    LeftOut,
    OpenFile,
    expand,
    files_to_keep_open,
    is_image_name,
)
from diffc_jax.errors import DiffcError, InputError

_BLOCK = 512
# As on Linux.
_MOST_LINKS, _LONGEST_PATH = 40, 4096
_HIDDEN_PART = re.compile(r"(?:(?<=/)|^)\.(?!\.?(?:/|$))")
_IMAGE, _LINK, _SPARSE = "image", "link to an image", "sparse files"
_REPLACED = "earlier versions of members"


class TarStore:
    """All images in one or more plain tar archives, in the order of the archives.

    Nothing is extracted: an index of offsets is made when the archives are opened (about 30,000
    members a second), and members are read in place. Hard links are images of their own, as in the
    folder that the archive was made of; a symbolic link counts if what it leads to does not. Of members with
    one name the last counts, which is the one that extraction leaves.
    """

    def __init__(self, spec: SourceSpec):
        left_out = LeftOut()
        files = expand(spec.path, "tar", lambda file: file.suffix == ".tar", "tar files", left_out)
        self.files = [str(file) for file in files]
        self._open = functools.lru_cache(files_to_keep_open(len(files)))(OpenFile)
        self._members: list[str] = []
        self._where, self._offsets, self._sizes = array("I"), array("Q"), array("Q")
        for number, file in enumerate(files):
            images = _images(_index(file, left_out), file, left_out, spec.skip_corrupt)
            self._check_end(file, images.end)
            if not images.names:
                raise InputError(f"{file}: holds no {IMAGES}")
            self._members += images.names
            self._where.extend([number] * len(images.names))
            self._offsets += images.offsets
            self._sizes += images.sizes
        stems = dict.fromkeys(re.sub(r"[-_.]\d+$", "", file.stem) for file in files)
        self.name = "+".join(stems)
        left_out.log(self.name)

    def _check_end(self, path: pathlib.Path, offset: int) -> None:
        tail = self._read(str(path), offset, 1 << 20)
        if len(tail) < _BLOCK or any(tail[:_BLOCK]):
            raise InputError(f"{path}: is truncated: the end mark of the archive is missing")
        if any(tail):
            raise InputError(
                f"{path}: goes on after its end mark, like archives joined with cat; "
                "split it or pack the images anew"
            )

    def _read(self, path: str, offset: int, size: int) -> bytes:
        try:
            return self._open(path).read(offset, size)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error

    def __len__(self) -> int:
        return len(self._members)

    def label(self, index: int) -> str:
        """Archive and member."""
        return f"{self.files[self._where[index]]}, member {self._members[index]}"

    def read(self, index: int) -> bytes:
        """The member's bytes."""
        size = self._sizes[index]
        content = self._read(self.files[self._where[index]], self._offsets[index], size)
        if len(content) < size:
            raise InputError(f"{self.label(index)}: is no longer there; the archive was changed")
        return content


@dataclasses.dataclass
class _Index:
    """Files and links of an archive in their order; `end` is where its end mark should be.

    What hard and symbolic links lead to is in `hard` and `soft`, by their position; `sparse` are the
    positions of sparse files, whose bytes lie in pieces.
    """

    names: list[str] = dataclasses.field(default_factory=list)
    offsets: "array[int]" = dataclasses.field(default_factory=lambda: array("Q"))
    sizes: "array[int]" = dataclasses.field(default_factory=lambda: array("Q"))
    hard: dict[int, str] = dataclasses.field(default_factory=dict)
    soft: dict[int, str] = dataclasses.field(default_factory=dict)
    sparse: set[int] = dataclasses.field(default_factory=set)
    end: int = 0

    def add(self, name: str, offset: int = 0, size: int = 0) -> None:
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)


def _index(path: pathlib.Path, left_out: LeftOut) -> _Index:
    index, length = _Index(), path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else 2 kB stay per member
                if not 0 <= archive.offset <= length + _BLOCK:
                    raise InputError(f"{path}: is truncated in member {member.name}")
                if member.islnk():
                    index.hard[len(index.names)] = member.linkname
                    index.add(member.name)
                elif member.issym():
                    index.soft[len(index.names)] = member.linkname
                    index.add(member.name)
                elif member.isreg() and member.issparse():
                    index.sparse.add(len(index.names))
                    index.add(member.name)
                elif not 0 <= member.size <= length - member.offset_data:
                    raise InputError(f"{path}: is truncated in member {member.name}")
                elif member.isreg():
                    index.add(member.name, member.offset_data, member.size)
                elif is_image_name(member.name):
                    left_out.add(SPECIAL)
            index.end = archive.offset
    except DiffcError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise InputError(
            f"{path}: is truncated or not a plain tar file ({error}); "
            "compressed archives must be unpacked with gunzip or the like first"
        ) from error
    return index


def _images(index: _Index, path: pathlib.Path, left_out: LeftOut, skip_unusable: bool) -> _Index:
    """The images of an archive, each with the place of its bytes.

    Raises:
        InputError: one that has no such place, unless those are to be skipped.
    """
    places, kinds = _places(index), _kinds(index)
    direct = {place for place, kind in zip(places, kinds, strict=True) if kind == _IMAGE}
    images = _Index(end=index.end)
    linked: set[int] = set()
    for number, (name, kind, place) in enumerate(zip(index.names, kinds, places, strict=True)):
        if not kind:
            left_out.add_other(name)
        elif kind in (HIDDEN, _REPLACED):
            left_out.add(kind)
        elif place is None or place in index.sparse:
            if not skip_unusable:
                raise InputError(
                    f"{path}, member {name}: {_flaw(index, number, place)}, or set "
                    "skip_corrupt=True to leave it out"
                )
            left_out.add(BROKEN if place is None else _SPARSE)
        elif kind == _LINK and (place in direct or place in linked):
            left_out.add(LINKED)
        else:
            if kind == _LINK:
                linked.add(place)
            images.add(name, index.offsets[place], index.sizes[place])
    return images


def _flaw(index: _Index, number: int, place: int | None) -> str:
    if place is not None:
        return "is stored as a sparse file, which is not read; pack without tar --sparse"
    target = index.hard[number] if number in index.hard else index.soft[number]
    return f"is a link to {target}, which is not in the archive; pack with tar --dereference"


def _kinds(index: _Index) -> list[str]:
    """What each entry is: an image, a link to one, hidden, replaced by a later one, or nothing of that."""
    images = [name for name in index.names if is_image_name(name)]
    # An archive may have been made inside of a hidden folder, which then hides nothing.
    common = posixpath.commonprefix(images)
    start = common.rfind("/") + 1
    replaced = _replaced(index.names)
    kinds = []
    for number, name in enumerate(index.names):
        if not is_image_name(name):
            kinds.append("")
        elif _HIDDEN_PART.search(name, start):
            kinds.append(HIDDEN)
        elif number in replaced:
            kinds.append(_REPLACED)
        else:
            kinds.append(_LINK if number in index.soft else _IMAGE)
    return kinds


def _replaced(names: list[str]) -> set[int]:
    """The positions of names that come again, perhaps written in another way, as `tar -r` leaves them."""
    found: set[int] = set()
    later: set[str] = set()
    for number in reversed(range(len(names))):
        path = posixpath.normpath(names[number])
        if path in later:
            found.add(number)
        later.add(path)
    return found


def _places(index: _Index) -> list[int | None]:
    """Which entry has the bytes of each entry; itself unless it is a link, None if there is none."""
    places: list[int | None] = list(range(len(index.names)))
    if not index.hard and not index.soft:
        return places
    files: dict[str, int] = {}
    links: dict[str, str] = {}
    for number, name in enumerate(index.names):
        path = posixpath.normpath(name)
        if number in index.soft:
            links[path] = index.soft[number]
            continue
        links.pop(path, None)  # a file takes the place of an earlier link
        if number in index.hard:  # to a file that came before
            places[number] = files.get(posixpath.normpath(index.hard[number]))
        if (place := places[number]) is not None:
            files[path] = place
    for number in index.soft:
        places[number] = files.get(_followed(posixpath.normpath(index.names[number]), links))
    return places


def _followed(path: str, links: dict[str, str]) -> str:
    """Where a path leads when symbolic links in it are followed; the path itself where they loop."""
    followed = path
    for _ in range(_MOST_LINKS):
        if len(followed) > _LONGEST_PATH:
            break
        parts = followed.split("/")
        heads = ("/".join(parts[: count + 1]) for count in range(len(parts)))
        head = next((head for head in heads if head in links), None)
        if head is None:
            return followed
        target = posixpath.join(posixpath.dirname(head), links[head])
        followed = posixpath.normpath(target + followed[len(head) :])
    return path
