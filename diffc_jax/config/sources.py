"""Data sources in a config: their fields, mixtures of several, and what a batch is made of."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from diffc_jax.config.checks import above, numbers
from diffc_jax.errors import InputError, UsageError
from diffc_jax.typed import one_of

# What a source of a mixture has beside the fields of `SourceSpec`.
MIXTURE_FIELDS = ("weight", "min_gamma")
_WEIGHTS_TOLERANCE = 1e-3
# As data.reference.source: the images of data.eval that are not evaluated.
REST = "rest"
# What a source does not look at. The crops of photos are RGB, whole and of the size asked for.
_UNUSED = {
    REST: (
        *("path", "name", "split", "resize", "resize_filter", "non_rgb", "skip_corrupt"),
        *("max_images", "max_pixels"),
    ),
    "photos": ("path", "name", "resize", "non_rgb", "skip_corrupt", "max_pixels"),
    # Pixels, which nobody decodes.
    **dict.fromkeys(("npz", "pickle", "packed"), ("non_rgb", "skip_corrupt", "max_pixels")),
    "": (
        *("path", "name", "split", "resize", "resize_filter", "non_rgb", "skip_corrupt"),
        *("max_images", "max_pixels"),
    ),
}
# Pixels of a picture, unless somebody asks for more: 0.2 GB in RGB.
MOST_PIXELS = 1 << 26

SOURCES = ("photos", "tfds", "npz", "pickle", "folder", "tar", "array_record", "packed")
RESIZE_MODES = ("refuse", "squash", "crop")
RESIZE_FILTERS = ("box", "area")
NON_RGB_MODES = ("refuse", "convert")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Which images, and how they become `image_size` x `image_size` RGB.

    A config has these fields for each source, but for `image_size`, which all its sources share.

    Attributes:
        source: photos, tfds, npz, pickle, folder, tar, array_record or packed; for data.reference also
            rest, the images of data.eval that are not evaluated. Fields that it does not use have to keep
            their defaults; photos uses only split, resize_filter and max_images.
        path: for folder, folders of images; for tar, npz and pickle, files, folders or globs; for
            array_record and packed, prepared folders or their manifests; several separated by commas.
            For tfds, the data directory or the folder of one prepared data set, empty for the default.
            Hidden files and folders are left out, links are followed, and what is found twice counts
            once.
        name: the TFDS builder ("imagenet_resized/64x64"); for other sources what results
            call the data set, empty for the name in its manifest or one derived from the path.
        split: "train" or "eval" for photos; a TFDS split; "train" or "validation" choose among the
            official ImageNet files in a folder; for other sources only recorded in results.
        image_size: height and width of every image, pixels.
        resize: what happens to an image of another size. "refuse" makes it an error; "squash"
            shrinks it without keeping the aspect; "crop" takes the central square and shrinks that.
            Smaller images are never enlarged.
        resize_filter: how images are shrunk, those of photos too. "box" is Pillow's BOX, the mean of
            the pixels whose centres lie in a rectangle, which at factors that are no whole number is
            not symmetric and no area average; "area" is the exact mean over the rectangle.
        non_rgb: what happens to an image that is not one picture in 8-bit RGB with the colours of
            sRGB. "refuse" makes it an error; "convert" makes it one (docs/usage.md has a table).
            Floating-point and 32-bit images are always refused.
        skip_corrupt: leave out images that cannot be decoded, or that `resize` or `non_rgb` refuses, and
            log each by name; leave out broken links. Every image is decoded once when the source is
            opened.
        max_images: use only the first images of the source's fixed order; 0 means all.
        max_pixels: refuse to decode images of more pixels, width times height, which `resize` would shrink.
            Pillow decodes none of more than 179 million.
    """

    source: str = "photos"
    path: str = ""
    name: str = ""
    split: str = "train"
    image_size: int = 64
    resize: str = "refuse"
    resize_filter: str = "box"
    non_rgb: str = "refuse"
    skip_corrupt: bool = False
    max_images: int = 0
    max_pixels: int = MOST_PIXELS


def check_pixels(label: str, width: int, height: int, max_pixels: int) -> None:
    """Refuses an image of more than `max_pixels`, before room is made for it.

    Raises:
        InputError: begins with `label` and says what to set.
    """
    if width * height > max_pixels:
        raise InputError(
            f"{label}: is {width}x{height}, and no image of more than {max_pixels} pixels is decoded; set"
            f" max_pixels={width * height} to use it nevertheless"
        )


def source_config(**fields: Any) -> ConfigDict:
    """A data source in a config: the fields of `SourceSpec` without `image_size`, and their defaults."""
    defaults = dataclasses.asdict(SourceSpec())
    del defaults["image_size"]
    return ConfigDict(defaults | fields)


def training_source(weight: float, min_gamma: float | None = None, **fields: Any) -> ConfigDict:
    """One of several sources of config.data.train.

    Args:
        weight: fraction of every batch; the weights of all sources add up to one.
        min_gamma: use its images only at noise levels (-log SNR) above this, where noise hides their
            artefacts; None for all levels.
        **fields: as of `source_config`.
    """
    source = source_config(**fields)
    source.weight = weight
    source.min_gamma = placeholder(float)
    if min_gamma is not None:
        source.min_gamma = min_gamma
    return source


def plain(config: Any) -> Any:
    """A config as nested dicts and tuples, those of the sources of a mixture included."""
    if isinstance(config, ConfigDict | dict):
        return {name: plain(value) for name, value in config.items()}
    return tuple(map(plain, config)) if isinstance(config, tuple | list) else config


def set_training_sources(config: ConfigDict, *sources: ConfigDict) -> None:
    """Makes config.data.train a mixture of sources, each made by `training_source`."""
    with config.data.ignore_type():  # the field's default is one source
        config.data.train = tuple(sources)


def training_sources(config: ConfigDict) -> tuple[ConfigDict, ...]:
    """config.data.train as a tuple of sources, whether it is one or several."""
    train = config.data.train
    return (train,) if isinstance(train, ConfigDict) else tuple(train)


def clean_source(config: ConfigDict) -> ConfigDict:
    """The first source of config.data.train that is used at all noise levels, on its own."""
    sources = training_sources(config)
    clean = next(source for source in sources if source.get("min_gamma") is None)
    return source_config(**{k: v for k, v in clean.items() if k not in MIXTURE_FIELDS})


def batch_composition(config: ConfigDict) -> tuple[int, ...]:
    """How many images of each source a batch has: the weights, rounded to whole images."""
    batch_size = config.train.batch_size
    weights = [source.get("weight", 1.0) for source in training_sources(config)]
    exact = [batch_size * weight / sum(weights) for weight in weights]
    counts = [math.floor(share + 1e-9) for share in exact]
    # The largest remainders get the images that are left.
    order = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in order[: batch_size - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


def check_fields(fields: Mapping[str, Any] | ConfigDict, is_reference: bool = False) -> None:
    """Checks the fields of a source, as far as its files are not needed for that.

    Those of a reference may be `REST` or no source.

    Raises:
        UsageError: the first field that cannot be used.
    """
    known = {field.name for field in dataclasses.fields(SourceSpec)} | {*MIXTURE_FIELDS}
    for name in fields:
        if name not in known:
            raise UsageError("is no field of a source", field=name)
    if fields["source"] or not is_reference:
        one_of("source", fields["source"], (*SOURCES, REST) if is_reference else SOURCES)
    one_of("resize", fields["resize"], RESIZE_MODES)
    one_of("resize_filter", fields["resize_filter"], RESIZE_FILTERS)
    one_of("non_rgb", fields["non_rgb"], NON_RGB_MODES)
    if fields["max_images"] < 0:
        raise UsageError(
            f"must be 0 (all) or positive, not {fields['max_images']}", field="max_images"
        )
    check_unused_fields(fields)


def check_unused_fields(fields: Mapping[str, Any] | ConfigDict) -> None:
    """Checks that no field of a source is set that it does not look at.

    Raises:
        UsageError: the first such field.
    """
    defaults = dataclasses.asdict(SourceSpec())
    for name in _UNUSED.get(fields["source"], ()):
        if fields.get(name, defaults[name]) != defaults[name]:
            source = f"source={fields['source']}" if fields["source"] else "an empty source"
            raise UsageError(
                f"{fields[name]!r} is not used by {source}; set source to what has it, or {name} to"
                f" {defaults[name]!r}",
                field=name,
            )


def check_sources(config: ConfigDict) -> None:
    """Checks the sources of config.data and the noise levels of config.train.gamma_range.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    train = config.data.train
    sources = {"eval": config.data.eval, "reference": config.data.reference}
    if isinstance(train, ConfigDict):
        sources["train"] = train
    else:
        for number, source in enumerate(train):
            if not isinstance(source, ConfigDict):
                raise UsageError(
                    f"{source!r} is not a source; set fields of the sources, as data.train[0].path",
                    field="data.train",
                )
            sources[f"train[{number}]"] = source
    for name, source in sources.items():
        try:
            check_fields(source, is_reference=name == "reference")
        except UsageError as error:
            raise error.in_group(f"data.{name}") from None
    _check_training_sources(config)


def _check_training_sources(config: ConfigDict) -> None:
    low, high = config.schedule.gamma_min, config.schedule.gamma_max
    trained = tuple(config.train.gamma_range)
    numbers("train.gamma_range", trained)
    if trained and not (len(trained) == 2 and low <= trained[0] < trained[1] <= high):
        raise UsageError(
            f"{trained} is not an increasing pair within the schedule's [{low}, {high}];"
            " use () for all noise levels",
            field="train.gamma_range",
        )
    sources = training_sources(config)
    if not sources:
        raise UsageError("is empty; give one source, or a tuple of several", field="data.train")
    restricted = ["train.gamma_range"] if trained else []
    mixture = not isinstance(config.data.train, ConfigDict)
    for number, source in enumerate(sources if mixture else ()):
        field = f"data.train[{number}]"
        for name in MIXTURE_FIELDS:
            if name not in source:
                raise UsageError(
                    "is missing; make the source with training_source", field=f"{field}.{name}"
                )
        above(f"{field}.weight", source.weight, 0.0)
        if source.min_gamma is None:
            continue
        restricted.append(f"{field}.min_gamma")
        lowest, highest = trained or (low, high)
        if not lowest <= source.min_gamma < highest:
            raise UsageError(
                f"{source.min_gamma} is outside the noise levels that are trained,"
                f" [{lowest}, {highest})",
                field=f"{field}.min_gamma",
            )
    if restricted and config.schedule.name != "linear":
        raise UsageError(
            f"needs schedule.name = linear; {config.schedule.name} moves noise levels",
            field=restricted[0],
        )
    if mixture:
        _check_weights(config, sources)


def _check_weights(config: ConfigDict, sources: tuple[ConfigDict, ...]) -> None:
    total = sum(source.weight for source in sources)
    if abs(total - 1.0) > _WEIGHTS_TOLERANCE:
        raise UsageError(
            f"the weights {', '.join(f'{s.weight:g}' for s in sources)} add up to {total:g},"
            " not to 1; they are shares of a batch",
            field="data.train",
        )
    if all(source.min_gamma is not None for source in sources):
        raise UsageError(
            "every source has a min_gamma, so nothing teaches the levels below; leave it out"
            " for at least one",
            field="data.train",
        )
    for number, count in enumerate(batch_composition(config)):
        if not count:
            raise UsageError(
                f"{sources[number].weight:g} of train.batch_size ="
                f" {config.train.batch_size} is less than one image; raise one of them",
                field=f"data.train[{number}].weight",
            )
    if config.train.num_epochs:
        raise UsageError(
            "is not defined for several sources of data.train; set train.num_steps or"
            " train.num_examples",
            field="train.num_epochs",
        )
