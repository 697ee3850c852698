"""Which images an evaluation is about, and the subsets of them that have results of their own."""

import dataclasses
import fractions
import re
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from jaxtyping import Bool, Shaped, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.config.sources import REST
from diffc_jax.errors import UsageError
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import open_reference


@dataclasses.dataclass(frozen=True)
class ResultSet:
    """Images whose results go to one folder.

    Attributes:
        folder: `eval/` of the run, or of a subset in it.
        dataset: what results call the data set.
        split: what they call these images of it.
        images: their indices in the selection.
    """

    folder: AnyPath
    dataset: str
    split: str
    images: range

    def of(self, values: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "m ..."]:
        """What belongs to these images, of values of all of the selection."""
        return values[self.images.start : self.images.stop]


class Selection:
    """An `ImageSource` of some images of another, whose indices are positions in the selection.

    Attributes:
        name: of the data set.
        split: of the data set.
        subsets: name -> indices, one after the other from 0 to the end; empty without subsets.
    """

    def __init__(
        self,
        source: data.ImageSource,
        chosen: Sequence[int],
        subsets: Mapping[str, range],
        rest: Mapping[str, Sequence[int]],
    ):
        """`chosen` are indices in `source`; so are those in `rest`, of images left out of each subset."""
        self._source, self._chosen, self._rest = source, chosen, rest
        self.name, self.split, self.subsets = source.name, source.split, subsets

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._source[self._chosen[index]]

    def label(self, index: int) -> str:
        """The name of one image in messages."""
        return self._source.label(self._chosen[index])

    def result_sets(self, workdir: AnyPath) -> list[ResultSet]:
        """All images, in W/eval, and each subset, in W/SUBSET/eval."""
        whole = ResultSet(workdir / "eval", self.name, self.split, range(len(self)))
        subsets = (
            ResultSet(workdir / name / "eval", self.name, f"{self.split} {name}", images)
            for name, images in self.subsets.items()
        )
        return [whole, *subsets]

    def left_out(self) -> "list[Selection]":
        """The images that are not in the selection, of each set of `result_sets`.

        Of all subsets together as many of each, drawn at random, as keep their shares of the selection:
        otherwise even the evaluated photographs would be far from them.
        """
        whole = self._left_out(self._in_equal_shares())
        return [whole, *(self._left_out({name: self._rest[name]}) for name in self.subsets)]

    def _in_equal_shares(self) -> Mapping[str, Sequence[int]]:
        if not self.subsets:
            return self._rest
        # The largest multiple of the selection that the smallest rest allows.
        multiple = min(
            fractions.Fraction(len(self._rest[name]), len(images))
            for name, images in self.subsets.items()
        )
        counts = {name: round(multiple * len(images)) for name, images in self.subsets.items()}
        return {
            name: _divide_at_random(self._rest[name], count)[0] for name, count in counts.items()
        }

    def _left_out(self, rest: Mapping[str, Sequence[int]]) -> "Selection":
        left = Selection(self._source, [i for members in rest.values() for i in members], {}, {})
        left.split = " ".join((self.split, *(rest if self.subsets else ()), REST))
        return left

    def are_first(self, count: int) -> Bool[np.ndarray, " n"]:
        """Which images are among the first `count` of their subset, or of all without subsets."""
        first = np.zeros(len(self), bool)
        for images in self.subsets.values() or [range(len(self))]:
            first[images.start : images.stop][:count] = True
        return first


def images_to_evaluate(config: ConfigDict, source: data.ImageSource) -> Selection:
    """`select_images` by config.eval, at random where config.data.reference is the rest of the set.

    The first images of a set are often of other classes than the last ones, so that even the originals would
    be far from such a rest. At most half of each subset is evaluated then.
    """
    settings = config.eval
    at_random = config.data.reference.source == REST
    return select_images(source, settings.max_images, settings.subsets, at_random=at_random)


def select_images(
    source: data.ImageSource,
    max_images: int = 0,
    subsets: Sequence[str] = (),
    *,
    at_random: bool = False,
) -> Selection:
    """The first images of a source, or of each subset in it, one subset after the other.

    An image is of the subset whose name is a word of its label, the path of its file and its place in it:
    "hq64" of DATA/hq64.tar, DATA/hq64_01.tar and DATA/hq64/0.png, but not of DATA/hq640.tar.

    `max_images` of 0 means all. `at_random` draws them, at most half of them, the same ones each time, and
    keeps the order of the source. No image is decoded.

    Raises:
        UsageError: a subset without images, or an image of two.
    """
    divide = _draw_up_to_half if at_random else _divide
    if not subsets:
        chosen, left = divide(range(len(source)), max_images or len(source))
        return Selection(source, chosen, {}, {"": left})
    chosen = []
    ranges, rest = {}, {}
    for name, members in _members(source, subsets).items():
        if not members:
            raise UsageError(
                f"no image of {source.name} {source.split} is of {name!r}; name words of the"
                f" images' paths, such as {source.label(0)}",
                field="eval.subsets",
            )
        some, rest[name] = divide(members, max_images or len(members))
        ranges[name] = range(len(chosen), len(chosen) + len(some))
        chosen += some
        logging.info("%s: %d of %d images", name, len(ranges[name]), len(members))
    return Selection(source, chosen, ranges, rest)


def _divide(members: Sequence[int], count: int) -> tuple[Sequence[int], Sequence[int]]:
    """The first `count` of them, and the others."""
    return members[:count], members[count:]


def _draw_up_to_half(members: Sequence[int], count: int) -> tuple[Sequence[int], Sequence[int]]:
    """`_divide_at_random`, but at least as many others, if there are two."""
    return _divide_at_random(members, min(count, max(1, len(members) // 2)))


def _divide_at_random(members: Sequence[int], count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Both in their order. Those that a smaller count chooses are among those of a larger one."""
    shuffled = np.random.default_rng(0).permutation(len(members)).tolist()
    first, second = sorted(shuffled[:count]), sorted(shuffled[count:])
    return [members[i] for i in first], [members[i] for i in second]


def open_references(config: ConfigDict, selection: Selection) -> list[data.ImageSource | None]:
    """What each set is compared with beside its originals: config.data.reference; None for nothing.

    Raises:
        UsageError: a field that cannot be used, or no images that are not evaluated.
        InputError: files that cannot be read.
    """
    if not config.eval.features or config.data.reference.source != REST:
        return [open_reference(config)] * (1 + len(selection.subsets))
    left_out = selection.left_out()
    for rest in left_out[::-1]:  # the whole last: it is too small because a subset is
        if len(rest) < 2:
            raise UsageError(
                f"{rest.name} {rest.split} has {len(rest)} images, and a reference has at least 2; evaluate"
                " a subset of at least 3 images, or name another reference",
                field="data.reference.source",
            )
    return [*left_out]


def _members(source: data.ImageSource, names: Sequence[str]) -> dict[str, list[int]]:
    """Indices of all images of each subset."""
    # A word ends where letters and digits end.
    words = {name: re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])") for name in names}
    members: dict[str, list[int]] = {name: [] for name in names}
    for index in range(len(source)):
        label = source.label(index)
        found = [name for name, word in words.items() if word.search(label)]
        if len(found) > 1:
            raise UsageError(
                f"{label} is of {' and of '.join(map(repr, found))}; choose names of which"
                " only one is a word of each image's path",
                field="eval.subsets",
            )
        for name in found:
            members[name].append(index)
    return members
