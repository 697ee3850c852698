"""TensorFlow Datasets that were prepared as ArrayRecord, read without TensorFlow."""

import os
from typing import Any

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.decoding import UnreadableImageError
from diffc_jax.data.files import allow_open_files
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.files import local_path
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.parsing import one_line, parsing

_HOW_TO_PREPARE = (
    "prepare it once where TensorFlow is installed, with "
    "`tfds.builder({name!r}, data_dir=DIR, file_format='array_record').download_and_prepare()`, "
    "then set path=DIR"
)

_DAMAGED, _AGAIN = "is not a whole data set of TFDS", "prepare it again"


class TfdsStore:
    """One split of any TFDS builder with an image feature."""

    files: tuple[str, ...] = ()

    def __init__(self, spec: SourceSpec):
        tfds = require("tensorflow_datasets")
        builder = _builder(tfds, spec)
        with parsing(builder.data_dir, _DAMAGED, _AGAIN):
            self._open(tfds, builder, spec)

    def _open(self, tfds: Any, builder: Any, spec: SourceSpec) -> None:
        self.name = spec.name or builder.info.full_name
        how = _HOW_TO_PREPARE.format(name=self.name)
        if not builder.info.splits:
            raise InputError(f"{self.name}: is not prepared in {builder.data_dir}; {how}")
        if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            found = builder.info.file_format.value
            raise InputError(
                f"{self.name}: is prepared as {found}, which has no random access; {how}"
            )
        features = builder.info.features
        images = [key for key in features if isinstance(features[key], tfds.features.Image)]
        if not images:
            raise InputError(f"{self.name}: has no image feature, only {list(features)}")
        self._key = "image" if "image" in images else images[0]
        try:
            self._records = builder.as_data_source(
                split=spec.split, decoders={self._key: tfds.decode.SkipDecoding()}
            )
        except (ValueError, KeyError) as error:
            if spec.split in builder.info.splits:
                raise InputError(f"{self.name}: cannot be read ({one_line(error)})") from error
            raise UsageError(
                f"unknown {spec.split!r} for {self.name}; "
                f"choose one of {', '.join(sorted(builder.info.splits))}",
                field="split",
            ) from None
        self._split = spec.split
        # Each is kept open once it was read.
        split = builder.info.splits[spec.split]
        allow_open_files(split.num_shards, self.name)
        _check_shards(split)

    def __len__(self) -> int:
        return len(self._records)

    def label(self, index: int) -> str:
        """Data set, split and number."""
        return f"{self.name}, {self._split} example {index}"

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            UnreadableImageError: the example is damaged.
            InputError: its file cannot be read.
        """
        label = self.label(index)
        with parsing(label, "cannot be read", _AGAIN):
            try:
                image = self._records[index][self._key]
                if not isinstance(image, bytes):
                    raise ValueError(f"it is a {type(image).__name__}, not an image")
                return image
            except OSError:
                raise
            except Exception as error:  # as of `parsing`
                reason = one_line(error)
                raise UnreadableImageError(label, reason, "cannot be read", _AGAIN) from error


def _check_shards(split: Any) -> None:
    """Checks that the files of a split hold as many examples as its metadata say.

    Raises:
        InputError: one is missing, damaged or shorter.
    """
    module = require("array_record.python.array_record_module")
    for shard in split.file_instructions:
        if not os.path.isfile(shard.filename):
            raise InputError(f"{shard.filename}: is missing; {_AGAIN}")
        # A damaged file counts as empty.
        count = module.ArrayRecordReader(str(shard.filename)).num_records()
        if count != shard.examples_in_shard:
            raise InputError(
                f"{shard.filename}: holds {count} readable examples, dataset_info.json says "
                f"{shard.examples_in_shard}; {_AGAIN}"
            )


def _builder(tfds: Any, spec: SourceSpec) -> Any:
    folder = local_path(spec.path)
    if spec.path and (folder / "dataset_info.json").is_file():
        with parsing(folder, _DAMAGED, _AGAIN):
            builder = tfds.builder_from_directory(folder)
        known = builder.info.full_name
        if spec.name and not f"{known}/".startswith(f"{spec.name.replace(':', '/')}/"):
            raise UsageError(
                f"{spec.name!r} is not what {folder} holds, which is {known}; name that or nothing",
                field="name",
            )
        return builder
    if not spec.name:
        raise UsageError(
            "is empty; source=tfds needs a builder such as imagenet_resized/64x64", field="name"
        )
    try:
        return tfds.builder(spec.name, data_dir=spec.path or None)
    except tfds.core.DatasetNotFoundError:
        where = f" or prepared in {spec.path}" if spec.path else ""
        message = f"{spec.name!r} is not a data set known to TFDS{where}"
        raise UsageError(message, field="name") from None
    except Exception as error:  # its metadata may be damaged
        message = f"{spec.name!r} cannot be opened ({one_line(error)})"
        raise UsageError(message, field="name") from error
