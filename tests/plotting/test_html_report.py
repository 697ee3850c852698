"""The report holds every rate point and every reconstruction, exactly."""

import base64
import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import results
from diffc_jax.plotting import html_report, report_tables, style
from diffc_jax.plotting.html_report import make_report
from diffc_jax.plotting.measures import MEASURES
from diffc_jax.plotting.picture_page import is_picture_page
from tests.support.report_runs import (
    GAMMAS,
    INDEX,
    SIZE,
    Page,
    codec_points,
    sweep_points,
    write_sweep,
)


def _read_number(value):
    return float(value) if isinstance(value, str) else value


def _image(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))))


def test_holds_every_rate_point_exactly(runs, tmp_path):
    path = make_report(runs, tmp_path / "out" / "report.html")
    assert path == tmp_path / "out" / "report.html"
    assert not is_picture_page(path)
    page = Page(path)
    numbers = {"psnr", "psnr_mean"}
    found = [
        results.RatePoint(**{k: _read_number(v) if k in numbers else v for k, v in point.items()})
        for point in page.data["points"]
    ]
    assert found == [*sweep_points(), *codec_points()]
    assert sorted(i for line in page.data["series"] for i in line["points"]) == list(
        range(len(found))
    )
    assert [measure["axis"] for measure in page.data["measures"]] == [
        "PSNR of the mean squared error (dB)",
        "mean PSNR of the images (dB)",
        "Fréchet distance, EfficientNet-Lite0 features (lower is better), 12 images",
    ]
    assert page.data["default_measure"] == 0
    values = [attributes["data-value"] for _, attributes in page.tags if "data-value" in attributes]
    assert {repr(point.bpp) for point in found} <= set(values)


def test_default_measure_and_what_may_be_one(runs, tmp_path):
    page = Page(make_report(runs, tmp_path / "r.html", measure_default="fid"))
    assert page.data["measures"][page.data["default_measure"]]["column"] == "fid"
    with pytest.raises(UsageError) as usage:
        make_report(runs, tmp_path / "x.html", measure_default="ssim")
    assert str(usage.value) == f"measure_default: 'ssim' is not one of {', '.join(MEASURES)}"
    with pytest.raises(InputError) as error:
        make_report(runs, tmp_path / "x.html", measure_default="lpips")
    assert str(error.value) == "nothing to draw: none of the 16 rate points has lpips"
    assert not (tmp_path / "x.html").exists()


def test_distances_in_different_features_get_axes_of_their_own(tmp_path):
    points = [*sweep_points(), *sweep_points(model="vdm", fid_features="inception_v3_fid")]
    results.write_rate_points(tmp_path / "rd.csv", points)
    page = Page(make_report([tmp_path / "rd.csv"], tmp_path / "r.html"))
    assert [measure["name"] for measure in page.data["measures"][2:]] == [
        "Fréchet distance (EfficientNet-Lite0), 12 images",
        "FID (Inception), 12 images",
    ]
    assert "Fréchet distance (EfficientNet-Lite0) over 12 images." in page.text
    assert "FID (Inception) over 12 images." in page.text


def test_table_leaves_out_empty_columns_only(runs, tmp_path):
    assert sorted(report_tables.POINT_COLUMNS) == sorted({*results.COLUMNS} - {"method", "decoder"})
    points = sweep_points(kid=0.5, kid_stderr=0.25, ms_ssim=0.875)
    results.write_rate_points(runs[0] / "eval" / "rd.csv", points)
    page = Page(make_report(runs, tmp_path / "r.html"))
    headings = page.text[
        page.text.index("All rate points") : page.text.index("DiffC-F (flow) unet bound")
    ]
    assert "Fréchet kernel ± kernel features MS-SSIM images" in headings
    assert "LPIPS" not in headings
    assert "(EfficientNet-Lite0) and kernel distance (EfficientNet-Lite0) over 12" in page.text


def test_lines_look_as_in_the_figures(runs, tmp_path):
    page = Page(make_report(runs, tmp_path / "r.html"))
    expected = style.series_of([*sweep_points(), *codec_points()])
    for line, drawn in zip(expected, page.data["series"], strict=True):
        assert (drawn["group"], drawn["label"]) == (line.group, line.label)
        assert drawn["line"]["color"] == to_hex(line.line["color"])
        assert drawn["line"]["marker"] == line.line["marker"]
        assert drawn["line"]["hollow"] == (line.line.get("markerfacecolor") == "white")
        if line.line["linestyle"] != "-":
            np.testing.assert_allclose(
                drawn["line"]["dashes"],
                np.multiply(line.line["linestyle"][1], line.line["linewidth"]),
            )
    assert set(page.data["markers"]) >= {line.line["marker"] for line in expected}
    # A square of size 1, from corner to corner.
    assert page.data["markers"]["s"] == {
        "path": "M -0.5 0.5 L 0.5 0.5 L 0.5 -0.5 L -0.5 -0.5 Z",
        "filled": True,
    }


def test_reconstructions_are_exact(runs, tmp_path):
    page = Page(make_report(runs, tmp_path / "r.html"))
    (found,) = page.data["reconstructions"]
    assert found["index"] == list(INDEX)
    with np.load(runs[0] / "eval" / "reconstructions.npz") as sweep:
        for row in range(len(INDEX)):
            np.testing.assert_array_equal(_image(found["originals"][row]), sweep["original"][row])
        assert [s["label"] for s in found["series"]] == [
            *("DiffC-F (flow)", "DiffC-A (ancestral)", "DiffC-D (posterior mean)", "κ = 1.5"),
            *("JPEG 4:2:0", "WebP"),
        ]
        flow = found["series"][0]
        assert flow["columns"] == 2
        sprite = _image(flow["sprites"][1])
        for level in range(len(GAMMAS)):
            y, x = (SIZE * place for place in divmod(level, 2))
            np.testing.assert_array_equal(
                sprite[y : y + SIZE, x : x + SIZE], sweep["flow"][1, level]
            )
    np.testing.assert_array_equal(
        flow["bpp"], [[(100.0 * 4**k + i) / SIZE**2 for k in range(3)] for i in INDEX]
    )
    assert flow["psnr"] == [[20.5, 21.5, 22.5]] * 2
    assert found["series"][-1]["psnr"] == [[25.0, "Infinity"], [26.0, 44.0]]


def test_a_last_row_of_reconstructions_is_filled_up():
    images = np.full((5, SIZE, SIZE, 3), 255, np.uint8)
    sprite = html_report._sprite(images, 3)
    assert sprite.shape == (2 * SIZE, 3 * SIZE, 3)
    assert not sprite[SIZE:, 2 * SIZE :].any()


def test_files_of_the_codec_are_shown_beside_the_bound(runs, tmp_path):
    sweep = runs[0] / "eval"
    own = {"method": "diffc_codec", "model": "unet", "decoder": "flow", "gamma": -1.0}
    points = [*results.read_rate_points(sweep / "rd.csv"), *codec_points(**own)[:2]]
    results.write_rate_points(sweep / "rd.csv", points)
    with np.load(sweep / "reconstructions.npz") as arrays:
        decoded = {
            "images": arrays["flow"],
            "level": arrays["gammas"],
            "bpp": np.array([[0.25, 1.0, 4.0]] * 2),
            "psnr": np.array([[20.0, 25.0, 30.0]] * 2),
            "method": np.array("diffc_codec"),
            "model": np.array("unet"),
            "decoder": np.array("flow"),
        }
        shared = {name: arrays[name] for name in ("index", "original")}
    named = {f"codec/flow/{name}": array for name, array in decoded.items()}
    np.savez(sweep / "reconstructions_codec.npz", **shared, **named)
    page = Page(make_report(runs, tmp_path / "r.html"))
    lines = [(line["group"], line["label"]) for line in page.data["series"]]
    assert ("DiffC, unet (file bytes)", "DiffC-F files") in lines
    line = page.data["series"][lines.index(("DiffC, unet (file bytes)", "DiffC-F files"))]
    (shown,) = page.data["reconstructions"]
    (files,) = (s for s in shown["series"] if s["label"] == "DiffC-F files")
    assert (files["model"], files["rate"], files["bpp"][0]) == ("unet", "file", [0.25, 1.0, 4.0])
    assert files["color"] == line["line"]["color"]
    for sentence in (
        "DiffC with the denoiser unet, decoded by DiffC-F (flow), DiffC-A (ancestral), DiffC-D (posterior "
        "mean) and κ = 1.5.",
        "Files of its codec with unet: DiffC-F files.",
        "Compared with JPEG 4:2:0 and WebP.",
        "Rates of codecs, that of DiffC too, are bytes of whole files, headers counted.",
    ):
        assert sentence in page.text


def test_two_runs_of_one_model_are_told_apart(runs, tmp_path):
    write_sweep(tmp_path / "again", checkpoint="step 6")
    page = Page(make_report([*runs, tmp_path / "again"], tmp_path / "r.html"))
    series = page.data["reconstructions"][0]["series"]
    assert {s["model"] for s in series} == {"unet, unet", "unet, again", None}
    assert len({(s["model"], s["label"]) for s in series}) == 10


def test_same_results_give_the_same_bytes(runs, tmp_path):
    first, second = (make_report(runs, tmp_path / name) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()
