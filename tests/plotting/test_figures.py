"""Figures as files: collected from results, whole, reproducible."""

import dataclasses

import matplotlib
import pytest
from PIL import Image

from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import results
from diffc_jax.plotting import figures, rate_distortion
from diffc_jax.plotting.inputs import collect_rate_points
from tests.support.rate_points import (
    RATES,
    legend_of,
    make_gallery,
    make_judged,
    make_points,
    make_published,
)


def test_saved_figures_are_reproducible_and_leave_no_state(tmp_path):
    before = dict(matplotlib.rcParams)
    for name in ("a", "b"):
        figure = rate_distortion.plot_rates(make_gallery())
        rows = [dataclasses.asdict(point) for point in make_gallery()]
        written = figures.save_figure(figure, tmp_path / name / "rd.v1", rows)
        assert [path.name for path in written] == ["rd.v1.png", "rd.v1.pdf", "rd.v1.csv"]
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(
            path.name for path in written
        )
    for kind in ("png", "pdf", "csv"):
        first, second = (tmp_path / name / f"rd.v1.{kind}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    assert b"CreationDate" not in (tmp_path / "a" / "rd.v1.pdf").read_bytes()
    assert results.read_rate_points(tmp_path / "a" / "rd.v1.csv") == make_gallery()
    assert dict(matplotlib.rcParams) == before


def test_make_figures_collects_workdirs_and_files(tmp_path):
    results.write_rate_points(tmp_path / "run" / "eval" / "rd.csv", make_points())
    results.write_rate_points(
        tmp_path / "codecs.csv", [*make_points(method="webp"), *make_points()]
    )
    output = tmp_path / "figures"
    output.mkdir()
    (output / "rate_psnr_log.png").write_text("old")
    (output / "mine.txt").write_text("kept")
    written = figures.make_figures([tmp_path / "run", str(tmp_path / "codecs.csv")], output)
    assert sorted(path.name for path in written) == [
        f"rate_psnr_{scale}.{kind}" for scale in ("linear", "log") for kind in ("csv", "pdf", "png")
    ]
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["mine.txt", *(path.name for path in written)]
    )
    assert Image.open(output / "rate_psnr_log.png").size == (1480, 900)
    assert results.read_rate_points(output / "rate_psnr_log.csv") == [
        *make_points(),
        *make_points(method="webp"),
    ]


def test_missing_results_say_how_to_make_them(tmp_path):
    with pytest.raises(InputError) as error:
        figures.make_figures([tmp_path / "run"], tmp_path / "out")
    command = (
        f"make it with: python experiments/evaluate.py --config=CONFIG --workdir={tmp_path}/run "
        "(or experiments/baselines.py with the same flags)"
    )
    assert str(error.value) == f"{tmp_path}/run/eval/rd.csv: does not exist; {command}"
    results.write_rate_points(tmp_path / "run" / "eval" / "rd.csv", [])
    with pytest.raises(InputError) as error:
        figures.make_figures([tmp_path / "run" / "eval" / "rd.csv"], tmp_path / "out")
    assert str(error.value) == f"{tmp_path}/run/eval/rd.csv: has no rows; {command}"
    with pytest.raises(UsageError) as usage:
        figures.make_figures([], tmp_path / "out")
    assert str(usage.value) == "inputs: empty; name at least one workdir or rd.csv file"
    assert not (tmp_path / "out").exists()


def test_make_figures_draws_every_measure_of_the_inputs(tmp_path):
    results.write_rate_points(tmp_path / "rd.csv", make_judged())
    others = [
        dataclasses.replace(p, fid=1.0, fid_features="dino", lpips=0.1) for p in make_published()
    ]
    with pytest.raises(UsageError):
        figures.make_figures([tmp_path / "rd.csv"], tmp_path / "out", more_points=others)
    assert not (tmp_path / "out").exists()
    written = figures.make_figures(
        [tmp_path / "rd.csv"], tmp_path / "out", more_points=others, allow_mixed_data=True
    )
    assert {path.stem for path in written} == {
        f"rate_{name}_{scale}"
        for name in ("psnr", "fid", "lpips", "paper")
        for scale in ("log", "linear")
    }
    table = results.read_rate_points(tmp_path / "out" / "rate_paper_log.csv")
    assert table[: len(RATES)] == make_judged()
    assert [p.fid for p in table[len(RATES) :]] == [None] * len(others)
    with pytest.raises(UsageError, match=r"^fid: distances in different features"):
        figures.make_figures(
            [tmp_path / "rd.csv"],
            tmp_path / "out",
            more_points=others,
            measures=["fid"],
            allow_mixed_data=True,
        )


def test_unknown_methods_are_drawn_and_broken_rows_refused(tmp_path):
    path = tmp_path / "rd.csv"
    unknown = [
        *make_points(method="vvc"),
        *make_points(method="neural", rate_kind="bound", model="big"),
    ]
    results.write_rate_points(path, [*unknown, *make_points(method="avif")])
    points = collect_rate_points([path])
    legend = legend_of(rate_distortion.plot_rates(points))
    assert legend == [
        *("Codecs (file bytes)", "AVIF", "Other methods (file bytes)", "vvc"),
        *("Other methods (upper bound)", "neural big"),
    ]
    path.write_text(path.read_text().replace("3.0", "three"))
    with pytest.raises(InputError) as error:
        figures.make_figures([path], tmp_path / "out")
    assert str(error.value) == f"{path}, line 7: column 'level' is not a number: 'three'"


@pytest.mark.parametrize("given", ["run", "run/eval/rd.csv"])
def test_results_are_not_replaced_by_figures(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    results.write_rate_points(tmp_path / "run" / "eval" / "rd.csv", make_points())
    with pytest.raises(UsageError) as error:
        figures.make_figures([given], "run/../run/eval")
    assert str(error.value) == (
        f"output: run/../run/eval has the results of {given}, which figures would replace; choose another"
        " folder"
    )
    assert [path.name for path in (tmp_path / "run" / "eval").iterdir()] == ["rd.csv"]
    assert figures.make_figures([given], "run")
