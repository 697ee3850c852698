"""Results by subset of images: one evaluation, and files for each subset as if it were all there is."""

import json

import numpy as np
import pytest

from diffc_jax.baselines.evaluate import evaluate_baselines
from diffc_jax.commands import train
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.evaluation.results import read_rate_points
from diffc_jax.evaluation.store import Store
from diffc_jax.metrics.frechet import frechet_distance
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.plotting.figures import make_figures
from diffc_jax.plotting.html_report import make_report
from diffc_jax.studies import reproduction
from tests.support.run_files import arrays, assert_same_cells, table
from tests.support.subset_images import (
    GRID,
    LEVELS,
    LIMIT,
    RANGES,
    SIDE,
    SUBSETS,
    configured,
    read_pixels,
)

pytestmark = pytest.mark.usefixtures("subset_features")


@pytest.fixture(scope="module")
def network_calls():
    """Batches that the sweep of the first evaluation saw."""
    return []


@pytest.fixture(scope="module")
def workdir(subset_images, network_calls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = configured(subset_images)
    train(config, folder)
    run = Sweep.run

    def counted(self, variables, x, indices, on_evaluations):
        network_calls.append(np.asarray(indices).tolist())
        return run(self, variables, x, indices, on_evaluations)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sweep, "run", counted)
        evaluate(config, folder)
    evaluate_baselines(config, folder)
    return folder


@pytest.fixture(scope="module")
def pixels(subset_images):
    return read_pixels(subset_images)


def numbers_of_all(workdir):
    """Everything that the evaluation kept, by image."""
    (folder,) = (workdir / "eval" / "progress").glob(12 * "[0-9a-f]")  # not those of baselines
    batches = list(Store(folder).read(range(len(SUBSETS) * LIMIT)))
    return {
        name: np.concatenate([batch[name] for batch in batches])
        for name in batches[0]
        if not name.startswith("pixels")
    }


def frechet(features, reference):
    return frechet_distance(RunningCovariance.of(reference), RunningCovariance.of(features))


# The sweep.


def test_every_image_goes_through_the_network_once(network_calls, workdir):
    # Padding has index 0; no batch has images of two subsets.
    assert network_calls == [
        *([0, 1, 2, 3, 4, 5, 6, 7], [8, *[0] * 7]),
        *([9, 10, 11, 12, 13, 14, 15, 16], [17, *[0] * 7]),
    ]
    assert sorted(path.name for path in workdir.iterdir() if (path / "eval").exists()) == [
        "big",
        "small",
    ]


def test_tables_of_a_subset_are_the_rows_of_all(workdir):
    for name in ("per_image.csv", "per_image_codec.csv"):
        whole = table(workdir / "eval" / name)
        assert {int(row["index"]) for row in whole} == set(range(18))
        for subset, indices in RANGES.items():
            own = [row for row in whole if int(row["index"]) in indices]
            assert table(workdir / subset / "eval" / name) == own


def test_rate_points_of_a_subset_are_averages_over_its_rows(workdir):
    for subset in SUBSETS:
        folder = workdir / subset / "eval"
        points = [p for p in read_rate_points(folder / "rd.csv") if p.method == "diffc"]
        assert len(points) == 2 * LEVELS
        rows = table(folder / "per_image.csv")
        for point in points:
            chosen = [
                row
                for row in rows
                if (row["decoder"], float(row["gamma"])) == (point.decoder, point.gamma)
            ]
            columns = {
                name: np.array([float(row[name]) for row in chosen])
                for name in ("bits_kl", "mse", "psnr", "ms_ssim")
            }
            assert (point.n_images, point.split) == (LIMIT, f"eval {subset}")
            bits = columns["bits_kl"]
            assert point.bpp_kl == pytest.approx(bits.mean() / SIDE**2, rel=1e-9)
            stderr = (1 + 1 / np.log(2) / (bits.mean() + 1)) * bits.std(ddof=1) / LIMIT**0.5
            assert point.bpp_stderr == pytest.approx(stderr / SIDE**2)
            assert point.mse == pytest.approx(columns["mse"].mean(), rel=1e-9)
            assert point.psnr_mean == pytest.approx(columns["psnr"].mean(), rel=1e-9)
            assert point.ms_ssim == pytest.approx(columns["ms_ssim"].mean(), rel=1e-9)
        curve = table(folder / "rate_curve.csv")
        last = [float(row["bits_kl"]) for row in rows if float(row["gamma"]) == points[1].gamma]
        rates = [float(row["bpp_kl"]) for row in curve]
        assert min(abs(np.mean(last) / SIDE**2 - rate) for rate in rates) < 1e-9


def test_distances_of_a_subset_are_among_its_own_images(workdir):
    kept = numbers_of_all(workdir)
    sets = {workdir: range(18)} | {workdir / name: images for name, images in RANGES.items()}
    for folder, images in sets.items():
        points = {
            (p.method, p.decoder, level): p
            for level in range(LEVELS)
            for p in [p for p in read_rate_points(folder / "eval" / "rd.csv") if p.gamma][
                level::LEVELS
            ]
        }
        for (method, decoder, level), point in points.items():
            series = f"codec/{decoder}" if method == "diffc_codec" else decoder
            features = kept[f"features/{series}/{level}"][images]
            expected = frechet(features, kept["features"][images])
            assert point.fid == pytest.approx(expected, rel=1e-6)
            assert point.fid_reference == "originals"
        assert len(points) == 3 * LEVELS


def test_bounds_of_subsets_average_to_that_of_all(workdir):
    whole, small, big = (
        json.loads((folder / "eval" / "summary.json").read_text())
        for folder in (workdir, workdir / "small", workdir / "big")
    )
    assert small["bits_per_dim"] != pytest.approx(big["bits_per_dim"], rel=1e-2)
    for name in ("bits_per_dim", "chain_bits_per_dim"):
        assert (small[name] + big[name]) / 2 == pytest.approx(whole[name], rel=1e-9)
    assert (small["n_images"], big["n_images"], big["split"]) == (9, 9, "eval big")
    files = {path.name for path in (workdir / "eval").iterdir()} - {"progress"}
    for subset in SUBSETS:
        assert {path.name for path in (workdir / subset / "eval").iterdir()} == files


def test_the_first_subset_is_what_it_is_alone(subset_images, workdir, tmp_path):
    """Its indices, and so its noise, are those of an evaluation of only its images."""
    alone = configured(subset_images / "small", subsets=())
    alone.data.train.path = str(subset_images)
    alone.eval.params = str(workdir / "params.safetensors")
    evaluate(alone, tmp_path)
    folder, expected = workdir / "small" / "eval", tmp_path / "eval"
    for name in ("rd.csv", "per_image.csv", "per_image_codec.csv", "rate_curve.csv"):
        found = [row for row in table(folder / name) if row.get("method") != "jpeg"]
        left_out = {"split", "checkpoint", "images_seen"}
        assert_same_cells(found, table(expected / name), 1e-6, left_out)
    own, wanted = (json.loads((f / "summary.json").read_text()) for f in (folder, expected))
    assert own["bits_per_dim"] == pytest.approx(wanted["bits_per_dim"], rel=1e-6)
    assert own["bits_per_dim_stderr"] == pytest.approx(wanted["bits_per_dim_stderr"], rel=1e-4)
    assert own["codec"]["images_drifted"] == wanted["codec"]["images_drifted"] == 0


def test_drawn_images_are_the_first_of_each_subset(pixels, workdir):
    kept = numbers_of_all(workdir)
    shown = {
        workdir: range(GRID),
        workdir / "small": range(GRID),
        workdir / "big": range(9, 9 + GRID),
    }
    for folder, indices in shown.items():
        drawn = arrays(folder / "eval" / "reconstructions.npz")
        assert drawn["index"].tolist() == list(indices)
        np.testing.assert_array_equal(drawn["original"], pixels[indices])
        errors = np.square(drawn["flow"] - pixels[indices, None].astype(float))
        np.testing.assert_allclose(errors.mean((2, 3, 4)), kept["mse/flow"][indices])
        files = arrays(folder / "eval" / "reconstructions_codec.npz")
        assert files["index"].tolist() == list(indices)
        np.testing.assert_array_equal(
            8 * kept["codec/bytes"][indices] / SIDE**2, files["codec/flow/bpp"]
        )


def test_other_sizes_of_subsets_and_a_stopped_evaluation(subset_images, pixels, workdir, tmp_path):
    config = configured(subset_images, max_images=5, grid_images=7, codec_decoders=(), features="")
    config.eval.params = str(workdir / "params.safetensors")
    evaluate(config, tmp_path)
    # The first images of all are of two subsets, one of which has fewer than there may be.
    originals = np.concatenate([pixels[RANGES[subset]][:5] for subset in SUBSETS])
    for folder, indices in (("", range(7)), ("small", range(5)), ("big", range(5, 10))):
        drawn = arrays(tmp_path / folder / "eval" / "reconstructions.npz")
        assert drawn["index"].tolist() == list(indices)
        np.testing.assert_array_equal(drawn["original"], originals[indices])

    # An index now means another image.
    config.eval.max_images = LIMIT
    evaluate(config, tmp_path)
    names = ("eval", "small/eval", "big/eval")
    tables = [(tmp_path / name / "per_image.csv").read_bytes() for name in names]
    for name in names:
        found, expected = (table(folder / name / "per_image.csv") for folder in (tmp_path, workdir))
        assert_same_cells(found, expected, rtol=1e-6)
    (progress,) = (
        folder
        for folder in (tmp_path / "eval" / "progress").iterdir()
        if len(list(folder.iterdir())) == 4
    )
    kept = {path: path.stat().st_mtime_ns for path in progress.iterdir()}
    for gone in ("00000008-00000009.npz", "00000009-00000017.npz"):
        kept.pop(progress / gone)
        (progress / gone).unlink()
    evaluate(config, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sorted(path.name for path in progress.iterdir() if path not in kept) == [
        "00000008-00000009.npz",
        "00000009-00000017.npz",
    ]
    assert [(tmp_path / name / "per_image.csv").read_bytes() for name in names] == tables


# The baselines.


def test_baselines_of_a_subset_are_those_of_its_images_alone(subset_images, workdir, tmp_path):
    for subset in SUBSETS:
        config = configured(subset_images / subset, subsets=())
        evaluate_baselines(config, tmp_path / subset)
        found, expected = workdir / subset / "eval", tmp_path / subset / "eval"
        points = [p for p in read_rate_points(found / "rd.csv") if p.method == "jpeg"]
        alone = read_rate_points(expected / "rd.csv")
        assert len(points) == len(alone) > 5
        for point, want in zip(points, alone, strict=True):
            assert point.split == f"eval {subset}"
            for name, value in vars(want).items():
                if name != "split":
                    assert getattr(point, name) == (
                        pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                    ), name
        rows, wanted = (table(f / "per_image_baselines.csv") for f in (found, expected))
        assert len(rows) == LIMIT * len(points)
        for row, want in zip(rows, wanted, strict=True):
            assert int(row.pop("index")) == RANGES[subset][int(want.pop("index"))]
            assert (row.pop("split"), want.pop("split")) == (f"eval {subset}", "eval")
            assert row == want
        drawn, wanted = (arrays(f / "reconstructions_baselines.npz") for f in (found, expected))
        assert drawn.keys() == wanted.keys()
        assert drawn.pop("index").tolist() == list(RANGES[subset])[:GRID]
        assert wanted.pop("index").tolist() == list(range(GRID))
        for name, array in wanted.items():
            np.testing.assert_array_equal(drawn[name], array)
        marks, wanted = (json.loads((f / "lossless.json").read_text()) for f in (found, expected))
        assert marks == wanted | {"split": f"eval {subset}"}


# Figures.


def test_figures_and_report_of_a_subset(workdir, tmp_path):
    written = make_figures([workdir / "big"], tmp_path, measures=["psnr"])
    assert {"rate_psnr_log.png", "strips_gaussian.png", "rate_bounds_gaussian.png"} <= {
        path.name for path in written
    }
    page = make_report([workdir / "big"], tmp_path / "report.html").read_text()
    assert "corpus eval big" in page
    run = f"{workdir.name}/big"
    assert f"{run} (gaussian, step 0)" in page
    assert f"{run}/config.json" in page
    assert f"{run}/eval/environment.json" in page
    assert f"experiments/evaluate.py --config=CONFIG --workdir={workdir}\n" in page
    assert f"experiments/plot.py --inputs={workdir / 'big'} " in page
    assert f"{run}: no " not in page


def test_reproduction_draws_every_subset(subset_images, workdir, tmp_path, monkeypatch):
    """All parts but figures and reports have been made."""
    for name in ("train", "evaluate", "evaluate_baselines", "analyse_theory"):
        monkeypatch.setattr(reproduction, name, lambda *args: None)
    for name in ("gaussian", "baselines"):
        (tmp_path / name).symlink_to(workdir)
    drawn = []
    monkeypatch.setattr(
        reproduction, "make_figures", lambda inputs, output: drawn.append((inputs, output)) or []
    )
    monkeypatch.setattr(
        reproduction, "make_report", lambda inputs, output: drawn.append((inputs, output))
    )
    monkeypatch.setattr(
        reproduction, "write_claims", lambda inputs, theory, output: drawn.append((inputs, output))
    )
    reproduction.reproduce(configured(subset_images), tmp_path)
    folders = [tmp_path / "gaussian", tmp_path / "baselines"]
    expected = []
    for output, subset in (
        (tmp_path / "small", "small"),
        (tmp_path / "big", "big"),
        (tmp_path, "."),  # its claims.md says that everything is done
    ):
        inputs = [folder / subset for folder in folders]
        expected += [(inputs, output / name) for name in ("figures", "report.html", "claims.md")]
    assert drawn == expected
    with pytest.raises(UsageError, match=r"^eval\.subsets: no image of corpus eval is of 'x'"):
        reproduction.reproduce(configured(subset_images, subsets=("x",)), tmp_path)
