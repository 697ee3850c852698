"""The commands of the README as a user starts them."""

import json

import PIL.Image
import pytest

from diffc_jax.evaluation.results import read_rate_points
from tests.support.processes import run_program
from tests.support.run_files import logged, table

RUN_FILES = ("config.json", "environment.json", "params.json")
EVAL_FILES = ("config.json", "environment.json", "summary.json")
DECODERS = {"ancestral", "flow", "mean"}


def run(program, *arguments):
    done = run_program(f"experiments/{program}.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def assert_trained(workdir, step):
    for name in RUN_FILES:
        assert json.loads((workdir / name).read_text())
    lines = logged(workdir)
    assert lines[-1]["step"] == step
    assert lines[-1]["eval/bits_per_dim"] > 0.0
    assert (workdir / "params.safetensors").stat().st_size > 0
    assert (workdir / "checkpoints" / str(step)).is_dir()
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    with PIL.Image.open(workdir / "samples" / f"{step:08d}.png") as image:
        image.load()


def assert_evaluated(workdir, model, images, levels):
    folder = workdir / "eval"
    for name in EVAL_FILES:
        assert json.loads((folder / name).read_text())
    points = [p for p in read_rate_points(folder / "rd.csv") if p.method == "diffc"]
    assert {(p.model, p.rate_kind, p.n_images) for p in points} == {(model, "bound", images)}
    assert {p.decoder for p in points} == DECODERS
    assert len(points) == levels * len(DECODERS)
    assert all(p.bpp > p.bpp_kl > 0.0 and p.psnr > 0.0 for p in points)
    assert len(table(folder / "per_image.csv")) == images * levels * len(DECODERS)
    assert table(folder / "rate_curve.csv")
    with PIL.Image.open(folder / "reconstructions.png") as image:
        image.load()


def assert_drawn(folder):
    assert {path.suffix for path in folder.iterdir()} >= {".png", ".pdf", ".csv"}
    for path in folder.glob("*.png"):
        with PIL.Image.open(path) as image:
            image.load()
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert table(path.with_suffix(".csv"))


def test_each_command_on_the_gaussian_baseline(tmp_path):
    workdir = tmp_path / "runs" / "gaussian"
    flags = ("--config=configs/gaussian_floor.py:smoke", f"--workdir={workdir}")
    run("train", *flags)
    assert_trained(workdir, step=0)
    run("evaluate", *flags)
    assert_evaluated(workdir, "gaussian", images=8, levels=3)
    swept = read_rate_points(workdir / "eval" / "rd.csv")

    # Baselines share the table with the sweep.
    run("baselines", *flags, "--config.baselines.codecs=('jpeg', 'webp')")
    points = read_rate_points(workdir / "eval" / "rd.csv")
    assert points[: len(swept)] == swept
    codecs = points[len(swept) :]
    assert {(p.method, p.rate_kind, p.n_images) for p in codecs} == {
        ("jpeg", "file", 8),
        ("webp", "file", 8),
    }
    assert table(workdir / "eval" / "per_image_baselines.csv")

    run("plot", f"--inputs={workdir}", f"--output={tmp_path / 'figures'}")
    assert_drawn(tmp_path / "figures")
    assert "</html>" in (tmp_path / "figures" / "report.html").read_text()


def test_reproduce_trains_a_network_and_draws(tmp_path):
    workdir = tmp_path / "run"
    run(
        "reproduce",
        *("--config=configs/quickstart.py:smoke", f"--workdir={workdir}"),
        *("--config.eval.num_levels=2", "--config.baselines.codecs=('jpeg',)"),
        "--config.baselines.published=('imagenet64-chrabaszcz/bpg',)",
    )
    assert_trained(workdir / "gaussian", step=0)
    assert_evaluated(workdir / "gaussian", "gaussian", images=8, levels=2)
    assert_trained(workdir / "unet", step=4)
    assert_evaluated(workdir / "unet", "unet", images=8, levels=2)
    assert {p.method for p in read_rate_points(workdir / "baselines" / "eval" / "rd.csv")} == {
        "jpeg"
    }
    assert table(workdir / "theory" / "gaussian" / "curves.csv")
    claims = (workdir / "claims.md").read_text()
    assert claims.startswith("# Claims in numbers: photos eval, 8 images\n")
    assert "| JPEG 4:2:0 |" in claims
    assert_drawn(workdir / "figures")
    (drawn,) = (workdir / "figures_published").glob("rate_psnr_log.csv")
    assert "published:bpg" in {row["method"] for row in table(drawn)}


@pytest.mark.parametrize("program", ["evaluate", "baselines", "reproduce"])
def test_metrics_that_need_larger_images_are_refused_at_once(program, tmp_path):
    flags = ("--config=configs/quickstart.py:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run")
    done = run_program(
        f"experiments/{program}.py", *flags, "--config.eval.image_metrics=('lpips_alex',)"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "eval.image_metrics: lpips_alex needs images of 31x31 or more" in done.stderr


@pytest.mark.parametrize("program", ["baselines", "reproduce"])
def test_a_dry_run_knows_the_codecs(program, tmp_path):
    flags = ("--config=configs/quickstart.py:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run")
    done = run_program(f"experiments/{program}.py", *flags, "--config.baselines.codecs=('jpg',)")
    assert (done.returncode, done.stdout) == (2, "")
    assert "baselines.codecs: unknown 'jpg', not one of jpeg_420," in done.stderr


def test_a_dry_run_wants_to_know_how_long_training_is(tmp_path):
    flags = ("--config=configs/quickstart.py:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run")
    done = run_program("experiments/train.py", *flags, "--config.train.num_steps=0")
    assert done.returncode == 2
    assert "train.num_steps: set exactly one of train.num_steps, train.num_epochs" in done.stderr
    gaussian = ("--config=configs/gaussian_floor.py:smoke", *flags[1:])
    run("train", *gaussian, "--config.train.num_steps=0")


@pytest.mark.parametrize("program", ["train", "evaluate", "baselines", "reproduce"])
def test_dry_run_prints_the_config_and_writes_nothing(program, tmp_path):
    done = run(
        program,
        *("--config=configs/quickstart.py:smoke", f"--workdir={tmp_path / 'run'}", "--dry_run"),
        *("--config.train.batch_size=16", "--config.eval.decoders=('kappa=1.5', 'mean')"),
    )
    config = json.loads(done.stdout)
    assert config["train"]["batch_size"] == 16
    assert config["eval"]["decoders"] == ["kappa=1.5", "mean"]
    assert config["model"]["name"] == "unet"
    assert done.stderr == ""
    assert not (tmp_path / "run").exists()


def test_gaussian_analysis(tmp_path):
    run("gaussian", "--config=configs/gaussian.py:smoke", f"--workdir={tmp_path}")
    for name in ("gaussian/simulation", "scalar/simulation"):
        assert table(tmp_path / f"{name}.csv")
    for name in ("gaussian/curves", "gaussian/components", "scalar/curves", "vector/curves"):
        assert table(tmp_path / f"{name}.csv")
        assert {path.suffix for path in tmp_path.glob(f"{name}.*")} == {".png", ".pdf", ".csv"}
