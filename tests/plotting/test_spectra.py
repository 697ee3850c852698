"""The figure of power spectra: from the table of an evaluation to lines, panels and rows."""

import dataclasses

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.evaluation.result_files import BASELINE_SPECTRA, SPECTRA
from diffc_jax.evaluation.results import write_rate_points, write_table
from diffc_jax.evaluation.spectra import FIELDS
from diffc_jax.plotting import spectra
from diffc_jax.plotting.figures import make_figures
from tests.support.rate_points import make_points
from tests.support.run_files import table

FREQUENCIES = np.arange(5) / 8


def write_spectra(path, points, factor):
    """Reconstructions with `factor` times the power of the originals, and an error of half of it."""
    rows = [
        {
            **{name: getattr(point, name) for name in FIELDS[:5]},
            "frequency": frequency,
            "power": factor * (10.0 - frequency),
            "original_power": 10.0 - frequency,
            "error_power": 0.5 * (10.0 - frequency),
            "n_images": point.n_images,
        }
        for point in points
        for frequency in FREQUENCIES
    ]
    write_table(path, FIELDS, rows)


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "eval").mkdir()
    flow, jpeg = make_points(), make_points(method="jpeg", model="4:2:0")
    write_rate_points(tmp_path / "eval" / "rd.csv", [*flow, *jpeg])
    write_spectra(tmp_path / "eval" / SPECTRA, flow, 0.8)
    write_spectra(tmp_path / "eval" / BASELINE_SPECTRA, jpeg, 0.3)
    return tmp_path


def test_ratios_of_every_rate_point(workdir):
    found = spectra.load_spectra(workdir / "eval" / SPECTRA)
    assert set(found) == {spectra.key_of(point) for point in make_points()}
    for frequency, power, error in found.values():
        np.testing.assert_allclose(frequency, FREQUENCIES)
        np.testing.assert_allclose(power, 0.8)
        np.testing.assert_allclose(error, 0.5)


def test_panels_show_the_points_near_their_rates(workdir):
    points = [*make_points(), *make_points(method="jpeg", model="4:2:0")]
    found = spectra.load_spectra(workdir / "eval" / SPECTRA)
    found |= spectra.load_spectra(workdir / "eval" / BASELINE_SPECTRA)
    by_point = {point: found[spectra.key_of(point)] for point in points}
    moved = {
        dataclasses.replace(point, bpp=bpp): spectrum
        for (point, spectrum), bpp in zip(
            by_point.items(), np.geomspace(0.25, 0.35, len(by_point)).tolist(), strict=True
        )
    }
    figure = spectra.plot_spectra([*moved], moved)
    above, below = figure.axes[:4], figure.axes[4:]
    # The line of the whole is in every panel; the error has one more.
    assert [len(axes.lines) for axes in above] == [1, 3, 1, 1]
    assert [len(axes.lines) for axes in below] == [2, 4, 2, 2]
    assert [axes.get_title(loc="left") for axes in above] == [
        "0.1 bpp",
        "0.3 bpp",
        "1 bpp",
        "2 bpp",
    ]
    for line, factor in zip(above[1].lines[:2], (0.8, 0.3), strict=True):
        np.testing.assert_allclose(line.get_xdata(), FREQUENCIES[1:])
        np.testing.assert_allclose(line.get_ydata(), factor)


def test_figure_and_its_table(workdir, tmp_path):
    written = {
        path.name for path in make_figures([workdir], tmp_path / "figures", measures=["psnr"])
    }
    assert {f"spectra.{kind}" for kind in ("png", "pdf", "csv")} <= written
    rows = table(tmp_path / "figures" / "spectra.csv")
    assert len(rows) == 2 * len(make_points()) * len(FREQUENCIES)
    ratios = [float(row["power_ratio"]) for row in rows if row["method"] == "jpeg"]
    np.testing.assert_allclose(ratios, 0.3)


def test_broken_tables_are_refused(workdir):
    path = workdir / "eval" / SPECTRA
    path.write_text(path.read_text().replace(",power,", ",strength,"))
    with pytest.raises(InputError) as error:
        spectra.load_spectra(path)
    assert str(error.value) == f"{path}: has no column 'power'"


def test_near_rates_are_those_within_a_factor():
    points = [dataclasses.replace(make_points()[0], bpp=bpp) for bpp in (0.07, 0.135, 0.17)]
    known = dict.fromkeys(points, (FREQUENCIES,) * 3)
    assert spectra._nearest(points, 0.1, known) == points[1]
    assert spectra._nearest(points[2:], 0.1, known) is None
