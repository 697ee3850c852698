"""Every mistake of a user ends in one line that names the culprit and the fix."""

import gc
import os
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

from diffc_jax import cli
from diffc_jax.baselines.evaluate import evaluate_baselines
from diffc_jax.commands import train
from diffc_jax.config import validate
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.studies.reproduction import reproduce
from tests.support.processes import ROOT, environment
from tests.support.small_configs import QUICK_EVALUATION, small_config

GAUSSIAN = "--config=configs/gaussian_floor.py:smoke"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, f"experiments/{program}.py", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def fails(program, arguments, code, message):
    """One line on stderr, nothing on stdout, and the exit code."""
    done = run(program, *arguments)
    assert done.stderr == f"{program}.py: error: {message}\n"
    assert (done.returncode, done.stdout) == (code, "")


# The command line, as processes


@pytest.mark.parametrize(
    ("program", "flags"),
    [("train", ["config", "workdir", "distributed", "cost"]), ("plot", ["inputs", "output"])],
)
def test_help_lists_every_flag_of_the_program(program, flags):
    done = run(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for flag in flags:
        assert re.search(rf"^  --(\[no\])?{flag}: ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batchsize=3", "--config.train.batchsize: no such field; did you mean batch_size?"),
        ("model.width=3", "--config.model.width: no such field; add it to the config file"),
        (
            "train.batch_size=abc",
            "flag --config.train.batch_size=abc: invalid literal for int() with base 10: 'abc'",
        ),
        ("train.num_steps=-1", "train.num_steps: -1 is not at least 0"),
    ],
)
def test_overrides(override, message, tmp_path):
    workdir = tmp_path / "run"
    fails("train", (GAUSSIAN, f"--workdir={workdir}", f"--config.{override}"), 2, message)
    assert not workdir.exists()


@pytest.mark.parametrize("program", ["train", "evaluate", "reproduce"])
def test_a_dry_run_knows_the_models(program):
    """A launcher asks for one before it submits a job."""
    arguments = (GAUSSIAN, "--workdir=run", "--dry_run", "--config.model.name=nope")
    known = (
        "diffusers_unet, gaussian, guided_diffusion, improved_diffusion, unet, unet_experts, vdm"
    )
    fails(program, arguments, 2, f"model.name: unknown 'nope'; choose one of {known}")


def test_a_config_that_is_not_named_is_one_line(tmp_path):
    arguments = (f"--workdir={tmp_path / 'run'}", "--config")
    fails("train", arguments, 2, "Missing value for flag --config")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{file}: no such file"),
        ("def get_config(:\n", "{file}: SyntaxError: invalid syntax (mine.py, line 1)"),
        ("import nowhere", "{file}, line 1: ModuleNotFoundError: No module named 'nowhere'"),
        (
            "from diffc_jax.config import base_config\n"
            "def get_config():\n"
            "    config = base_config()\n"
            "    config.train.batch_size = 'many'\n",
            "{file}, line 4: TypeError: Could not override field 'batch_size' (reference). many is"
            " of original type <class 'str'> and cannot be casted to type <class 'int'>",
        ),
    ],
)
def test_config_files(content, message, tmp_path):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    arguments = (f"--config={file}", f"--workdir={tmp_path / 'run'}")
    fails("train", arguments, 2, "--config: " + message.format(file=file))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            "evaluate",
            ("--config=configs/gaussian_floor.py:smoek", "--workdir=run"),
            "--config: unknown argument 'smoek' behind the colon; it may be smoke",
        ),
        (
            "train",
            (GAUSSIAN,),
            "flag --workdir=None: Flag --workdir must have a value other than None.",
        ),
        (
            "reproduce",
            ("--workdir=run",),
            "flag --config=None: Flag --config must have a value other than None.",
        ),
        ("baselines", (GAUSSIAN, "--workdir=run", "--flip"), "Unknown command line flag 'flip'"),
        ("baselines", (GAUSSIAN, "--workdir=run", "more"), "unexpected argument 'more'"),
        (
            "plot",
            ("--inputs=run", "--output=figures", "--bpp_range=1"),
            "--bpp_range: ['1'] is not two numbers",
        ),
    ],
)
def test_flags(program, arguments, message):
    fails(program, arguments, 2, message)


def test_failures_exit_with_1(tmp_path):
    file = tmp_path / "file"
    file.touch()
    below = file / "run"
    fails(
        "train",
        (GAUSSIAN, f"--workdir={below}"),
        1,
        f"--workdir {below}: cannot be written ({file} is not a folder)",
    )
    fails(
        "plot",
        (f"--inputs={tmp_path}", f"--output={tmp_path / 'figures'}"),
        1,
        f"{tmp_path}/eval/rd.csv: does not exist; make it with: python experiments/evaluate.py"
        f" --config=CONFIG --workdir={tmp_path} (or experiments/baselines.py with the same flags)",
    )
    assert not (tmp_path / "figures").exists()


def test_unwritable_workdir(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError) as caught:
        cli.prepare_workdir(str(tmp_path))
    assert str(caught.value) == (
        f"--workdir {tmp_path}: cannot be written (Permission denied: {tmp_path})"
    )


# Configs and data, in this process on eight simulated devices


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(8):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def configured(images, **fields):
    quick = QUICK_EVALUATION | {"rate_steps": 4, "num_levels": 1, "decoders": ("mean",)}
    config = small_config(images, **quick)
    for field, value in fields.items():
        place, _, name = field.rpartition("__")
        section = config
        for part in place.split("__") if place else ():
            section = section[part]
        section[name] = value
    validate(config)
    return config


UNET = {"name": "unet", "patch": 2, "widths": (8,), "blocks": (1,), "heads": 2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"data__train__source": "web"},
            "data.train.source: unknown 'web'; choose one of photos, tfds, npz, pickle, folder, tar,"
            " array_record, packed",
        ),
        (
            {"data__eval__resize": "stretch"},
            "data.eval.resize: unknown 'stretch'; choose one of refuse, squash, crop",
        ),
        (
            {"data__train__path": ""},
            "data.train.path: is empty; source=folder needs a folder",
        ),
        (
            {"data__train__source": "photos", "data__train__path": "", "data__image_size": 1000},
            "data.image_size: 1000 is larger than the built-in photographs; use 256 or less",
        ),
        (
            {"model": ConfigDict({"name": "resnet"})},
            "model.name: unknown 'resnet'; choose one of diffusers_unet, gaussian,"
            " guided_diffusion, improved_diffusion, unet, unet_experts, vdm",
        ),
        (
            {"model": ConfigDict({"name": "gaussian", "width": 8})},
            "model.width: gaussian has no such field; it has none",
        ),
        (
            {"schedule__name": "cosine"},
            "schedule.name: unknown 'cosine'; choose one of linear, learned_linear, learned_network",
        ),
        (
            {"train__batch_size": 12},
            "train.batch_size: 12 is not divisible by the 8 devices; try 16",
        ),
        (
            {"model": ConfigDict(UNET)},
            "train.num_steps: set exactly one of train.num_steps, train.num_epochs,"
            " train.num_examples, train.max_seconds to a positive number",
        ),
        (
            {"model": ConfigDict(UNET), "train__num_steps": 3, "train__num_epochs": 2.0},
            "train.num_steps, train.num_epochs: set exactly one of train.num_steps,"
            " train.num_epochs, train.num_examples, train.max_seconds to a positive number",
        ),
    ],
)
def test_training_names_the_field(fields, message, images, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(UsageError) as caught:
        train(configured(images, **fields), workdir)
    assert str(caught.value) == message
    assert not workdir.exists()


def test_training_names_the_image(images, tmp_path):
    def message(**fields):
        with pytest.raises(InputError) as caught:
            train(configured(images, **fields), tmp_path / "run")
        return str(caught.value)

    assert message(data__image_size=4) == (
        f"{images}/0.png: is 8x8, not 4x4; set resize=squash or resize=crop to scale it, or change"
        " image_size"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert message(data__eval__path=str(empty)).startswith(f"{empty}: holds no images (.apng, ")
    assert message(data__eval__path=str(tmp_path / "no")) == f"{tmp_path}/no: no such folder"
    PIL.Image.new("L", (8, 8)).save(images / "3.png")
    assert message() == (
        f"{images}/3.png: is a grey image, not 8-bit RGB; set non_rgb=convert to convert such images"
    )
    (images / "3.png").write_bytes((images / "4.png").read_bytes()[:60])
    corrupt = message()
    assert corrupt.startswith(f"{images}/3.png: cannot be decoded (")
    assert corrupt.endswith("); set skip_corrupt=True to leave it out")


def test_unknown_codec(images, tmp_path):
    for job in (evaluate_baselines, reproduce):
        with pytest.raises(UsageError) as caught:
            job(configured(images, baselines__codecs=("jpg",)), tmp_path / "run")
        assert str(caught.value).startswith("baselines.codecs: unknown 'jpg', not one of jpeg")
    assert not (tmp_path / "run").exists()


def test_evaluation_without_training(images, tmp_path):
    with pytest.raises(InputError) as caught:
        evaluate(configured(images), tmp_path)
    assert str(caught.value) == (
        f"--workdir {tmp_path}: holds no trained model; run experiments/train.py with the same"
        " flags first"
    )
    assert list(tmp_path.iterdir()) == [images]


def test_runs_that_do_not_fit(images, tmp_path):
    workdir = tmp_path / "run"
    train(configured(images), workdir)
    before = (workdir / "config.json").read_text()

    # Another config: everything that differs is listed.
    other = configured(
        images,
        seed=1,
        train__learning_rate=0.1,
        schedule__name="learned_linear",
        eval__batch_size=3,
    )
    with pytest.raises(UsageError) as caught:
        train(other, workdir)
    assert str(caught.value) == (
        f"--workdir {workdir}: holds a run with another config:"
        " schedule.name was 'linear', is 'learned_linear'; seed was 0, is 1;"
        " train.learning_rate was 0.0002, is 0.1. Use these values or another --workdir"
    )
    with pytest.raises(UsageError) as caught:
        evaluate(other, workdir)
    assert str(caught.value) == (
        f"--workdir {workdir}: holds a run with another config:"
        " schedule.name was 'linear', is 'learned_linear'. Use these values or another --workdir"
    )
    assert (workdir / "config.json").read_text() == before

    # Levels that the chain does not have.
    with pytest.raises(UsageError) as caught:
        evaluate(configured(images, eval__num_levels=9), workdir)
    assert str(caught.value) == (
        "eval.num_levels: 4 steps of the rate have only 3 levels between"
        " eval.first_gamma and eval.last_gamma, not 9"
    )

    # Exported parameters of another model, and no parameters at all.
    exported = workdir / "params.safetensors"
    with pytest.raises(UsageError) as caught:
        evaluate(
            configured(
                images,
                data__image_size=4,
                data__eval__resize="crop",
                eval__params=str(exported),
            ),
            workdir,
        )
    assert str(caught.value) == (
        f"eval.params: {exported} was made with another config: data.image_size was 8, is 4. Use these"
        " values or other weights"
    )
    whole = exported.read_bytes()
    for content in (whole[: len(whole) // 2], b"junk", b""):
        exported.write_bytes(content)
        with pytest.raises(InputError) as caught:
            evaluate(configured(images, eval__params=str(exported)), workdir)
        assert str(caught.value).startswith(f"{exported}: is not a readable safetensors file (")

    # Other data than the position in it was saved with.
    (images / "7.png").unlink()
    with pytest.raises(UsageError) as caught:
        train(configured(images), workdir)
    assert str(caught.value) == (
        "data.train: has 7 images now and had 8 when the run was saved; its order cannot be"
        " continued. Use the old data or another --workdir"
    )
    assert not (workdir / "eval").exists()


def test_damaged_checkpoints(images, tmp_path):
    workdir = tmp_path / "run"
    train(configured(images), workdir)
    step = workdir / "checkpoints" / "0"
    arrays = [path for path in (step / "state").rglob("d/*") if path.is_file()]
    assert arrays
    for files in (arrays, [step / "state" / "_METADATA"], [step / "progress" / "metadata"]):
        whole = {file: file.read_bytes() for file in files}
        for kept in (0.5, 0.0):
            for file, content in whole.items():
                file.write_bytes(content[: int(kept * len(content))])
            with pytest.raises(InputError) as caught:
                evaluate(configured(images), workdir)
            assert str(caught.value).startswith(f"{step}: is damaged (")
            assert str(caught.value).endswith("); delete it to go on from the checkpoint before it")
        for file, content in whole.items():
            file.write_bytes(content)
    (workdir / "config.json").write_text('{"train": ')
    with pytest.raises(InputError) as caught:
        train(configured(images), workdir)
    assert str(caught.value).startswith(f"{workdir}/config.json: is not valid JSON (")
    # Failed tasks of Orbax are logged when they are collected. A test that parses Python just then fails:
    # `ast.parse` of CPython 3.11 counts its recursion once for both.
    del caught
    gc.collect()
