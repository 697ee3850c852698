"""The report driven in a browser, where one is installed."""

import pathlib

import numpy as np
import pytest

from diffc_jax.evaluation import results
from diffc_jax.plotting.html_report import make_report
from tests.support.browser import drive
from tests.support.report_runs import SIZE, codec_points, sweep_points, write_runs

_DRIVER = pathlib.Path(__file__).with_name("html_report_driver.js")


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path)


@pytest.mark.parametrize("width", [360, 1280])
def test_works_in_a_browser(runs, tmp_path, width):
    path = make_report(runs, tmp_path / "r.html")
    seen = drive(path, _DRIVER, tmp_path, width)
    assert seen["errors"] == []
    assert seen["resources"] == []
    assert (seen["width"], seen["overflow"]) == (width, 0)

    assert seen["marks"] == 16
    codec = "JPEG 4:2:0 | Codecs (file bytes) | rate | 0.33333 bpp | file bytes | headerless"
    assert seen["hovered"] == f"{codec} | 0.25 bpp | PSNR | 25 dB | images | 12"
    assert seen["left"] == seen["escaped"] == ""
    assert seen["walked"] == (
        "DiffC-F (flow) | DiffC, unet (upper bound) | rate | 0.13333 ± 0.01 bpp | upper bound | "
        "ideal rate C | 0.12 bpp | PSNR | 25.1 dB | images | 12 | evaluations | 25 per image"
    )
    assert seen["jumped"].startswith("DiffC-A (ancestral) | ")
    assert seen["last"].startswith("WebP | Codecs (file bytes) | rate | 2 bpp")
    assert "PSNR | ∞ (lossless)" in seen["last"]
    assert seen["toggled"] == [13, "false"]
    assert {"0", "1", "2", "rate (bits per pixel)"} <= set(seen["linear"])
    axis = "Fréchet distance, EfficientNet-Lite0 features (lower is better), 12 images"
    assert seen["fid"] == [12, f"Rate in bits per pixel against {axis}", 2]
    assert seen["caption"] == (
        "Bars: standard error over the images. Triangles on the bottom edge: distance 0 or less."
    )
    assert seen["ideal"] == 4

    with np.load(runs[0] / "eval" / "reconstructions.npz") as sweep:
        original, flow = (
            a[0, ..., 5, 3, :].astype(int) for a in (sweep["original"], sweep["flow"])
        )
        right = sweep["original"][0, 5, 12].tolist()
    rates = [100 / SIZE**2, 1600 / SIZE**2]
    assert seen["lowest"][1] == ["DiffC-F (flow)", f"{rates[0]:.3f} bpp", "20.50 dB", "upper bound"]
    assert seen["highest"][1] == [
        "DiffC-F (flow)",
        f"{rates[1]:.2f} bpp",
        "22.50 dB",
        "upper bound",
    ]
    assert seen["highest"][5] == ["JPEG 4:2:0", "3.50 bpp", "exact", "file, 1/1.8 of the rate"]
    assert seen["pixel"] == [[*original.tolist(), 255], [*flow[2].tolist(), 255]]
    difference = np.clip(128 + 4 * (flow[2] - original), 0, 255)
    assert seen["difference"] == [*difference.tolist(), 255]
    assert seen["wipe"] == [[*flow[2].tolist(), 255], [*right, 255], False]
    assert seen["image"] == [
        ["false", "true"],
        ["WebP", "4.00 bpp", "44.00 dB", "file, 1/1.6 of the rate"],
    ]
    assert seen["jumpedTo"] == "0.402 bpp"
    assert seen["entered"] == "2.00 bpp"

    values = [float(value) for value in seen["ascending"]]
    assert values == sorted(values)
    assert [float(value) for value in seen["descending"]] == sorted(values, reverse=True)
    (tmp_path / "downloaded.csv").write_text(seen["csv"])
    assert results.read_rate_points(tmp_path / "downloaded.csv") == [
        *(*sweep_points(), *codec_points()),
    ]
