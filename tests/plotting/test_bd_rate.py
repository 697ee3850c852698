"""Bjøntegaard deltas of straight lines have closed forms, and the command prints them."""

import numpy as np
import pytest

from benchmarks import bd_rate as command
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.results import RatePoint, write_rate_points
from diffc_jax.plotting.bd_rate import Curve, bjontegaard_delta, rate_curve
from tests.support.processes import run_program

DIFFC = {"method": "diffc", "model": "unet", "rate_kind": "bound"}


def points(log_bpp, psnr, **fields):
    """Rate points of a codec, whose files have a container of 0.25 bpp."""
    fields = {"method": "avif", "rate_kind": "file", "n_images": 9, "dataset": "photos"} | fields
    header = 0.25 if fields["rate_kind"] == "file" else None
    return [
        RatePoint(
            **fields,
            bpp=float(np.exp(x)),
            bpp_headerless=header and float(np.exp(x)) - header,
            psnr=y,
        )
        for x, y in zip(log_bpp, psnr, strict=True)
    ]


# PSNR = 28 + 8 u and 30 + 5 u with u = ln bpp: both straight, at rates of their own.
STEEP = np.array([-1.0, -0.25, 0.5, 2.0])
FLAT = np.array([-2.0, 0.25, 1.5])
LINES = [
    *points(STEEP, 28 + 8 * STEEP),
    *points(FLAT, 30 + 5 * FLAT, **DIFFC, decoder="flow"),
    *points(FLAT, 27 + 5 * FLAT, **DIFFC, decoder="ancestral"),
]


def curves(first="avif", second="diffc/flow", **options):
    return [command.select_curve(LINES, name, **options) for name in (first, second)]


def test_deltas_of_straight_lines():
    rate = bjontegaard_delta(*curves())
    np.testing.assert_allclose(rate.at, [-1.0, -0.25, 0.25, 0.5, 1.5])
    np.testing.assert_allclose(rate.difference, 3 * rate.at - 2)
    assert rate.mean == pytest.approx(3 * 0.25 - 2)
    np.testing.assert_allclose(rate.ranges_above(), [(2 / 3, 1.5)])

    psnr = bjontegaard_delta(*(line.inverse for line in curves()))
    assert (psnr.at[0], psnr.at[-1]) == (20.0, 37.5)
    expected = (psnr.at - 28) / 8 - (psnr.at - 30) / 5
    np.testing.assert_allclose(psnr.difference, expected, atol=1e-12)
    assert psnr.mean == pytest.approx((expected[0] + expected[-1]) / 2)


def test_curves_that_only_touch_have_no_range_in_common():
    first, second = (
        Curve(name, np.array([at, at + 1.0]), np.array([20.0, 30.0]))
        for name, at in (("a", 0.0), ("b", 1.0))
    )
    with pytest.raises(InputError, match=r"^a and b have no range in common$"):
        bjontegaard_delta(first, second)


def test_extremes_and_signs_are_those_between_the_points_too():
    generator = np.random.default_rng(0)
    first, second = (
        Curve(name, *np.sort(generator.uniform(0, 5, (2, 12)), axis=1)) for name in "ab"
    )
    delta = bjontegaard_delta(first, second)
    dense = np.linspace(delta.at[0], delta.at[-1], 100_001)
    difference = np.interp(dense, first.x, first.y) - np.interp(dense, second.x, second.y)
    assert delta.difference.min() == pytest.approx(difference.min(), abs=1e-3)
    assert delta.difference.max() == pytest.approx(difference.max(), abs=1e-3)
    assert delta.mean == pytest.approx(difference.mean(), abs=1e-3)
    ranges = delta.ranges_above()
    assert len(ranges) > 1
    inside = np.any([(low < dense) & (dense < high) for low, high in ranges], axis=0)
    assert np.mean(inside != (difference > 0)) < 1e-3


def test_rates_without_headers_are_those_of_files_only():
    codec, diffc = curves(headerless=True)
    np.testing.assert_allclose(np.exp(codec.x), np.exp(STEEP) - 0.25)
    np.testing.assert_allclose(diffc.x, FLAT)
    np.testing.assert_allclose(codec.y, 28 + 8 * STEEP)


def test_points_without_a_rate_or_a_value_are_left_out():
    log_bpp, psnr = np.log([0.25, 0.5, 1.0, 2.0, 4.0]), [20.0, 25.0, np.inf, np.nan, 40.0]
    found = rate_curve("avif", points(log_bpp, psnr), "psnr", headerless=True)
    # The first file is its container.
    np.testing.assert_allclose(np.exp(found.x), [0.25, 3.75])
    np.testing.assert_allclose(found.y, [25.0, 40.0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hevc",
            "'hevc' fits 0 methods of the inputs; choose one of avif, diffc/unet/ancestral, "
            "diffc/unet/flow",
        ),
        (
            "diffc/unet",
            "'diffc/unet' fits 2 methods of the inputs; choose one of diffc/unet/flow, "
            "diffc/unet/ancestral",
        ),
    ],
)
def test_name_has_to_fit_one_method(name, message):
    with pytest.raises(UsageError) as error:
        command.select_curve(LINES, name)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("psnr", "message"),
    [
        (
            [20.0, 30.0, 29.5],
            "avif: 30.000 dB at 2 bpp, but 29.500 dB at 4 bpp; only curves that rise are compared",
        ),
        ([20.0, None, np.inf], "avif: fewer than two points with a rate and a PSNR"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(psnr, message):
    with pytest.raises(InputError) as error:
        command.select_curve(points(np.log([1, 2, 4]), psnr), "avif")
    assert str(error.value) == message


def test_ranges_that_do_not_meet_are_refused():
    codec, diffc = curves()
    with pytest.raises(InputError) as error:
        bjontegaard_delta(codec._replace(x=codec.x + 9), diffc)
    assert str(error.value) == "avif and diffc/unet/flow have no range in common"


def run(*flags):
    return run_program("benchmarks/bd_rate.py", *flags)


def test_command_prints_both_tables(tmp_path):
    write_rate_points(tmp_path / "rd.csv", LINES)
    flags = (f"--inputs={tmp_path / 'rd.csv'}", "--first=avif", "--second=diffc/flow")
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "photos, 9 images; whole files; PSNR linear in log bpp",
        "",
        "at equal rate: avif less diffc/unet/flow",
        "    0.3679 bpp   20.000 dB   25.000 dB   -5.000 dB",
        "    0.7788 bpp   26.000 dB   28.750 dB   -2.750 dB",
        "    1.2840 bpp   30.000 dB   31.250 dB   -1.250 dB",
        "    1.6487 bpp   32.000 dB   32.500 dB   -0.500 dB",
        "    4.4817 bpp   40.000 dB   37.500 dB   +2.500 dB",
        "-5.00 to +2.50 dB, mean -1.25 dB; above at 1.95 to 4.48 of 0.368 to 4.48 bpp",
        "",
        "at equal PSNR: rate of avif against diffc/unet/flow",
        "    20.000 dB   0.3679 bpp   0.1353 bpp   +171.8%",
        "    26.000 dB   0.7788 bpp   0.4493 bpp    +73.3%",
        "    31.250 dB   1.5012 bpp   1.2840 bpp    +16.9%",
        "    32.000 dB   1.6487 bpp   1.4918 bpp    +10.5%",
        "    37.500 dB   3.2789 bpp   4.4817 bpp    -26.8%",
        "-26.8% to +171.8%, mean +41.0%, of 20.0 to 37.5 dB",
    ]
    write_rate_points(tmp_path / "rd.csv", [*LINES, *points([0.0], [1.0], n_images=8)])
    refused = run(*flags)
    assert refused.returncode == 2
    assert "rates and PSNRs of different images do not compare" in refused.stderr
