import csv
import dataclasses
import io
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from diffc_jax import results
from diffc_jax.errors import InputError, UsageError
from diffc_jax.plotting import figures, grids, rate_distortion, style

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def _points(**kwargs) -> list[results.RatePoint]:
    defaults = {
        "method": "diffc",
        "model": "unet",
        "decoder": "flow",
        "rate_kind": "bound",
        "n_images": 12,
        "dataset": "photos",
        "split": "test",
        "n_rate_steps": 1000,
    }
    if kwargs.get("method", "diffc") != "diffc":
        defaults |= {"model": None, "decoder": None, "rate_kind": "file", "n_rate_steps": None}
    return [
        results.RatePoint(
            **defaults
            | {"bpp": rate, "bpp_kl": 0.9 * rate, "psnr": 30 + 5 * math.log(rate), "level": rate}
            | {"psnr_mean": 31 + 5 * math.log(rate), "bpp_stderr": 0.1 * rate}
            | {"psnr_mean_stderr": 0.5}
            | kwargs
        )
        for rate in RATES
    ]


def _gallery() -> list[results.RatePoint]:
    return [
        *(p for decoder in ("mean", "kappa=1.5", "flow") for p in _points(decoder=decoder)),
        *_points(decoder="ancestral"),
        *_points(model="gaussian"),
        *_points(model="vdm"),
        *_points(method="avif"),
        *_points(method="jpeg", model="4:4:4"),
        *_points(method="jpeg", model="4:2:0"),
        *_points(method="jpegxl"),
    ]


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.findobj(Text) if text.get_text()]


def _caption(figure: Figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def _png(figure: Figure) -> np.ndarray:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi="figure")
    return np.asarray(Image.open(stream).convert("RGB"))


def test_series_come_in_families_in_a_fixed_order():
    series = style.series_of(_gallery()[::-1])
    assert [(line.group, line.label) for line in series] == [
        ("DiffC, unet (upper bound)", "DiffC-F (flow)"),
        ("DiffC, unet (upper bound)", "DiffC-A (ancestral)"),
        ("DiffC, unet (upper bound)", "DiffC-D (posterior mean)"),
        ("DiffC, unet (upper bound)", "κ = 1.5"),
        ("DiffC, vdm (upper bound)", "DiffC-F (flow)"),
        ("DiffC, gaussian (upper bound)", "DiffC-F (flow)"),
        ("Codecs (file bytes)", "JPEG 4:2:0"),
        ("Codecs (file bytes)", "JPEG 4:4:4"),
        ("Codecs (file bytes)", "AVIF"),
        ("Codecs (file bytes)", "jpegxl"),
    ]
    assert all([p.bpp for p in line.points] == sorted(RATES) for line in series)


def test_lines_differ_without_colour_and_keep_their_look():
    series = style.series_of(_gallery())
    looks = {(str(s.line["linestyle"]), s.line["marker"], s.line["linewidth"]) for s in series}
    assert len(looks) == len(series)
    alone = style.series_of(_points(method="avif"))[0]
    assert alone.line == next(s.line for s in series if s.label == "AVIF")
    colours = {s.label: s.line["color"] for s in series if s.group.startswith("DiffC, unet")}
    assert len(set(colours.values())) == 4
    flow = [s for s in series if s.label == "DiffC-F (flow)"]
    assert {s.line["color"] for s in flow} == {style.VERMILION}
    assert flow[-1].line["linewidth"] < flow[0].line["linewidth"]


def test_repeated_series_say_what_differs():
    points = [*_points(), *_points(n_rate_steps=100), *_points(checkpoint="step_5")]
    series = style.series_of(points)
    assert [line.label for line in series] == [
        "DiffC-F (flow), T 100",
        "DiffC-F (flow), T 1000",
        "DiffC-F (flow), checkpoint step_5, T 1000",
    ]
    assert len({str(line.line["linestyle"]) for line in series}) == 3


def test_files_of_the_codec_are_a_family_of_their_own():
    points = [*_points(), *_points(method="diffc_codec", model="unet", decoder="flow")]
    assert [line.group for line in style.series_of(points)] == [
        "DiffC, unet (upper bound)",
        "DiffC codec, unet (file bytes)",
    ]
    assert len({line.line["markerfacecolor"] for line in style.series_of(points)[1:]}) == 1


def test_rate_psnr_draws_the_rates_that_are_achievable():
    figure = rate_distortion.plot_rate_psnr(_points())
    (line, *_) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES)
    np.testing.assert_allclose(line.get_ydata(), [30 + 5 * math.log(rate) for rate in RATES])
    assert to_hex(line.get_color()).upper() == style.VERMILION
    assert set(_legend(figure)) == {"DiffC, unet (upper bound)", "DiffC-F (flow)"}
    assert _caption(figure) == (
        "photos test, 12 images. Upper bound: C + log2(C + 1) + 5 bits per image, C over T = 1000 "
        "steps. Bars: standard error over the images."
    )


def test_ideal_rates_are_drawn_only_when_asked():
    figure = rate_distortion.plot_rate_psnr(_points(), show_ideal=True)
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(dotted[0].get_xdata(), np.multiply(RATES, 0.9))
    assert "Dotted: ideal rate C." in _caption(figure)
    assert not [
        line
        for line in rate_distortion.plot_rate_psnr(_points()).axes[0].lines
        if line.get_linestyle() == ":"
    ]


@pytest.mark.parametrize(
    ("scale", "labels"),
    [("log", ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]), ("linear", ["0.5", "1.0", "1.5"])],
)
def test_axis_has_readable_ticks_within_the_data(scale, labels):
    figure = rate_distortion.plot_rate_psnr(_points(), scale=scale)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    shown = [
        tick.label1.get_text()
        for tick in axes.xaxis.get_major_ticks()
        if low <= tick.get_loc() <= high
    ]
    assert set(labels) <= set(shown)
    assert low == (0.02 if scale == "log" else 0.0)
    assert 3.0 < high < 3.6
    assert rate_distortion.plot_rate_psnr(_points(), scale=scale, bpp_range=(1, 2)).axes[
        0
    ].get_xlim() == (1, 2)


def test_measure_with_its_standard_errors():
    def bars(measure):
        figure = rate_distortion.plot_rate_psnr(_points(), measure=measure)
        return [np.array(c.get_segments()) for c in figure.axes[0].collections]

    (horizontal,) = bars("psnr")
    np.testing.assert_allclose(np.ptp(horizontal[:, :, 0], axis=1), np.multiply(RATES, 0.2))
    _, vertical = bars("psnr_mean")
    np.testing.assert_allclose(np.ptp(vertical[:, :, 1], axis=1), 1.0)


def test_lossless_and_missing_points():
    points = _points(method="webp")
    points[-1] = dataclasses.replace(points[-1], psnr=math.inf, psnr_mean=math.inf)
    points[0] = dataclasses.replace(points[0], psnr=None)
    points += [dataclasses.replace(points[-1], bpp=50.0)]
    figure = rate_distortion.plot_rate_psnr(points)
    line, *_, triangles = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES[1:-1])
    np.testing.assert_allclose(triangles.get_xdata(), RATES[-1:])
    assert triangles.get_marker() == "^"
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    assert "Triangles on the top edge: lossless." in _caption(figure)
    assert "File bytes: whole files, headers counted." in _caption(figure)
    _png(figure)
    _png(rate_distortion.plot_rate_psnr([points[-2]]))
    _png(rate_distortion.plot_rate_psnr([dataclasses.replace(points[1], bpp=0.0)]))


def test_different_images_do_not_mix_silently():
    points = [*_points(), *_points(method="jpeg", n_images=1), *_points(dataset="imagenet64")]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rate_psnr(points)
    assert str(error.value) == (
        "inputs: rates and PSNRs of different images do not compare: "
        "photos test, 12 images [diffc]; photos test, 1 image [jpeg]; "
        "imagenet64 test, 12 images [diffc]; "
        "evaluate all methods on the same images, or set allow_mixed_data"
    )
    figure = rate_distortion.plot_rate_psnr(points, allow_mixed_data=True)
    assert _caption(figure).startswith(
        "photos test, 12 images; photos test, 1 image; imagenet64 test, 12 images. "
    )
    assert "DiffC-F (flow), on imagenet64 test" in _legend(figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measure": "ssim"}, "measure: 'ssim' is not one of psnr, psnr_mean"),
        ({"scale": "cubic"}, "scale: 'cubic' is not one of log, linear"),
        ({"bpp_range": (0, 1)}, "bpp_range: 0..1 is not a range of rates on a log axis"),
        (
            {"bpp_range": (2, 1), "scale": "linear"},
            "bpp_range: 2..1 is not a range of rates on a linear axis",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rate_psnr(_points(), **arguments)
    assert str(error.value) == message


def test_nothing_to_draw_is_an_error():
    with pytest.raises(InputError) as error:
        rate_distortion.plot_rate_psnr(_points(psnr=None))
    assert str(error.value) == "nothing to draw: none of the 6 rate points has psnr"


@pytest.mark.parametrize("extra_codecs", [0, 20])
def test_legend_and_caption_overlap_nothing(extra_codecs):
    extra = [p for index in range(extra_codecs) for p in _points(method=f"codec{index}")]
    figure = rate_distortion.plot_rate_psnr([*_gallery(), *extra])
    figure.draw_without_rendering()
    axes_box = figure.axes[0].get_tightbbox()
    legend_box = figure.legends[0].get_window_extent()
    caption_box = figure.texts[0].get_window_extent()
    assert not axes_box.overlaps(legend_box)
    assert not caption_box.overlaps(axes_box)
    assert not caption_box.overlaps(legend_box)
    for box in (axes_box, legend_box, caption_box):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def test_saved_figures_are_reproducible_and_leave_no_state(tmp_path):
    before = dict(matplotlib.rcParams)
    for name in ("a", "b"):
        figure = rate_distortion.plot_rate_psnr(_gallery())
        rows = [dataclasses.asdict(point) for point in _gallery()]
        written = figures.save_figure(figure, tmp_path / name / "rd.v1", rows)
        assert [path.name for path in written] == ["rd.v1.png", "rd.v1.pdf", "rd.v1.csv"]
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(
            path.name for path in written
        )
    for kind in ("png", "pdf", "csv"):
        first, second = (tmp_path / name / f"rd.v1.{kind}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    assert b"CreationDate" not in (tmp_path / "a" / "rd.v1.pdf").read_bytes()
    assert results.read_rate_points(tmp_path / "a" / "rd.v1.csv") == _gallery()
    assert dict(matplotlib.rcParams) == before


def test_make_figures_collects_workdirs_and_files(tmp_path):
    results.write_rate_points(tmp_path / "run" / "eval" / "rd.csv", _points())
    results.write_rate_points(tmp_path / "codecs.csv", [*_points(method="webp"), *_points()])
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
        *_points(),
        *_points(method="webp"),
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


def _column(images, group="DiffC-F", title="", psnr=31.25):
    n = len(images)
    return grids.GridColumn(group, images, np.linspace(0.5, 1.9, n), np.full(n, psnr), title)


def test_reconstruction_grid_shows_every_pixel_as_a_square(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 16, 16, 3), dtype=np.uint8)
    columns = [_column(images[1], title="0.5 bpp"), _column(images[2], "DiffC-A", psnr=math.inf)]
    figure = grids.reconstruction_grid(images[0], columns, scale=5)
    picture = _png(figure)
    for column, row in np.ndindex(3, 2):
        cell = images[column, row].repeat(5, axis=0).repeat(5, axis=1)
        x, y = 16 + column * 90, 88 + row * 124
        np.testing.assert_array_equal(picture[y : y + 80, x : x + 80], cell)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [
        *("0.500 bpp", "31.2 dB", "1.90 bpp", "31.2 dB", "0.5 bpp"),
        *("0.500 bpp", "exact", "1.90 bpp", "exact", "original", "DiffC-F", "DiffC-A"),
    ]
    reds = {t.get_text() for t in figure.axes[0].texts if to_hex(t.get_color()) == "#c00000"}
    assert reds == {"31.2 dB", "exact"}
    figures.save_figure(figure, tmp_path / "grid", grids.grid_rows(columns))
    with (tmp_path / "grid.csv").open() as stream:
        assert list(csv.DictReader(stream))[-1] == {
            "image": "1",
            "group": "DiffC-A",
            "title": "",
            "bpp": "1.9",
            "psnr": "inf",
        }


def test_neighbouring_columns_share_their_heading():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    columns = [
        _column(images, group, title) for group, title in (("F", "a"), ("F", "b"), ("A", ""))
    ]
    texts = [text.get_text() for text in grids.reconstruction_grid(images, columns).axes[0].texts]
    assert texts[-3:] == ["original", "F", "A"]


def test_grid_names_the_column_that_does_not_fit():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(InputError) as error:
        grids.reconstruction_grid(images, [_column(images), _column(images[:1], "F", "t")])
    assert str(error.value) == (
        "column 'F t': images, bpp and psnr have shapes ((1, 8, 8, 3), (1,), (1,)), "
        "but the originals have (2, 8, 8, 3)"
    )
    with pytest.raises(InputError) as error:
        grids.reconstruction_grid(images[:0], [])
    assert str(error.value) == "originals: a reconstruction grid needs at least one image"
