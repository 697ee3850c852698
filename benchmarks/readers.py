"""Everything in the package that reads files of others: how to make a valid one, spoil it, and read it.

tests/test_readers.py holds the table against the package: a module that opens such files itself has to be one
named here. fuzz_readers.py counts what each reader does with many spoilt files.
"""

import contextlib
import dataclasses
import functools
import pathlib
import re
import sys
from collections.abc import Callable

import numpy as np
import valid_files as valid
from absl import flags
from binary_mutations import (
    in_npy,
    in_pickle,
    in_png,
    in_safetensors,
    in_stream,
    in_stream_1,
    in_tar,
    in_zip,
)
from ml_collections import ConfigDict, config_flags
from mutations import Mutation, in_arguments, in_bytes, in_csv, in_json, in_json_lines

from diffc_jax import cli
from diffc_jax.baselines.hific.codec import load_run
from diffc_jax.codec.container import parse
from diffc_jax.codec.files import describe
from diffc_jax.codec.image_decoder import prefix_at
from diffc_jax.codec.loading import load_codec
from diffc_jax.config import base_config, validate
from diffc_jax.config.sources import SourceSpec
from diffc_jax.conversion import diffusers, uqdm
from diffc_jax.conversion.vdm import read_checkpoint
from diffc_jax.data import open_source
from diffc_jax.data.decoding import UnreadableImageError, to_rgb
from diffc_jax.data.manifest import verify_hashes
from diffc_jax.errors import InputError
from diffc_jax.evaluation.image_sets import read_images
from diffc_jax.evaluation.results import read_rate_points
from diffc_jax.evaluation.store import Store
from diffc_jax.metrics.feature_sets import FeatureSet, load_features
from diffc_jax.metrics.features.extract import Extractor, FeatureNetwork, reference_features
from diffc_jax.metrics.features.numpy_pickles import read_numpy_pickle
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.plotting import report_sections
from diffc_jax.plotting.claims import write_claims
from diffc_jax.plotting.inputs import read_inputs
from diffc_jax.plotting.reconstructions import collect_reconstructions
from diffc_jax.runtime import run_config
from diffc_jax.runtime.export import load_params, read_history, read_tensors
from diffc_jax.runtime.lock import Holder
from diffc_jax.runtime.writers import drop_after
from diffc_jax.studies.channel_comparison.run import read_rows
from diffc_jax.studies.gaussian_analysis.closed_forms import read_spectrum

_ROOT = pathlib.Path(__file__).parents[1]
_PICTURES = {"PNG": in_png, "TIFF": in_bytes, "JPEG": in_bytes, "WEBP": in_bytes, "AVIF": in_bytes}
_PICTURES |= {
    "JPEG2000": in_bytes,
    "GIF": in_bytes,
    "BMP": in_bytes,
    "PPM": in_bytes,
}
_SPEC = SourceSpec(image_size=valid.SIDE, resize="squash")
_TO_CONVERT = dataclasses.replace(_SPEC, non_rgb="convert")


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader of files.

    Attributes:
        make: writes valid files into a folder.
        file: the one of them that is spoilt.
        mutate: spoils it.
        read: reads that file as the programs do; of one that is not valid it may raise a `DiffcError`.
        share: of all inputs of a long run; cheap readers get more of them.
        module: of the package, the one that it reaches and that opens the file with another library.
    """

    make: Callable[[pathlib.Path], object]
    file: str
    mutate: Mutation
    read: Callable[[pathlib.Path], object]
    share: int = 1
    module: str = ""


def _source(source: str, path: pathlib.Path) -> None:
    spec = _SPEC if source in ("npz", "pickle", "packed") else _TO_CONVERT
    opened = open_source(dataclasses.replace(spec, source=source, path=str(path)))
    for index in range(min(len(opened), 6)):
        opened[index]


def _beside(read: Callable[[pathlib.Path], object]) -> Callable[[pathlib.Path], object]:
    """Reads the folder that a file is in."""
    return lambda path: read(path.parent)


def _manifest(layout: str, path: pathlib.Path) -> None:
    _source(layout, path)
    verify_hashes(path.parent)


@functools.cache
def _config(side: int = 64) -> ConfigDict:
    config = base_config()
    config.data.image_size = side
    return config


def _workdir(path: pathlib.Path) -> None:
    run_config.claim_workdir(_config(), path.parent, write=False)
    run_config.check_same_model(_config(), path.parent)
    run_config.trained_batch_size(path.parent)


def _history(path: pathlib.Path) -> None:
    weights = path.with_suffix(".safetensors")
    run_config.check_same_weights(_config(valid.SIDE), read_history(weights), weights)


def _unet_card(path: pathlib.Path) -> None:
    try:
        load_codec(path.parent)
    except InputError as error:
        if "does not hold the model" not in str(error):  # as the weights are of another model
            raise


class _Extractor(Extractor):
    """Stands in for one with a network."""

    def __init__(self) -> None:
        self.network = FeatureNetwork("network", 3, lambda *_: None, {})

    def of_set(self, _: object) -> FeatureSet:
        return FeatureSet.of([np.zeros((5, 3), np.float32)])


def _reference(path: pathlib.Path) -> None:
    reference_features(_Extractor(), lambda: iter(()), path.parent, "images")
    load_features(path.with_name("network-1.npz"), 3)


def _batch(path: pathlib.Path) -> None:
    store = Store(path.parent)
    store.done(4)
    list(store.read(range(4)))
    store.forget_changed({"images": np.zeros((4, 16), np.uint8)})


def _runs(path: pathlib.Path) -> list[pathlib.Path]:
    root = next(folder for folder in path.parents if (folder / "theory").is_dir())
    return [root / "a", root / "b"]


def _report(path: pathlib.Path) -> None:
    points = [point for one in read_inputs(_runs(path)) for point in one.points]
    runs = [report_sections.read_run(folder) for folder in _runs(path)]
    page = report_sections.summary(points, runs, []) + report_sections.runs_section(runs)
    page += report_sections.settings(runs) + report_sections.commands(points, runs)
    page.encode()


def _claims(path: pathlib.Path) -> None:
    root = _runs(path)[0].parent
    write_claims(_runs(path), root / "theory", root / "claims.md")


def _shown(path: pathlib.Path) -> None:
    collect_reconstructions(_runs(path))


def _lock(path: pathlib.Path) -> None:
    holder = Holder.parse(path.read_bytes().decode(errors="replace"))
    str(holder)
    holder.is_gone()
    if holder.owner is None:
        raise InputError("the process is not known")


def _prepared(layout: str, path: pathlib.Path) -> None:
    """Reads images whose manifest has the size that the file has now."""
    manifest = path.with_name("manifest.json")
    text = manifest.read_text()
    try:
        size = path.stat().st_size
        manifest.write_text(
            re.sub(rf'("bytes": )\d+(,\s+"file": "{path.name}")', rf"\g<1>{size}\2", text)
        )
        _source(layout, manifest)
    finally:
        manifest.write_text(text)


def _picture(path: pathlib.Path) -> None:
    to_rgb(path.read_bytes(), path.name, _TO_CONVERT)


def _unknown_picture(path: pathlib.Path) -> None:
    """Asks for a picture in a format that is not read, and is told so."""
    with contextlib.suppress(UnreadableImageError):
        _picture(path)


def _stream(path: pathlib.Path) -> None:
    stream = parse(path.read_bytes())
    describe(stream)
    prefix_at(stream, 4.0)


def _write_arguments(folder: pathlib.Path) -> None:
    (folder / "arguments").write_text(
        "--config.train.num_steps=5\n--config.eval.image_metrics=('ms_ssim',)\n--config.data.eval.split=eval\n"
        "--config.eval.decoders=('flow',)\n--config.train.learning_rate=1e-3"
    )


def _arguments(path: pathlib.Path) -> None:
    lines = path.read_text(errors="surrogateescape").splitlines()
    argv = ["train.py", f"--config={_ROOT}/configs/quickstart.py:smoke", *lines]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    before, sys.argv = sys.argv, argv  # ml_collections looks there for overrides
    try:
        cli.parse_flags(argv, values)
    finally:
        sys.argv = before
    validate(values.config)
    cli.describe(values.config)


def _diffusers(path: pathlib.Path) -> None:
    folder = path if path.is_dir() else path.parent
    diffusers.read_fields(folder / "config.json", folder / "scheduler_config.json", valid.SIDE)


def _tensors(path: pathlib.Path) -> None:
    read_tensors(path)
    load_params(path, {"a": {"b": np.ones((2, 3))}, "c": np.ones(2, np.float32)})


_shards, _rows = (
    functools.partial(valid.prepared, layout) for layout in ("array_record", "packed")
)
_deflated = functools.partial(valid.official, compressed=True)
_tfds, _npz = _beside(functools.partial(_source, "tfds")), functools.partial(_source, "npz")
_TFDS_SHARD = "x/1.0.0/x-train.array_record-00000-of-00001"
READERS: dict[str, Reader] = {
    "config.json": Reader(
        valid.run_config, "config.json", in_json, _workdir, 8, "runtime.json_text"
    ),
    "card of an evaluation": Reader(valid.gaussian, "params.json", in_json, _history, 30),
    "card of a codec": Reader(valid.gaussian, "params.json", in_json, _beside(load_codec)),
    "card of a U-Net": Reader(valid.unet_card, "params.json", in_json, _unet_card),
    "card of HiFiC": Reader(valid.hific, "params.json", in_json, _beside(load_run)),
    "manifest, array_record": Reader(
        _shards, "manifest.json", in_json, functools.partial(_manifest, "array_record"), 15
    ),
    "manifest, packed": Reader(
        _rows, "manifest.json", in_json, functools.partial(_manifest, "packed"), 15
    ),
    "config.json, report": Reader(valid.run, "a/config.json", in_json, _report, 4),
    "summary.json": Reader(valid.run, "a/eval/summary.json", in_json, _report, 4),
    "lossless.json": Reader(valid.run, "a/eval/lossless.json", in_json, _report, 4),
    "environment.json": Reader(valid.run, "a/eval/environment.json", in_json, _report, 4),
    "images.json": Reader(valid.run, "a/eval/images.json", in_json, _beside(read_images), 60),
    "metrics.jsonl": Reader(
        valid.metrics, "metrics.jsonl", in_json_lines, lambda path: drop_after(path, 3), 30
    ),
    "lock.json": Reader(valid.lock, "lock.json", in_json, _lock, 80),
    "known.json": Reader(valid.arrays, "known.json", in_json, _reference, 10),
    "rows of channels": Reader(valid.schemes, "job.json", in_json, read_rows, 40),
    "dataset_info.json": Reader(valid.tfds, "x/1.0.0/dataset_info.json", in_json, _tfds),
    "features.json": Reader(valid.tfds, "x/1.0.0/features.json", in_json, _tfds),
    "shard of TFDS": Reader(valid.tfds, _TFDS_SHARD, in_bytes, _tfds, 1, "data.tfds_store"),
    "rd.csv": Reader(
        valid.run, "a/eval/rd.csv", in_csv, read_rate_points, 30, "evaluation.results"
    ),
    "rd.csv, claims": Reader(valid.run, "a/eval/rd.csv", in_csv, _claims, 2),
    "curves.csv": Reader(valid.run, "theory/gaussian/curves.csv", in_csv, _claims, 2),
    "per_image.csv": Reader(valid.run, "a/eval/per_image.csv", in_csv, _shown, 4),
    "npz of a sweep": Reader(
        valid.run, "a/eval/reconstructions.npz", in_zip, _shown, 4, "runtime.npz"
    ),
    "npz of codecs": Reader(valid.run, "b/eval/reconstructions_baselines.npz", in_zip, _shown, 4),
    "npz of features": Reader(valid.arrays, "network-1.npz", in_zip, _reference, 8),
    "npz of a batch": Reader(valid.arrays, "store/00000000-00000004.npz", in_zip, _batch, 8),
    "spectrum": Reader(valid.arrays, "spectrum.npy", in_npy, read_spectrum, 40),
    "official npz": Reader(valid.official, "train_data.npz", in_zip, _npz, 6, "data.official"),
    "official npz, deflated": Reader(_deflated, "train_data.npz", in_zip, _npz, 6),
    "official pickle": Reader(
        valid.official, "train_data_batch_1", in_pickle, functools.partial(_source, "pickle"), 10
    ),
    "packed pixels": Reader(
        _rows, "train.npy", in_npy, functools.partial(_prepared, "packed"), 8, "data.packed"
    ),
    "ArrayRecord": Reader(
        *(_shards, "train-00000-of-00001.array_record", in_bytes),
        *(functools.partial(_prepared, "array_record"), 2, "data.array_record"),
    ),
    "tar": Reader(
        valid.images, "images.tar", in_tar, functools.partial(_source, "tar"), 8, "data.tars"
    ),
    "pickle of arrays": Reader(
        valid.arrays, "weights.pkl", in_pickle, read_numpy_pickle, 30, "runtime.unpickling"
    ),
    "PyTorch": Reader(
        *(valid.torch_files, "weights.pth", in_zip, read_torch_state_dict, 10),
        "metrics.features.torch_files",
    ),
    "PyTorch before 1.6": Reader(
        valid.torch_files, "legacy.pth", in_pickle, read_torch_state_dict, 20
    ),
    "Flax": Reader(valid.vdm, "ckpt.flax", in_bytes, read_checkpoint, 40, "conversion.vdm"),
    "config.json of diffusers": Reader(valid.diffusers, "config.json", in_json, _diffusers, 60),
    "scheduler_config.json": Reader(
        *(valid.diffusers, "scheduler_config.json", in_json, _beside(_diffusers), 60)
    ),
    "config.json of UQDM": Reader(valid.uqdm, "config.json", in_json, uqdm.read_fields, 60),
    "safetensors": Reader(
        valid.tensors, "x.safetensors", in_safetensors, _tensors, 20, "runtime.export"
    ),
    ".diffc": Reader(valid.stream, "x.diffc", in_stream, _stream, 60),
    ".diffc, version 1": Reader(valid.stream_1, "x.diffc", in_stream_1, _stream, 40),
    "command line": Reader(_write_arguments, "arguments", in_arguments, _arguments),
    "picture, JPEG XL": Reader(
        functools.partial(valid.pictures, "JPEGXL"), "x", in_bytes, _unknown_picture, 8
    ),
    **{
        f"picture, {kind}": Reader(
            *(functools.partial(valid.pictures, kind), "x", mutate, _picture, 8),
            "runtime.image_files",
        )
        for kind, mutate in _PICTURES.items()
    },
}
