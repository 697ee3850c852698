"""The codec in the evaluation: rows of diffc_codec say what real files hold, and how well."""

import json
import logging

import jax
import numpy as np
import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.encoder import Choice
from diffc_jax.codec.header import header_bytes
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.step_sizes import StepSizes
from diffc_jax.codec.stream import Header, snr_to_float
from diffc_jax.commands import train
from diffc_jax.config import validate
from diffc_jax.evaluation import codec_sweep
from diffc_jax.evaluation.codec_sweep import nearest_steps, seed_of
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.plan import SweepPlan
from diffc_jax.evaluation.rd_sweep import IDEAL_BITS
from diffc_jax.evaluation.results import read_rate_points
from tests.support.image_files import write_smooth_images
from tests.support.run_files import arrays, table
from tests.support.small_configs import small_config

N_IMAGES, SIDE, LEVELS, FLOW_STEPS = 8, 16, 3, 4
HEADER = 6


def configured(folder, **evaluation):
    config = small_config(folder, SIDE)
    config.eval.update({"rate_steps": 100, "rate_evaluations": 25, "num_levels": LEVELS})
    config.eval.update({"first_gamma": -1.0, "last_gamma": -4.0, "flow_steps": FLOW_STEPS})
    config.eval.update({"decoders": ("flow",), "batch_size": 4, "features": ""})
    config.eval.update({"image_metrics": (), "grid_images": N_IMAGES, "bound_times": 1})
    config.eval.codec_memory = 8
    config.eval.update(evaluation)
    validate(config)
    return config


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_smooth_images(tmp_path_factory.mktemp("images"), N_IMAGES, SIDE, coarse=4)


@pytest.fixture(scope="module")
def streams():
    """The bytes that the first evaluation wrote, images in their order, the levels of each."""
    return []


@pytest.fixture(scope="module")
def workdir(images, streams, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(configured(images), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 2)
        patch.setattr(codec_sweep, "parse", lambda data: streams.append(data) or parse(data))
        evaluate(configured(images), folder)
    return folder


def per_image(workdir):
    """Columns as arrays (images, levels)."""
    rows = table(workdir / "eval" / "per_image_codec.csv")
    assert [int(row["index"]) for row in rows] == np.repeat(range(N_IMAGES), LEVELS).tolist()
    names = ("gamma", "bits_kl", "bits_path", "bits_file", "mse", "psnr")
    return {n: np.array([float(row[n]) for row in rows]).reshape(N_IMAGES, LEVELS) for n in names}


def codec_points(workdir):
    points = read_rate_points(workdir / "eval" / "rd.csv")
    return [point for point in points if point.method == "diffc_codec"]


def reconstructions(workdir):
    return arrays(workdir / "eval" / "reconstructions_codec.npz")


def test_rows_are_what_the_files_of_the_images_give(workdir, streams):
    """The public decoder makes these very pixels of files of that size."""
    codec = load_codec(workdir, batch_size=4).programs
    numbers, shown = per_image(workdir), reconstructions(workdir)
    n_steps = [point.n_steps for point in codec_points(workdir)]
    assert len(streams) == N_IMAGES * LEVELS
    for image in range(N_IMAGES):
        for level in range(LEVELS):
            data = streams[image * LEVELS + level]
            assert len(data) * 8 == numbers["bits_file"][image, level]
            stream = parse(data)
            assert stream.problem is None
            assert stream.header.seed == image
            (steps,) = stream.steps()
            snr = snr_to_float(sum(step.delta for step in steps))
            assert numbers["gamma"][image, level] == pytest.approx(-np.log(snr))
            assert numbers["bits_path"][image, level] == sum(step.path_bits for step in steps)
            decoded = decode_stream(codec, stream, "flow", n_steps[level])
            assert decoded.warnings == []
            kept = shown["codec/flow/images"][image, level].astype(int)
            # Another batch may round a value of 8 bits the other way.
            assert np.abs(decoded.image - kept).max() <= 1
            error = np.square(kept - shown["original"][image]).mean()
            assert numbers["mse"][image, level] == pytest.approx(error)
    assert (np.diff(numbers["bits_file"], axis=1) >= 0).all()
    assert (numbers["psnr"][:, -1] > 20).all()


def test_rows_are_means_over_the_images(workdir):
    numbers, points = per_image(workdir), codec_points(workdir)
    assert len(points) == LEVELS
    swept = [p for p in read_rate_points(workdir / "eval" / "rd.csv") if p.method == "diffc"]
    n_steps = [point.n_steps for point in swept if point.decoder == "flow"]
    for level, point in enumerate(points):
        bits = numbers["bits_file"][:, level]
        assert (point.model, point.decoder, point.rate_kind) == ("gaussian", "flow", "file")
        assert (point.n_images, point.n_steps, point.n_rate_steps) == (
            N_IMAGES,
            n_steps[level],
            100,
        )
        assert point.bpp == pytest.approx(bits.mean() / SIDE**2)
        assert point.bpp_headerless == pytest.approx((bits.mean() - 8 * HEADER) / SIDE**2)
        assert point.bpp_stderr == pytest.approx(bits.std(ddof=1) / N_IMAGES**0.5 / SIDE**2)
        assert point.bpp_kl == pytest.approx(numbers["bits_kl"][:, level].mean() / SIDE**2)
        assert point.gamma == pytest.approx(numbers["gamma"][:, level].mean())
        assert point.mse == pytest.approx(numbers["mse"][:, level].mean())
        assert point.psnr_mean == pytest.approx(numbers["psnr"][:, level].mean())


def test_summary_compares_with_the_sweep(workdir):
    numbers = per_image(workdir)
    summary = json.loads((workdir / "eval" / "summary.json").read_text())["codec"]
    assert (summary["memory"], summary["images_drifted"]) == (8, 0)
    kl = numbers["bits_kl"].mean(axis=0)
    for name, column in (("file_bits_over_kl", "bits_file"), ("path_bits_over_kl", "bits_path")):
        np.testing.assert_allclose(summary[name], numbers[column].mean(axis=0) / kl)
    rows = table(workdir / "eval" / "per_image.csv")
    swept = np.array([float(row["psnr"]) for row in rows]).reshape(N_IMAGES, LEVELS)
    gammas = np.array([float(row["gamma"]) for row in rows[:LEVELS]])
    inside = [
        level
        for level, own in enumerate(numbers["gamma"].T)
        if gammas[-1] <= own.min() and own.max() <= gammas[0]
    ]
    assert inside
    expected = np.array(
        [np.interp(-own, -gammas, psnr) for own, psnr in zip(numbers["gamma"], swept, strict=True)]
    )
    gain = (numbers["psnr"] - expected).mean(axis=0)
    found = np.array(summary["psnr_over_sweep"]["flow"])
    np.testing.assert_allclose(found[inside], gain[inside])
    # Files carry what the sweep's latents do, and cost more than the ideal.
    assert np.abs(found).max() < 1.5
    assert min(summary["path_bits_over_kl"]) > 1


def test_ideal_bits_are_those_of_the_image_at_its_own_noise():
    """On a chain whose ideal rate is exp(-gamma) for one image and twice that for the other."""
    gammas = np.linspace(5.0, -13.0, 73)
    plan = SweepPlan(gammas, np.arange(73), np.array([20, 40]), ("flow",), 1, 1)
    numbers = {
        IDEAL_BITS: np.exp(-gammas) * np.array([[1.0], [2.0]]),
        codec_sweep.GAMMA: np.array([[1.1, -3.3], [1.7, -7.9]]),
    }
    expected = np.exp(-numbers[codec_sweep.GAMMA]) * np.array([[1.0], [2.0]])
    np.testing.assert_allclose(codec_sweep.ideal_bits(numbers, plan), expected, rtol=1e-3)


def test_gain_is_over_the_line_through_the_levels_of_the_sweep():
    """Files between, before and behind two levels, on images whose PSNR is linear in gamma."""
    plan = SweepPlan(
        np.linspace(5.0, -13.0, 73), np.arange(73), np.array([20, 40]), ("flow",), 1, 1
    )
    own = np.array([[1.1, -3.3], [-2.0, -7.9]])

    def psnr(gammas, gain=0.0):
        return np.array([[20.0], [30.0]]) - 2.5 * gammas + gain

    numbers = {
        IDEAL_BITS: np.exp(-plan.gammas) * np.ones((2, 1)),
        codec_sweep.BYTES: np.array([[3, 5], [4, 7]]),
        codec_sweep.PATH_BITS: np.array([[8, 16], [8, 24]]),
        codec_sweep.GAMMA: own,
        codec_sweep.DRIFT: np.array([0, 2]),
        "psnr/flow": psnr(plan.level_gammas),
        "psnr/codec/flow": psnr(own, gain=0.25),
    }
    compared = codec_sweep.compared(numbers, plan, ["flow"])
    np.testing.assert_allclose(compared["codec/psnr_gain/flow"], 0.25)
    np.testing.assert_array_equal(compared["codec/file_bits"], [[24, 40], [32, 56]])
    np.testing.assert_array_equal(compared["codec/drifted"], [0, 1])


def test_resumed_is_uninterrupted(images, workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    params = str(workdir / "params.safetensors")
    evaluate(configured(images, max_images=5, params=params), tmp_path)
    assert codec_points(tmp_path)[0].n_images == 5
    progress = next((tmp_path / "eval" / "progress").iterdir())
    (progress / "00000004-00000005.npz").unlink()
    evaluate(configured(images, params=params), tmp_path)
    for name in ("per_image_codec.csv", "reconstructions_codec.npz"):
        assert (tmp_path / "eval" / name).read_bytes() == (workdir / "eval" / name).read_bytes()


def test_one_device_makes_the_same_files_and_drift_is_reported(
    images, workdir, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(
        "diffc_jax.codec.decoder.check_distance", lambda found, sent, bits: np.full(len(found), 2)
    )
    with caplog.at_level(logging.WARNING, logger="absl"):
        evaluate(configured(images, params=str(workdir / "params.safetensors")), tmp_path)
    one, two = per_image(tmp_path), per_image(workdir)
    np.testing.assert_allclose(one["bits_file"], two["bits_file"], rtol=0.05)
    np.testing.assert_allclose(one["gamma"], two["gamma"], atol=0.15)
    np.testing.assert_allclose(one["psnr"].mean(), two["psnr"].mean(), atol=0.2)
    assert (
        "the decoder of the codec did not arrive where its encoder did, on images 4, 5, 6, 7: the model "
        "is not computed alike both times, and the rows of diffc_codec cannot be trusted"
    ) in caplog.messages
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["codec"]["images_drifted"] == N_IMAGES


def test_no_files_are_made_if_none_are_asked_for(images, workdir, tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    for name in ("per_image_codec.csv", "reconstructions_codec.npz"):
        (folder / name).write_bytes((workdir / "eval" / name).read_bytes())
    params = str(workdir / "params.safetensors")
    evaluate(configured(images, codec_decoders=(), max_images=4, params=params), tmp_path)
    assert codec_points(tmp_path) == []
    assert not list(folder.glob("*codec*"))
    assert "codec" not in json.loads((folder / "summary.json").read_text())


def test_steps_nearest_to_a_noise_level():
    sizes, choices, snr = StepSizes((0, 0), 12288, 14), [], []
    for _ in range(5):
        offer = sizes.offer()
        choices.append(Choice((), offer, 1))
        sizes.advance(offer, 1)
        snr.append(snr_to_float(sizes.snr))
    reached = -np.log(snr)
    between = (reached[:-1] + reached[1:]) / 2
    gammas = np.array([50.0, between[0] + 0.01, between[0] - 0.01, between[3] - 0.01, -50.0])
    assert nearest_steps(choices, gammas).tolist() == [1, 1, 2, 5, 5]


def test_all_images_have_headers_of_one_length():
    seeds = [seed_of(index) for index in (0, 255, 256, 70_000)]
    assert seeds == [0, 255, 0, 112]
    headers = [Header(SIDE, SIDE, SIDE, 14, seed, b"ab") for seed in seeds]
    assert {len(header_bytes(header)) for header in headers} == {5}
