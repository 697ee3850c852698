"""The table of claims: straight lines have differences in closed form."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest

from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.results import RatePoint, write_rate_points, write_table
from diffc_jax.plotting.claims import write_claims
from tests.support.report_runs import sweep_points

LOG_BPP = np.log([0.05, 0.2, 0.8, 3.0])
CURVES = {"diffc_a": 10.0, "diffc_f": 12.5, "diffc_f_star": 12.75, "diffc_a_star": 11.0, "rd": 13.0}


def points(psnr, log_fid, bpp=1.0, header=None, **fields):
    """Straight lines at LOG_BPP, whose rates are multiplied by `bpp`."""
    rates = bpp * np.exp(LOG_BPP)
    return [
        RatePoint(
            rate_kind="file" if fields["method"] != "diffc" else "bound",
            bpp=rate,
            bpp_headerless=header and rate - header,
            psnr=psnr + 5 * u,
            mse=65025 / 10 ** ((psnr + 5 * u) / 10),
            fid=float(np.exp(log_fid(u))),
            fid_features="efficientnet_lite0",
            gamma=-4 * u if fields["method"] == "diffc" else None,
            n_images=9,
            dataset="photos",
            **fields,
        )
        for u, rate in zip(LOG_BPP.tolist(), rates.tolist(), strict=True)
    ]


def write(folder, rows, theory=True):
    write_rate_points(folder / "eval" / "rd.csv", rows)
    table = [
        # As in real tables, the last digits of the rates differ between curves.
        {
            "curve": curve,
            "bits_per_pixel": bpp * (1 + 1e-12 * snr),
            "snr_db": snr + gain * (curve != "diffc_a"),
        }
        for curve, snr in CURVES.items()
        for bpp, gain in ((0.01, 0.0), (1.0, 0.25), (5.0, 0.5))
    ]
    if theory:
        curves = folder / "theory" / "gaussian" / "curves.csv"
        write_table(curves, ("curve", "bits_per_pixel", "snr_db"), table)
    write_claims([folder], folder / "theory", folder / "claims.md")
    return (folder / "claims.md").read_text()


DIFFC = {"method": "diffc", "model": "unet", "checkpoint": "step 1"}
ROWS = [
    *points(30, lambda u: 4 - u, decoder="flow", **DIFFC),
    *points(30 - 10 * np.log10(2), lambda u: 4.5 - u, decoder="ancestral", **DIFFC),
    # Equal distance at u = ln 0.4, where the lines cross.
    *points(28, lambda u: 4 - 1.5 * u + 0.5 * np.log(0.4), method="webp", header=0.04),
    *points(30, lambda u: 4 - u, 1.25, **DIFFC | {"method": "diffc_codec"}, decoder="flow"),
]


def cells(text, heading, name):
    """The cells behind the name in the first table below the heading."""
    (row, *_) = [
        line for line in text[text.index(heading) :].splitlines() if line.startswith(f"| {name} |")
    ]
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_differences_of_straight_lines(tmp_path):
    text = write(tmp_path, ROWS)
    assert text.startswith("# Claims in numbers: photos, 9 images\n")
    against = "## DiffC-F (flow), unet against others"
    # u of WebP's points is that of DiffC's: it loses 2 dB, and wins the distance above 0.4 bpp.
    share = np.log(0.4 / 0.1) / np.log(2 / 0.1)
    assert cells(text, against, "WebP") == [
        "0.10 to 2.00",
        f"{share:.0%} (not at 0.40 to 2.00 bpp)",
        f"{np.exp(-0.5 * np.log(2 / 0.4)):.2f} to {np.exp(-0.5 * np.log(0.1 / 0.4)):.2f}",
        "100%",
        "+2.00 to +2.00",
    ]
    ancestral = cells(text, against, "DiffC-A (ancestral), unet")
    assert ancestral[1:] == ["100%", "1.65 to 1.65", "100%", "+3.01 to +3.01"]


def test_measures_that_are_known_at_other_rates_have_their_own_range(tmp_path):
    webp = points(28, lambda u: 4 - 1.5 * u, method="webp")
    webp[-1] = dataclasses.replace(webp[-1], fid=None, fid_features=None)
    text = write(tmp_path, [*ROWS[: len(LOG_BPP)], *webp])
    compared = cells(text, "## DiffC-F (flow), unet against others", "WebP")[0]
    assert compared == "0.10 to 0.80, PSNR 0.10 to 2.00"


def test_headers_are_left_out_in_a_table_of_their_own(tmp_path):
    text = write(tmp_path, ROWS)
    bare = text[text.index("Files without ") :]
    # From 0.2 - 0.04 bpp on the line is above that of whole files.
    assert cells(bare, "Files without", "WebP")[0] == "0.10 to 2.00"
    low, high = map(float, cells(bare, "Files without", "WebP")[4].split(" to "))
    assert low < high < 2.0


def test_flow_against_ancestral(tmp_path):
    text = write(tmp_path, ROWS)
    found = cells(text, "## DiffC-F and DiffC-A with the denoiser unet", f"{-4 * LOG_BPP[1]:.2f}")
    assert found == ["0.200", "18.94", "21.95", "+3.01", "0.500"]
    some = [r for r in ROWS if r.decoder != "ancestral" or r.bpp < 0.1]
    text = write(tmp_path, some)
    table = text[text.index("## DiffC-F and DiffC-A") :].split("\n## ")[0]
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 2


def test_files_take_a_quarter_more(tmp_path):
    text = write(tmp_path, ROWS)
    table = text[text.index("## Files against the bound") :].splitlines()
    ratios = [line.split("|")[5].strip() for line in table if line.startswith("| DiffC-F files")]
    assert ratios == ["1.250"] * len(LOG_BPP)


def test_files_have_no_ratio_beyond_the_bound(tmp_path):
    rows = [
        dataclasses.replace(r, psnr=60.0) if r.method == "diffc_codec" and r.bpp > 2 else r
        for r in ROWS
    ]
    text = write(tmp_path, rows)
    table = text[text.index("## Files against the bound") :].splitlines()
    assert len([line for line in table if line.startswith("| DiffC-F files")]) == len(LOG_BPP) - 1


def test_files_have_no_ratio_to_a_bound_whose_psnr_does_not_rise(tmp_path):
    """A rate at a PSNR is not unique there."""
    (worse,) = (r for r in ROWS if (r.method, r.decoder) == ("diffc", "flow") and r.bpp > 1)
    rows = [dataclasses.replace(r, psnr=25.0) if r is worse else r for r in ROWS]
    assert "## Files against the bound" not in write(tmp_path, rows)


def test_gains_of_the_gaussian(tmp_path):
    text = write(tmp_path, ROWS)
    found = cells(text, "## A Gaussian", "F over A, isotropic noise")
    assert found == ["+2.500 to +3.000", "+2.750 to +2.750"]
    assert (
        cells(text, "## A Gaussian", "best noise over isotropic noise, F")[0] == "+0.250 to +0.250"
    )
    assert cells(text, "## A Gaussian", "R(D) over F")[0] == "+0.500 to +0.500"


def test_what_is_not_there_is_not_compared(tmp_path):
    bare = [
        *points(30, lambda u: 4 - u, decoder="flow", **DIFFC),
        *points(28, lambda u: 4 - u, 100.0, method="webp"),
    ]
    text = write(tmp_path, bare)
    assert cells(text, "## DiffC-F (flow), unet", "WebP") == ["-"] * 5
    assert "DiffC-A" not in text
    assert "## Files" not in text


def test_each_denoiser_has_one_table_and_gaussian_baselines_are_only_compared_with(tmp_path):
    baseline = DIFFC | {"model": "gaussian"}
    more = [
        *points(25, lambda u: 5 - u, decoder="flow", **baseline),
        *points(25, lambda u: 5 - u, 1.25, decoder="flow", **baseline | {"method": "diffc_codec"}),
        *points(22, lambda u: 5 - u, decoder="ancestral", **baseline),
    ]
    text = write(tmp_path, ROWS + more)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.split(" at equal")[0] for heading in headings] == [
        "## DiffC-F (flow), unet against others",
        "## DiffC-F files, unet against others",
        "## DiffC-F and DiffC-A with the denoiser unet",
        "## DiffC-F and DiffC-A with the denoiser gaussian",
        "## Files against the bound",
        "## A Gaussian fitted to patches of the training images: closed forms",
    ]
    against = "## DiffC-F (flow), unet against others"
    assert cells(text, against, "DiffC-F (flow), gaussian")[-1] == "+5.00 to +5.00"


def test_different_images_are_refused(tmp_path):
    other = [RatePoint(method="webp", rate_kind="file", bpp=1.0, n_images=3, dataset="other")]
    with pytest.raises(UsageError, match="different images"):
        write(tmp_path, ROWS + other)
    assert not (tmp_path / "claims.md").exists()


def test_missing_analysis_is_named(tmp_path):
    with pytest.raises(InputError, match=r"curves\.csv: cannot be read"):
        write(tmp_path, ROWS, theory=False)
    assert not (tmp_path / "claims.md").exists()


def test_missing_curve_is_named(tmp_path):
    write(tmp_path, ROWS)
    curves = tmp_path / "theory" / "gaussian" / "curves.csv"
    rows = [line for line in curves.read_text().splitlines() if not line.startswith("rd,")]
    curves.write_text("\n".join(rows) + "\n")
    with pytest.raises(
        InputError, match=r"curves\.csv: has no curve 'rd'; run experiments/gaussian"
    ):
        write_claims([tmp_path], tmp_path / "theory", tmp_path / "claims.md")


def test_realism_against_the_posterior_mean(tmp_path):
    flow = [
        dataclasses.replace(
            point,
            fid_minus_mean=-1.0,
            fid_minus_mean_stderr=0.5,
            kid_minus_mean=0.25,
            auc=0.75,
            auc_stderr=0.01,
            lpips=0.125,
        )
        for point in points(30, lambda u: 4 - u, decoder="flow", **DIFFC)
    ]
    mean = [
        dataclasses.replace(point, auc=0.5)
        for point in points(29, lambda u: 4 - u, decoder="mean", **DIFFC)
    ]
    text = write(tmp_path, [*flow, *mean[1:]])
    heading = "## Realism of DiffC-F (flow), unet against the posterior mean"
    assert cells(text, heading, "0.200") == [
        *(f"{30 + 5 * LOG_BPP[1]:.2f}, {29 + 5 * LOG_BPP[1]:.2f}", "273.0, 273.0"),
        *("-1.00 ± 0.98", "0.25", "0.750", "0.500", "0.1250, -"),
    ]
    # The mean has no point at the first level.
    table = text[text.index(heading) :].split("\n## ")[0]
    assert "| 0.050 |" not in table
    assert "Realism" not in write(tmp_path, ROWS)


def test_areas_under_the_curve_are_compared_at_equal_rates(tmp_path):
    flow = [
        dataclasses.replace(point, auc=0.75 + 0.05 * u)
        for u, point in zip(
            LOG_BPP, points(30, lambda u: 4 - u, decoder="flow", **DIFFC), strict=True
        )
    ]
    webp = [
        dataclasses.replace(point, auc=1.0) for point in points(28, lambda u: 4 - u, method="webp")
    ]
    text = write(tmp_path, [*flow, *webp[2:]])
    heading = "## Told from photographs by a classifier"
    assert cells(text, heading, "DiffC-F (flow), unet") == [
        f"{0.75 + 0.05 * np.log(bpp):.2f}" for bpp in (0.1, 0.3, 1.0)
    ]
    assert cells(text, heading, "WebP") == ["-", "-", "1.00"]
    assert heading not in write(tmp_path, ROWS)


def test_everything_at_the_rates_of_trained_codecs(tmp_path):
    """Other methods lie on straight lines, and those without points around the rate are left out."""
    hific = [
        dataclasses.replace(point, bpp=bpp, lpips=0.25)
        for point, bpp in zip(
            points(20, lambda u: 5 - u, method="hific"), (0.4, 1.6, 4.0, 5.0), strict=True
        )
    ]
    flow = points(30, lambda u: 4 - u, decoder="flow", **DIFFC)
    text = write(tmp_path, [*flow, *points(28, lambda u: 4 - u, method="webp")[2:], *hific])
    name = "HiFiC, ours"
    heading = f"## At the rate of {name}, 0.400 bpp"
    u = np.log(0.4)
    assert cells(text, heading, "DiffC-F (flow), unet") == [
        *(f"{30 + 5 * u:.2f}", "-", f"{np.exp(4 - u):.1f}"),
    ]
    assert cells(text, heading, name) == [
        *(f"{20 + 5 * LOG_BPP[0]:.2f}", "0.2500", f"{np.exp(5 - LOG_BPP[0]):.1f}"),
    ]
    table, *later = text[text.index(heading) :].split("\n## ")
    assert "WebP" not in table
    assert "WebP" in later[0]
    assert later[0].startswith(f"At the rate of {name}, 1.600 bpp\n")
    # No other method has points there.
    assert later[1].count("| ") == later[2].count("| ") == 8
    assert "At the rate" not in write(tmp_path, ROWS)


def test_decoders_that_are_both_exact_are_not_compared(tmp_path):
    write_rate_points(tmp_path / "w" / "eval" / "rd.csv", sweep_points(psnr=math.inf))
    theory = pathlib.Path(__file__).parents[2] / "docs" / "results" / "v0.2" / "theory"
    write_claims([tmp_path / "w"], theory, tmp_path / "claims.md")
    text = (tmp_path / "claims.md").read_text()
    assert "| 2.00 | 0.033 | inf | inf | - | - |" in text
    assert "nan" not in text
