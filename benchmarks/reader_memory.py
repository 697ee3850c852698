"""Memory of each reader of files: for a valid one, and for one that announces much more than it has.

    python benchmarks/reader_memory.py

Each file is read in a process of its own, whose peak of resident memory is taken, less what it had when the
same reader found no file. It may be 200 MB above the size of what is decoded; of a file
that lies that is nothing, since it is to be refused before room is made. What is written to disks counts too.
Prints a table and exits with 1 if a reader takes more, or if a lie is not told in one line.
"""

import contextlib
import io
import json
import os
import pathlib
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from absl import flags

from diffc_jax import cli
from diffc_jax.errors import DiffcError

_READER = flags.DEFINE_string(
    "reader", "", "Read --path with this one reader, and say what it took."
)
_PATH = flags.DEFINE_string("path", "", "What --reader reads.")
_ONLY = flags.DEFINE_list("only", None, "Only these readers.")

# What is allowed beside the decoded data.
_SPARE = 200_000_000
_SIDE = 64
# Bytes that the lies announce.
_HUGE = 1_500_000_000


def read_source(source: str, path: pathlib.Path, **fields: Any) -> int:
    """Reads all images of a source; returns their bytes."""
    from diffc_jax.data import SourceSpec
    from diffc_jax.data.sources import open_source

    spec = SourceSpec(source=source, path=str(path), image_size=_SIDE, **fields)
    return open_source(spec).as_array().nbytes


def read_state_dict(path: pathlib.Path) -> int:
    """PyTorch's files."""
    from diffc_jax.metrics.features.torch_files import read_torch_state_dict

    return sum(array.nbytes for array in read_torch_state_dict(path).values())


def read_numpy_pickle(path: pathlib.Path) -> int:
    """Pickled trees of arrays."""
    from diffc_jax.metrics.features.numpy_pickles import read_numpy_pickle as read

    return sum(array.nbytes for array in read(path).values())


def read_export(path: pathlib.Path) -> int:
    """Safetensors."""
    from diffc_jax.runtime.export import read_tensors

    return sum(array.nbytes for array in read_tensors(path).values())


def read_flax(path: pathlib.Path) -> int:
    """Checkpoints of google-research/vdm."""
    from diffc_jax.conversion.vdm import read_checkpoint

    return sum(array.nbytes for array in read_checkpoint(path)[0].values())


def read_features(path: pathlib.Path) -> int:
    """Features of a reference, and with the same reader parts of an evaluation."""
    from diffc_jax.metrics.feature_sets import load_features

    features = load_features(path)
    return features.first.nbytes + features.moments.scatter.nbytes


def read_spectrum(path: pathlib.Path) -> int:
    """Eigenvalues for the Gaussian analysis."""
    from diffc_jax.studies.gaussian_analysis.closed_forms import read_spectrum as read

    return read(path).nbytes


def read_picture(path: pathlib.Path) -> int:
    """What compress.py reads."""
    from diffc_jax.codec.files import read_image

    return read_image(path).nbytes


def read_checkpoint(path: pathlib.Path) -> int:
    """Checkpoints of runs."""
    import jax
    import jax.numpy as jnp

    from diffc_jax.runtime.checkpoints import Checkpoints
    from diffc_jax.training.state import TrainState

    template = TrainState(jnp.int32(0), {"w": jnp.zeros((1000, 1000))}, {}, {}, {})
    with Checkpoints(path) as checkpoints:
        state, _ = checkpoints.restore(jax.eval_shape(lambda: template))
    return state.params["w"].nbytes


def read_stream(path: pathlib.Path) -> int:
    """`.diffc` files, parsed only."""
    from diffc_jax.codec.files import decompress

    target = path.parent / "decoded.png"
    options: dict[str, Any] = {"decoder": "flow", "n_steps": 1, "at_bpp": None, "batch_size": 1}
    decompress(None, [str(path)], str(target), **options, dry_run=True)
    return path.stat().st_size


# Readers by the name of their files.
READERS: Mapping[str, Callable[[pathlib.Path], int]] = {
    "npz": lambda path: read_source("npz", path),
    "pickle": lambda path: read_source("pickle", path),
    "folder": lambda path: read_source("folder", path),
    "scaled folder": lambda path: read_source("folder", path, resize="squash"),
    "tar": lambda path: read_source("tar", path),
    "array_record": lambda path: read_source("array_record", path),
    "packed": lambda path: read_source("packed", path),
    "state dict": read_state_dict,
    "arrays in a pickle": read_numpy_pickle,
    "safetensors": read_export,
    "Flax msgpack": read_flax,
    "features": read_features,
    "spectrum": read_spectrum,
    "picture": read_picture,
    "checkpoint": read_checkpoint,
    ".diffc": read_stream,
}


def png(width: int, height: int) -> bytes:
    """A whole PNG file of black RGB pixels, made row by row."""
    packer, row = zlib.compressobj(9), bytes(3 * width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": data,
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )


def npy_header(shape: tuple[int, ...], descr: str) -> bytes:
    """The beginning of an array in NumPy's format."""
    stream = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def write_inflating_zip(path: pathlib.Path, name: str, header: bytes) -> pathlib.Path:
    """A header, then `_HUGE` zeros that compress to a thousandth."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(header)
        for _ in range(_HUGE // 10_000_000):
            member.write(bytes(10_000_000))
    return path


def write_state_dict(path: pathlib.Path, size: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """One tensor over a storage of 2^20 floats, as PyTorch lays it out."""
    numel = 1 << 20

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", one) for one in values) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + struct.pack("<i", numel) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00"
    tensor += numbers(size) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}" + text("w") + tensor + b"s.")
        archive.writestr("a/data/0", bytes(4 * numel))


def valid_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """A valid input of each reader."""
    import flax.serialization
    import jax.numpy as jnp

    from diffc_jax.data import SourceSpec
    from diffc_jax.data.prepare import prepare
    from diffc_jax.metrics.feature_sets import FeatureSet, save_features
    from diffc_jax.runtime.checkpoints import Checkpoints
    from diffc_jax.training.state import TrainState

    paths = {name: folder / name.replace(" ", "_") for name in READERS}
    rows = np.random.default_rng(0).integers(0, 256, (2000, 3 * _SIDE**2), dtype=np.uint8)
    paths["npz"] = folder / "train_data_batch_1.npz"
    np.savez_compressed(paths["npz"], data=rows)
    paths["pickle"].write_bytes(pickle.dumps({"data": rows, "labels": list(range(2000))}, 2))
    for name, side in (("folder", _SIDE), ("scaled folder", 6000)):
        paths[name].mkdir()
        (paths[name] / "a.png").write_bytes(png(side, side))
    paths["tar"] = write_tar(folder / "images.tar", png(_SIDE, _SIDE))
    spec = SourceSpec(source="folder", path=str(paths["folder"]), name="images", image_size=_SIDE)
    for layout in ("array_record", "packed"):
        prepare(spec, paths[layout], layout=layout)
    write_state_dict(paths["state dict"], (1024, 1024), (1024, 1))
    array = np.zeros((1024, 1024), np.float32)
    paths["arrays in a pickle"].write_bytes(pickle.dumps({"w": array}, 4))
    safetensors.numpy.save_file({"w": array}, paths["safetensors"])
    state = {"ema_params": {"w": array}, "step": 1}
    paths["Flax msgpack"].write_bytes(flax.serialization.msgpack_serialize(state))
    save_features(paths["features"], FeatureSet.of([array[:, :512]]))
    paths["spectrum"] = folder / "spectrum.npy"
    np.save(paths["spectrum"], np.ones(1 << 20))
    paths["picture"].write_bytes(png(6000, 6000))
    saved = TrainState(jnp.int32(0), {"w": jnp.zeros((1000, 1000))}, {}, {}, {})
    with Checkpoints(paths["checkpoint"]) as checkpoints:
        checkpoints.save(saved, {})
    paths[".diffc"] = folder / "a.diffc"
    paths[".diffc"].write_bytes(stream_of(4096))
    return paths


def stream_of(side: int) -> bytes:
    """A `.diffc` stream with the least step of each tile of a square image."""
    from diffc_jax.codec.container import CodedStep, StreamWriter
    from diffc_jax.codec.header import DEFAULT_MEMORY
    from diffc_jax.codec.stream import Header

    header = Header(side, side, _SIDE, DEFAULT_MEMORY, 0, bytes(2))
    writer = StreamWriter(header)
    for _ in range(header.n_tiles):
        path = bytes(-(-writer.next_sizes.offer(()).path_bits(0) // 8))
        writer.append(CodedStep((), 0, path, 0))
    return writer.to_bytes()


def write_tar(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """An archive of one image."""
    import tarfile

    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return path


def lying_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """An input of each reader that announces some gigabytes, or hides them."""
    import jax.numpy as jnp

    from diffc_jax.data.manifest import MANIFEST
    from diffc_jax.runtime.checkpoints import Checkpoints
    from diffc_jax.training.state import TrainState

    paths = valid_files(folder)
    big = png(13_000, 13_000)
    write_inflating_zip(paths["npz"], "data.npy", npy_header((1, 960), "|u1"))
    announced = b"\x8e" + struct.pack("<Q", _HUGE)  # BINBYTES8
    paths["pickle"].write_bytes(b"\x80\x04" + announced + b"N.")
    for name in ("folder", "scaled folder"):
        (paths[name] / "a.png").write_bytes(big)
    write_tar(paths["tar"], big)
    _replace_record(paths["array_record"], big)
    manifest = json.loads((paths["packed"] / MANIFEST).read_text())
    manifest["count"] = manifest["shards"][0]["images"] = _HUGE // (3 * _SIDE**2)
    header = npy_header((manifest["count"], _SIDE, _SIDE, 3), "|u1")
    (paths["packed"] / "train.npy").write_bytes(header)
    manifest["shards"][0]["bytes"] = len(header)
    (paths["packed"] / MANIFEST).write_text(json.dumps(manifest, allow_nan=False))
    write_state_dict(paths["state dict"], (_HUGE // 4,), (0,))
    paths["arrays in a pickle"].write_bytes(b"\x80\x04" + announced + b"N.")
    head = {"w": {"dtype": "F32", "shape": [_HUGE // 4], "data_offsets": [0, _HUGE]}}
    text = json.dumps(head, allow_nan=False).encode()
    paths["safetensors"].write_bytes(struct.pack("<Q", len(text)) + text)
    paths["Flax msgpack"].write_bytes(b"\x81\xaaema_params\xc6" + struct.pack(">I", _HUGE))
    write_inflating_zip(paths["features"], "scatter.npy", npy_header((2, 2), "<f8"))
    paths["spectrum"].write_bytes(npy_header((_HUGE // 8,), "<f8") + bytes(80))
    paths["picture"].write_bytes(big)
    shutil.rmtree(paths["checkpoint"])
    large = TrainState(jnp.int32(0), {"w": jnp.zeros((12_000, 12_000))}, {}, {}, {})
    with Checkpoints(paths["checkpoint"]) as checkpoints:
        checkpoints.save(large, {})
    paths[".diffc"].write_bytes(stream_of(20480))
    return paths


def _replace_record(folder: pathlib.Path, content: bytes) -> None:
    """Puts another image into the one shard of a prepared folder."""
    from diffc_jax.runtime.optional import require

    (shard,) = folder.glob("*.array_record")
    module = require("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(shard), "group_size:1")
    writer.write(content)
    writer.close()


def _read(name: str, path: pathlib.Path) -> None:
    """Reads, and prints what was decoded, and how much memory and space on disks that took."""
    error, decoded = "", 0
    with contextlib.suppress(DiffcError):
        READERS[name](path.with_name("absent"))  # imports what it needs
    before = memory_and_space()
    try:
        decoded = READERS[name](path)
    except Exception as caught:
        error = str(caught) if isinstance(caught, DiffcError) else f"{type(caught)}: {caught}\n"
    took = memory_and_space() - before
    print(json.dumps({"took": took, "decoded": decoded, "error": error}, allow_nan=False))


def memory_and_space() -> int:
    """The peak of this process's memory so far, and what it has written to disks, in bytes."""
    # Not ru_maxrss, which begins with that of the process that started this one.
    peak = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    return int(peak) * 1024 + resource.getrusage(resource.RUSAGE_SELF).ru_oublock * 512


def measure(name: str, path: pathlib.Path) -> dict[str, Any]:
    """What `_read` printed in a process of its own."""
    command = [sys.executable, __file__, f"--reader={name}", f"--path={path}"]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"took": 0, "decoded": 0, "error": f"{done.stderr[-2000:]}\n"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints one row for each reader."""
    if _READER.value:
        return _read(_READER.value, pathlib.Path(_PATH.value))
    failed = False
    print(
        "| reader | file, MB | decoded, MB | peak, MB | lying file, MB | peak, MB | refused with |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        valid, lying = valid_files(pathlib.Path(first)), lying_files(pathlib.Path(second))
        for name in _ONLY.value or READERS:
            found, lie = measure(name, valid[name]), measure(name, lying[name])
            took, wasted = found["took"], lie["took"]
            said = lie["error"].replace(f"{lying[name]}", "FILE")
            one_line = bool(said) and "\n" not in said
            sizes = (n_bytes(valid[name]), found["decoded"], took, n_bytes(lying[name]), wasted)
            cells = [name, *(f"{size / 1e6:.1f}" for size in sizes), said.strip().replace("|", "/")]
            print(f"| {' | '.join(cells)} |", flush=True)
            failed |= took > found["decoded"] + _SPARE or wasted > _SPARE or not one_line
            failed |= bool(found["error"])
            if found["error"]:
                print(found["error"])
    sys.exit(failed)


def n_bytes(path: pathlib.Path) -> int:
    """Bytes of a file, or of the files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    cli.run(main)
