"""Figures of the ideal and the achievable rate, and of the cost of coding, of every run."""

import csv
import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from diffc_jax.channel_simulation.rate_bound import rate_bound
from diffc_jax.errors import InputError
from diffc_jax.evaluation import results
from diffc_jax.plotting import figures, rates

FIELDS = ("step", "gamma", "bpp_kl", "bpp_kl_stderr", "bpp", "step_bits")
PIXELS = 64
GAMMAS = np.array([5.0, 4.0, 2.0, -1.0, -6.0])
STEP_BITS = np.array([2.0, 6.0, 20.0, 90.0, 250.0])


def _rows(gammas=GAMMAS, step_bits=STEP_BITS) -> list[dict]:
    bits = np.cumsum(step_bits)
    columns = (
        *(range(len(gammas)), gammas, bits / PIXELS, [""] * len(gammas)),
        *(rate_bound(bits) / PIXELS, step_bits),
    )
    return [dict(zip(FIELDS, row, strict=True)) for row in zip(*columns, strict=True)]


def _write(workdir, rows=None, model="unet"):
    path = workdir / "eval" / "rate_curve.csv"
    results.write_table(path, FIELDS, _rows() if rows is None else rows)
    point = results.RatePoint(
        method="diffc",
        model=model,
        decoder="flow",
        rate_kind="bound",
        bpp=1.0,
        psnr=30.0,
        n_images=6,
        dataset="photos",
        split="eval",
    )
    results.write_rate_points(workdir / "eval" / "rd.csv", [point])
    return path


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.findobj(Text) if text.get_text()]


def _caption(figure: Figure) -> str:
    text = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def curve(tmp_path):
    return rates.load_rate_curve(_write(tmp_path), "unet")


def test_bounds_are_those_of_whole_chunks_and_steps(curve):
    assert curve.n_pixels == PIXELS
    # 28 bits after the third level: 7 chunks of 4, or 16 + 12, or one message.
    assert PIXELS * curve.chunked_bpp(4)[2] == pytest.approx(7 * (4 + np.log2(5) + 5))
    assert PIXELS * curve.chunked_bpp(16)[2] == pytest.approx(
        16 + np.log2(17) + 5 + 12 + np.log2(13) + 5
    )
    assert curve.chunked_bpp(64)[2] == pytest.approx(curve.bpp[2])
    # The levels are one step apart; with more steps between them there are more messages.
    assert PIXELS * curve.stepwise_bpp()[2] == pytest.approx(
        2 + np.log2(3) + 6 + np.log2(7) + 20 + np.log2(21) + 15
    )
    coarse = dataclasses.replace(curve, steps=2 * curve.steps)
    assert PIXELS * coarse.stepwise_bpp()[2] == pytest.approx(
        2 + np.log2(3) + 6 + 2 * np.log2(4) + 20 + 2 * np.log2(11) + 25
    )


def test_number_of_pixels_does_not_depend_on_the_last_digit(tmp_path):
    for factor in (1 - 1e-12, 1 + 1e-12):
        rows = [row | {"bpp_kl": factor * row["bpp_kl"]} for row in _rows()]
        assert rates.load_rate_curve(_write(tmp_path, rows), "unet").n_pixels == PIXELS


def test_area_below_the_coding_cost_is_the_rate(curve):
    area = np.sum(curve.density() * -np.diff(GAMMAS))
    assert area == pytest.approx(curve.bpp_kl[-1] - curve.bpp_kl[0])
    # Twice the steps, the same chain: the same density.
    middles = (GAMMAS[1:] + GAMMAS[:-1]) / 2
    finer = rates.RateCurve(
        name="finer",
        steps=np.arange(9),
        gammas=np.sort(np.concatenate([GAMMAS, middles]))[::-1],
        bpp_kl=np.zeros(9),
        bpp=np.zeros(9),
        step_bits=np.concatenate([STEP_BITS[:1], np.repeat(STEP_BITS[1:] / 2, 2)]),
        n_pixels=PIXELS,
    )
    np.testing.assert_allclose(finer.density()[::2], curve.density())


def test_bounds_figure_draws_its_table(curve):
    figure = rates.plot_bounds(curve, "photos eval, 6 images")
    left, right = figure.axes
    table = rates.bounds_rows(curve)
    columns = ("bpp_steps", "bpp_chunks_4", "bpp_chunks_16", "bpp_chunks_64", "bpp", "bpp_kl")
    for line, ratio, column in zip(left.lines, right.lines, columns, strict=True):
        values = np.array([row[column] for row in table])
        np.testing.assert_allclose(line.get_xdata(), GAMMAS)
        np.testing.assert_allclose(line.get_ydata(), values)
        np.testing.assert_allclose(ratio.get_xdata(), curve.bpp_kl)
        np.testing.assert_allclose(ratio.get_ydata(), values / curve.bpp_kl)
    assert left.get_xlim() == (5.0, -6.0)
    assert _legend(figure) == [
        *("every step alone", "chunks of 4 bits alone", "chunks of 16 bits alone"),
        *("chunks of 64 bits alone", "one message (the rate\nin other figures)", "ideal rate C"),
    ]
    assert _caption(figure) == (
        "photos eval, 6 images. C: ideal rate of the model's chain of T = 4 steps, mean over the "
        "images. A message of k bits is bounded by k + log2(k + 1) + 5 bits."
    )


def test_a_chain_without_a_prior_cost_has_no_ratio_at_its_start(tmp_path):
    rows = _rows(step_bits=np.array([0.0, 6.0, 20.0, 90.0, 250.0]))
    figure = rates.plot_bounds(rates.load_rate_curve(_write(tmp_path, rows), "unet"), "photos")
    assert all(len(line.get_xdata()) == 4 for line in figure.axes[1].lines)


def test_coding_cost_has_one_line_for_each_run(curve):
    figure = rates.plot_coding_cost([curve, curve], "photos eval, 6 images")
    (axes,) = figure.axes
    for line in axes.lines:
        np.testing.assert_allclose(line.get_xdata(), [4.5, 3.0, 0.5, -3.5])
        np.testing.assert_allclose(line.get_ydata(), np.array([6, 10, 30, 50]) / PIXELS)
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    assert _legend(figure) == ["unet, T = 4"] * 2
    assert rates.coding_cost_rows([curve])[1] == {
        "run": "unet",
        "gamma_from": 4.0,
        "gamma_to": 2.0,
        "bpp_per_gamma": pytest.approx(10 / PIXELS),
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], ": has 0 rows; a chain has at least two noise levels"),
        (_rows(GAMMAS[::-1]), ": gamma does not fall from row to row"),
        (_rows(np.maximum(GAMMAS, 2.0)), ": gamma does not fall from row to row"),
        (
            [row | {"step": min(row["step"], 3)} for row in _rows()],
            ": step does not rise from 0 from row to row",
        ),
        (
            [row | {"step": row["step"] + 1} for row in _rows()],
            ": step does not rise from 0 from row to row",
        ),
        (_rows(step_bits=0 * STEP_BITS), ": the chain carries no information"),
        (_rows(step_bits=np.inf * STEP_BITS), ": holds a number that is not finite"),
        (
            [*_rows(), _rows()[0] | {"bpp": ""}],
            ", line 7: column 'bpp' is not a number: ''",
        ),
    ],
)
def test_broken_rate_curves_are_named(tmp_path, rows, message):
    path = _write(tmp_path, rows)
    with pytest.raises(InputError) as error:
        rates.load_rate_curve(path, "unet")
    assert str(error.value) == f"{path}{message}"


def test_missing_rate_curves_and_columns_are_named(tmp_path):
    path = tmp_path / "rate_curve.csv"
    with pytest.raises(InputError) as error:
        rates.load_rate_curve(path, "unet")
    assert str(error.value) == f"{path}: cannot be read (No such file or directory)"
    for text, message in (
        ("", "has no column 'step'"),
        ("step,gamma,bpp_kl,bpp\n0,1,1,1\n", "has no column 'step_bits'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            rates.load_rate_curve(path, "unet")
        assert str(error.value) == f"{path}: {message}"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a CSV file"):
        rates.load_rate_curve(path, "unet")


def test_make_figures_draws_the_rates_of_every_run(tmp_path):
    for name, model in (("a", "unet"), ("b", "unet"), ("c", "gaussian")):
        _write(tmp_path / name, model=model)
    inputs = [tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "a" / "eval" / "rd.csv"]
    written = figures.make_figures(inputs, tmp_path / "out")
    assert {path.stem for path in written if "psnr" not in path.stem} == {
        *("rate_bounds_unet", "rate_bounds_unet_2", "rate_bounds_gaussian", "coding_cost"),
    }
    with (tmp_path / "out" / "coding_cost.csv").open() as stream:
        runs = [row["run"] for row in csv.DictReader(stream)]
    assert list(dict.fromkeys(runs)) == ["unet", "unet_2", "gaussian"]
    with (tmp_path / "out" / "rate_bounds_unet.csv").open() as stream:
        assert next(csv.reader(stream)) == [
            *("gamma", "bpp_kl", "bpp", "bpp_chunks_4", "bpp_chunks_16", "bpp_chunks_64"),
            "bpp_steps",
        ]
