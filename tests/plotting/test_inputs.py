"""Every input is a run of its own: its lines stay apart from those of others, and labels say why."""

import csv
import dataclasses

import numpy as np
import pytest

from benchmarks import bd_rate
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.image_sets import ImageSet
from diffc_jax.evaluation.results import write_rate_points, write_table
from diffc_jax.plotting import figures, inputs, style
from diffc_jax.plotting.claims import write_claims
from diffc_jax.plotting.html_report import make_report
from diffc_jax.runtime.files import write_json
from tests.support.rate_points import RATES, make_points
from tests.support.refusals import message
from tests.support.report_runs import Page, codec_points, write_codecs, write_sweep

TRAINED = {"model": {"name": "unet", "widths": [8]}, "train": {"learning_rate": 0.001}, "seed": 0}


def better(points, gain):
    return [dataclasses.replace(p, psnr=p.psnr + gain) for p in points]


def write_run(folder, points, config=None, evaluation=None):
    write_rate_points(folder / "eval" / "rd.csv", points)
    if config is not None:
        write_json(folder / "config.json", config)
    if evaluation is not None:
        write_json(folder / "eval" / "config.json", evaluation)
    return folder


def labels(paths):
    series = style.series_of(inputs.collect_rate_points(paths))
    assert all([p.bpp for p in line.points] == sorted(RATES) for line in series)
    return [line.label for line in series]


def changed(**train):
    return TRAINED | {"train": TRAINED["train"] | train}


def test_runs_of_one_model_are_labelled_by_the_settings_that_differ(tmp_path):
    paths = [
        write_run(tmp_path / f"run{rate}", better(make_points(), gain), changed(learning_rate=rate))
        for gain, rate in enumerate((0.01, 0.002, 0.03))
    ]
    assert labels(paths) == [
        "DiffC-F (flow), learning_rate 0.01",
        "DiffC-F (flow), learning_rate 0.002",
        "DiffC-F (flow), learning_rate 0.03",
    ]
    # One alone is called as ever, and so is a table of one.
    assert labels(paths[:1]) == ["DiffC-F (flow)"]
    assert labels([paths[1] / "eval" / "rd.csv"]) == ["DiffC-F (flow)"]
    assert (
        labels([paths[0], paths[1] / "eval" / "rd.csv"])[1] == "DiffC-F (flow), learning_rate 0.002"
    )
    lines = style.series_of(inputs.collect_rate_points(paths))
    assert len({str(line.line["linestyle"]) for line in lines}) == 3


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (TRAINED, changed(num_steps=9), ("a/run", "b/run")),  # what no setting of a model tells
        (None, None, ("a/run", "b/run")),
        (TRAINED, None, ("a/run", "b/run")),
        (TRAINED, changed(beta2=0.9), ("default beta2", "beta2 0.9")),
        (
            TRAINED,
            TRAINED
            | {"model": {"name": "unet", "widths": [8, 16]}, "schedule": {"gamma_max": 3.0}},
            ("widths (8), default gamma_max", "widths (8, 16), gamma_max 3"),
        ),
        (
            TRAINED,
            changed(beta2=0.9, ema_decay=0.9, clip_norm=2.0, optimizer="muon"),
            ("a/run", "b/run"),
        ),
    ],
)
def test_what_tells_two_runs_apart(tmp_path, first, second, expected):
    paths = [
        write_run(tmp_path / "a" / "run", make_points(), first),
        write_run(tmp_path / "b" / "run", better(make_points(), 1), second),
    ]
    assert labels(paths) == [f"DiffC-F (flow), {text}" for text in expected]


def test_two_of_three_runs_with_equal_settings_have_their_own_names(tmp_path):
    rates = {"a": 0.01, "b": 0.01, "c": 0.02}
    paths = [
        write_run(tmp_path / name, better(make_points(), gain), changed(learning_rate=rate))
        for gain, (name, rate) in enumerate(rates.items())
    ]
    found = [one.label("diffc", "unet") for one in inputs.read_inputs(paths)]
    assert found == ["a", "b", "learning_rate 0.02"]


def test_equal_rows_of_one_table_count_once(tmp_path):
    path = write_run(tmp_path / "a", [*make_points(), *make_points()])
    assert len(inputs.collect_rate_points([path])) == len(make_points())


def test_subsets_of_runs_have_the_settings_of_the_runs(tmp_path):
    paths = []
    for gain, (name, rate) in enumerate({"a": 0.01, "b": 0.02}.items()):
        paths.append(write_run(tmp_path / name / "hq64", better(make_points(), gain)))
        write_json(tmp_path / name / "config.json", changed(learning_rate=rate))
    assert labels(paths) == [f"DiffC-F (flow), learning_rate {rate}" for rate in (0.01, 0.02)]


def test_what_points_say_themselves_needs_no_name(tmp_path):
    paths = [
        write_run(tmp_path / "a", make_points(checkpoint="step 5"), TRAINED),
        write_run(tmp_path / "b", make_points(checkpoint="step 9"), TRAINED),
    ]
    assert labels(paths) == [
        "DiffC-F (flow), checkpoint step 5",
        "DiffC-F (flow), checkpoint step 9",
    ]


def test_a_seed_of_training_is_no_setting(tmp_path):
    """Like the seed of an evaluation, which is a column of its own."""
    paths = [
        write_run(tmp_path / name, make_points(seed=seed), TRAINED | {"seed": seed})
        for seed, name in enumerate(("a", "b"))
    ]
    assert labels(paths) == ["DiffC-F (flow), seed 0", "DiffC-F (flow), seed 1"]


def test_two_files_of_weights_of_one_name_stay_apart(tmp_path):
    paths = []
    for number, dataset in enumerate(("photos", "imagenet64-dev")):
        weights = tmp_path / f"weights{number}" / "params.safetensors"
        card = {"model": {"name": "unet"}, "dataset": dataset, "train_seconds": number}
        write_json(weights.with_suffix(".json"), card)
        points = better(make_points(checkpoint="params.safetensors"), number)
        evaluation = TRAINED | {"eval": {"params": str(weights)}}
        paths.append(write_run(tmp_path / f"run{number}", points, evaluation=evaluation))
    assert labels(paths) == [
        "DiffC-F (flow), dataset photos",
        "DiffC-F (flow), dataset imagenet64-dev",
    ]
    for number in range(2):
        (tmp_path / f"weights{number}" / "params.json").unlink()
    assert labels(paths) == ["DiffC-F (flow), run0", "DiffC-F (flow), run1"]


@pytest.mark.parametrize(
    "field", ["flow_steps", "ancestral_steps", "codec_memory", "rate_evaluations"]
)
def test_settings_of_the_evaluation_count_too(field, tmp_path):
    paths = [
        write_run(
            tmp_path / f"run{steps}",
            [*make_points(decoder="mean"), *better(make_points(), steps)],
            TRAINED,
            {"eval": {field: steps, "batch_size": steps}},
        )
        for steps in (5, 50)
    ]
    assert labels(paths) == [
        f"DiffC-F (flow), {field} 5",
        f"DiffC-F (flow), {field} 50",
        f"DiffC-D (posterior mean), {field} 5",
        f"DiffC-D (posterior mean), {field} 50",
    ]


def test_equal_rows_count_once_and_other_codecs_are_named_by_their_folder(tmp_path):
    points = [*make_points(), *make_points(method="avif")]
    first = write_run(tmp_path / "first", points, TRAINED)
    part = write_run(tmp_path / "part", points[:3], changed(beta2=0.5))
    assert labels([first, first, part, write_run(tmp_path / "copy", points)]) == [
        "DiffC-F (flow)",
        "AVIF",
    ]
    # Of a part that comes first, too, the whole is drawn.
    assert labels([part, first]) == ["DiffC-F (flow)", "AVIF"]
    newer = write_run(tmp_path / "newer", better(make_points(method="avif"), 1))
    assert labels([first, newer]) == ["DiffC-F (flow)", "AVIF, first", "AVIF, newer"]


def test_networks_for_one_rate_each_make_one_line(tmp_path):
    points = make_points(method="hific", model="width 1")
    paths = [write_run(tmp_path / f"{p.level}bpp", [p]) for p in points]
    assert labels(paths) == ["HiFiC, ours, width 1"]
    # Two of one rate are not of one line.
    again = write_run(tmp_path / "again", better(points[:1], 1))
    series = style.series_of(inputs.collect_rate_points([*paths[:2], again]))
    names = (paths[0].name, paths[1].name, "again")
    assert [line.label for line in series] == [f"HiFiC, ours, width 1, {name}" for name in names]


def two_networks(tmp_path):
    """Runs of one model with bounds of two decoders and files of one, the second 3 dB better at all rates."""
    paths = []
    for number in range(2):
        points = better(
            [
                *make_points(gamma=0.0),
                *better(make_points(gamma=0.0, decoder="ancestral"), -1 - number),
                *make_points(method="diffc_codec", rate_kind="file", model="unet", decoder="flow"),
            ],
            3 * number,
        )
        points = [
            dataclasses.replace(p, gamma=float(-np.log(p.bpp)), mse=1.0) if p.gamma == 0 else p
            for p in points
        ]
        paths.append(write_run(tmp_path / f"run{number}", points, changed(beta2=0.5 + number / 4)))
    return paths


def test_claims_compare_within_each_run(tmp_path):
    paths = two_networks(tmp_path)
    curves = [
        {"curve": curve, "bits_per_pixel": 1.0, "snr_db": 1.0}
        for curve in ("diffc_a", "diffc_f", "diffc_f_star", "diffc_a_star", "rd")
    ]
    table = tmp_path / "theory" / "gaussian" / "curves.csv"
    write_table(table, ("curve", "bits_per_pixel", "snr_db"), curves)
    write_claims(paths, tmp_path / "theory", tmp_path / "claims.md")
    text = (tmp_path / "claims.md").read_text()
    for number, (beta2, gain) in enumerate((("0.5", "+1.00"), ("0.75", "+2.00"))):
        _, _, section = text.partition(f"with the denoiser unet, beta2 {beta2}\n")
        rows = section.partition("\n## ")[0].splitlines()[3:]
        assert {row.split("|")[5].strip() for row in rows if row} == {gain}
        files = f"| DiffC-F files, beta2 {beta2}, unet |"
        ratios = [
            line.split("|")[5].strip() for line in text.splitlines() if line.startswith(files)
        ]
        # Bounds and files of one run are the same; those of the other are 3 dB away.
        assert set(ratios[-len(RATES) :]) == {"1.000"}, number
    assert "| DiffC-F (flow), beta2 0.75, unet | 0.10 to 2.00 | - | - | 0% (not at" in text


def test_margins_name_the_run(tmp_path):
    points = inputs.collect_rate_points(two_networks(tmp_path))
    assert message(lambda: bd_rate.select_curve(points, "diffc/flow")) == (
        "'diffc/flow' fits 2 methods of the inputs; choose one of diffc/unet/flow/run0,"
        " diffc/unet/flow/run1"
    )
    first, second = (bd_rate.select_curve(points, f"diffc/flow/run{number}") for number in range(2))
    np.testing.assert_allclose(second.y - first.y, 3.0)


def test_margins_of_a_run_that_is_called_as_its_model(tmp_path):
    runs = two_networks(tmp_path)
    points = inputs.collect_rate_points([runs[0].rename(tmp_path / "unet"), runs[1]])
    assert bd_rate.select_curve(points, "diffc/unet/flow/unet").name == "diffc/unet/flow/unet"


@pytest.fixture
def tables_only(monkeypatch):
    """Figures are drawn, but only the tables behind them are written, which is quick."""

    def save(figure, stem, rows):
        del figure
        path = stem.with_suffix(".csv")
        write_table(path, rows[0].keys(), rows)
        return [path]

    monkeypatch.setattr(figures, "save_figure", save)


@pytest.mark.usefixtures("tables_only")
def test_figures_and_report_keep_runs_apart(tmp_path):
    paths = [tmp_path / "first", tmp_path / "second"]
    for number, path in enumerate(paths):
        original = write_sweep(path, psnr_mean=20.0 + number)
        write_json(path / "config.json", changed(beta2=0.5 + number / 4))
        rows = [
            {"step": step, "gamma": 2.0 - step, "bpp_kl": float(step), "bpp": step + 0.5}
            | {"step_bits": 256.0 * (step > 0)}
            for step in range(3)
        ]
        write_table(path / "eval" / "rate_curve.csv", rows[0].keys(), rows)
    write_codecs(tmp_path / "codecs", original)
    written = figures.make_figures([*paths, tmp_path / "codecs"], tmp_path / "out")
    stems = {path.stem for path in written}
    assert stems >= {
        f"{name}_unet{end}" for name in ("rate_bounds", "strips") for end in ("", "_2")
    }

    def column(table, name):
        with (tmp_path / "out" / f"{table}.csv").open(newline="") as stream:
            return [row[name] for row in csv.DictReader(stream)]

    assert set(column("coding_cost", "run")) == {"unet, beta2 0.5", "unet, beta2 0.75"}
    assert column("rate_psnr_log", "run").count("first") == column("rate_psnr_log", "run").count(
        "second"
    )
    assert column("rate_psnr_log", "run").count("") == len(codec_points())
    assert set(column("rate_psnr_log", "settings")) == {"beta2 0.5", "beta2 0.75", ""}

    # The table behind a figure keeps them apart too.
    again = style.series_of(inputs.collect_rate_points([tmp_path / "out" / "rate_psnr_log.csv"]))
    assert [line.label for line in again][:2] == ["DiffC-F (flow), first", "DiffC-F (flow), second"]

    page = Page(make_report([*paths, tmp_path / "codecs"], tmp_path / "report.html"))
    (shown_images,) = page.data["reconstructions"]
    shown = {(one["model"], one["label"]): one["color"] for one in shown_images["series"]}
    for beta2 in ("beta2 0.5", "beta2 0.75"):
        assert (f"unet, {beta2}", f"DiffC-F (flow), {beta2}") in shown
        assert f"DiffC-F (flow), {beta2}" in {line["label"] for line in page.data["series"]}
    assert "#888888" not in shown.values()


@pytest.mark.usefixtures("tables_only")
def test_other_pixels_under_one_name_are_refused(tmp_path):
    paths = []
    for name in "ab":
        paths.append(write_run(tmp_path / name, make_points(method="avif", model=name)))
        images = ImageSet("photos", "test", 12, digest=name)
        write_json(paths[-1] / "eval" / "images.json", dataclasses.asdict(images))
    paths.append(write_run(tmp_path / "older", make_points(method="webp")))
    inputs.check_same_pixels([paths[0], paths[2], paths[0] / "eval" / "rd.csv"])
    for compare in (
        lambda: figures.make_figures(paths, tmp_path / "out"),
        lambda: make_report(paths, tmp_path / "report.html"),
        lambda: write_claims(paths, tmp_path / "theory", tmp_path / "claims.md"),
    ):
        assert message(compare, UsageError) == (
            f"inputs: {paths[0]} and {paths[1]} have results of different images, though both are called"
            " photos test, 12 images; evaluate all methods on the same images, or set allow_mixed_data"
        )
    figures.make_figures(paths, tmp_path / "out", allow_mixed_data=True)


def test_all_rows_have_the_columns_of_runs_if_one_has():
    plain = make_points(method="avif")
    of_a_run = [style.RunPoint(**dataclasses.asdict(point), run="a") for point in make_points()]
    for points in ([*plain, *of_a_run], [*of_a_run, *plain]):
        rows = inputs.point_rows(points)
        assert {(*row,)[-2:] for row in rows} == {("run", "settings")}
        assert {tuple(row) for row in rows} == {tuple(rows[0])}
        assert [row["run"] for row in rows if row["method"] == "avif"] == [None] * len(plain)
    assert "run" not in inputs.point_rows(plain)[0]


def test_no_two_figures_have_one_name():
    names = ["unet", "unet", "unet_2", "a/b", "a_b"]
    assert figures._distinct(names) == ["unet", "unet_2", "unet_2_2", "a_b", "a_b_2"]
