import dataclasses
import io
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from diffc_jax import results
from diffc_jax.errors import InputError, UsageError
from diffc_jax.plotting import figures, measures, rate_distortion, style

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
        *_points(method="hevc"),
        *_points(method="dithered_pcm"),
        *_points(method="vvc"),
    ]


def _published(dataset: str = "imagenet64") -> list[results.RatePoint]:
    kwargs = {"dataset": dataset, "split": None, "n_images": 10000, "bpp_stderr": None}
    kwargs["psnr_mean_stderr"] = None
    return [
        *(p for name in style.PUBLISHED for p in _points(method=f"published:{name}", **kwargs)),
        *_points(method="published:diffc-f", rate_kind="bound", n_rate_steps=20, **kwargs),
        *_points(method="published:unheard-of", **kwargs),
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
        ("Codecs (file bytes)", "JPEG XL"),
        ("Codecs (file bytes)", "HEVC intra (x265)"),
        ("Codecs (file bytes)", "Dithered PCM"),
        ("Other methods (file bytes)", "vvc"),
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


def test_published_series_stand_apart_and_name_their_data():
    series = style.series_of([*_published("b"), *_gallery(), *_published("a")])
    groups = list(dict.fromkeys(line.group for line in series))
    assert groups[-4:] == [
        "Published (upper bound)\non a",
        "Published (file bytes)\non a",
        "Published (upper bound)\non b",
        "Published (file bytes)\non b",
    ]
    published = [line for line in series if line.group.startswith("Published")]
    on_a = [line for line in published if line.group.endswith("(file bytes)\non a")]
    assert [line.label for line in on_a] == [
        *(label for label, _, _ in style.PUBLISHED.values()),
        "unheard-of",
    ]
    looks = {
        (str(line.line["linestyle"]), line.line["marker"]) for line in published if line.points
    }
    assert len(looks) == 2 * len(on_a)
    ours = [line for line in series if line not in published]
    for name, compare in (("linewidth", min), ("alpha", min)):
        assert max(line.line[name] for line in published) < compare(
            line.line.get(name, 1.0) for line in ours if "gaussian" not in line.group
        )


def test_published_points_mix_with_ours_only_on_request():
    points = [*_points(), *_published()]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(points)
    assert str(error.value).startswith(
        "inputs: rates and PSNRs of different images do not compare: "
        "photos test, 12 images [diffc]; imagenet64, 10000 images [published:balle2018, "
    )
    figure = rate_distortion.plot_rates(points, allow_mixed_data=True)
    legend = _legend(figure)
    first = legend.index("Published (upper bound)")
    assert legend[first + 1 : first + 4] == [
        *("on imagenet64", "DiffC-F (VDM, T = 20)", "Published (file bytes)"),
    ]
    assert _caption(figure) == (
        "photos test, 12 images; imagenet64, 10000 images. Upper bound: C + log2(C + 1) + 5 bits per "
        "image, C over T = 1000 steps. Thin pale lines: published by others on the images named, see "
        "diffc_jax/baselines/published/README.md. Bars: standard error over the images."
    )
    rate_distortion.plot_rates(_published())


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
    files = {"method": "diffc_codec", "rate_kind": "file"}
    points = [
        *_points(),
        *_points(decoder="mean"),
        *_points(model="vdm"),
        *_points(**files, model="unet", decoder="flow"),
        *_points(**files, model="unet", decoder="kappa=1.5"),
        *_points(**files, model="gaussian", decoder="flow"),
    ]
    series = style.series_of(points)
    assert [(line.group, line.label) for line in series] == [
        ("DiffC, unet (upper bound)", "DiffC-F (flow)"),
        ("DiffC, unet (upper bound)", "DiffC-D (posterior mean)"),
        ("DiffC, unet (file bytes)", "DiffC-F files"),
        ("DiffC, unet (file bytes)", "κ = 1.5 files"),
        ("DiffC, vdm (upper bound)", "DiffC-F (flow)"),
        ("DiffC, gaussian (file bytes)", "DiffC-F files"),
    ]
    bound, _, own, _, other_network, floor = (line.line for line in series)
    assert own["marker"] == bound["marker"]
    assert own["linestyle"] != bound["linestyle"]
    assert own["linewidth"] == bound["linewidth"]
    # Files of a network do not make the next network a second one.
    assert other_network["linewidth"] < bound["linewidth"]
    darker = 0.55 * np.array(to_rgb(bound["color"]))
    np.testing.assert_allclose(to_rgb(own["color"]), darker, atol=0.003)
    assert floor["alpha"] < 1
    caption = _caption(rate_distortion.plot_rates(points))
    assert "Upper bound: C + log2(C + 1)" in caption
    assert "File bytes: whole files, headers counted." in caption


def test_rate_psnr_draws_the_rates_that_are_achievable():
    figure = rate_distortion.plot_rates(_points())
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
    figure = rate_distortion.plot_rates(_points(), show_ideal=True)
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(dotted[0].get_xdata(), np.multiply(RATES, 0.9))
    assert "Dotted: ideal rate C." in _caption(figure)
    assert not [
        line
        for line in rate_distortion.plot_rates(_points()).axes[0].lines
        if line.get_linestyle() == ":"
    ]


@pytest.mark.parametrize(
    ("scale", "labels"),
    [("log", ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]), ("linear", ["0.5", "1.0", "1.5"])],
)
def test_axis_has_readable_ticks_within_the_data(scale, labels):
    figure = rate_distortion.plot_rates(_points(), scale=scale)
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
    assert rate_distortion.plot_rates(_points(), scale=scale, bpp_range=(1, 2)).axes[
        0
    ].get_xlim() == (1, 2)


def test_measure_with_its_standard_errors():
    def bars(measure):
        figure = rate_distortion.plot_rates(_points(), measures=[measure])
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
    figure = rate_distortion.plot_rates(points)
    line, *_, triangles = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES[1:-1])
    np.testing.assert_allclose(triangles.get_xdata(), RATES[-1:])
    assert triangles.get_marker() == "^"
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    assert "Triangles on the top edge: lossless." in _caption(figure)
    assert "File bytes: whole files, headers counted." in _caption(figure)
    _png(figure)
    _png(rate_distortion.plot_rates([points[-2]]))
    _png(rate_distortion.plot_rates([dataclasses.replace(points[1], bpp=0.0)]))


def test_different_images_do_not_mix_silently():
    points = [*_points(), *_points(method="jpeg", n_images=1), *_points(dataset="imagenet64")]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(points)
    assert str(error.value) == (
        "inputs: rates and PSNRs of different images do not compare: "
        "photos test, 12 images [diffc]; photos test, 1 image [jpeg]; "
        "imagenet64 test, 12 images [diffc]; "
        "evaluate all methods on the same images, or set allow_mixed_data"
    )
    figure = rate_distortion.plot_rates(points, allow_mixed_data=True)
    assert _caption(figure).startswith(
        "photos test, 12 images; photos test, 1 image; imagenet64 test, 12 images. "
    )
    assert "DiffC-F (flow), on imagenet64 test" in _legend(figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"measures": ["psnr", "ssim"]},
            "measures: 'ssim' is not one of psnr, psnr_mean, fid, kid, lpips, lpips_vgg, ms_ssim",
        ),
        (
            {"measures": []},
            "measures: empty; name some of psnr, psnr_mean, fid, kid, lpips, lpips_vgg, ms_ssim",
        ),
        ({"y_scale": "cubic"}, "y_scale: 'cubic' is not one of log, linear"),
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
        rate_distortion.plot_rates(_points(), **arguments)
    assert str(error.value) == message


def test_nothing_to_draw_is_an_error():
    with pytest.raises(InputError) as error:
        rate_distortion.plot_rates(_points(psnr=None))
    assert str(error.value) == "nothing to draw: none of the 6 rate points has psnr"


@pytest.mark.parametrize("extra_codecs", [0, 20])
def test_legend_and_caption_overlap_nothing(extra_codecs):
    extra = [p for index in range(extra_codecs) for p in _points(method=f"codec{index}")]
    published = _published() if extra_codecs else []
    figure = rate_distortion.plot_rates(
        [*_gallery(), *extra, *published], allow_mixed_data=bool(published)
    )
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
        figure = rate_distortion.plot_rates(_gallery())
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


def _judged(**kwargs) -> list[results.RatePoint]:
    """Points that have every measure."""
    return [
        dataclasses.replace(
            p,
            fid=20 / (1 + p.bpp),
            kid=1 / (1 + p.bpp),
            lpips=0.5 - p.bpp / 10,
            fid_features="efficientnet_lite0",
        )
        for p in _points(**kwargs)
    ]


@pytest.mark.parametrize(
    ("features", "axis", "title"),
    [
        ("inception_v3_fid", "FID (Inception)", "FID (Inception)"),
        (
            "efficientnet_lite0",
            "Fréchet distance, EfficientNet-Lite0 features",
            "Fréchet distance (EfficientNet-Lite0)",
        ),
        ("dino", "Fréchet distance, dino features", "Fréchet distance (dino)"),
        (None, "Fréchet distance, unknown features", "Fréchet distance (unknown)"),
    ],
)
def test_only_inception_is_called_fid(features, axis, title):
    points = [dataclasses.replace(p, fid_features=features) for p in _judged()]
    figure = rate_distortion.plot_rates(points, measures=["fid"])
    assert figure.axes[0].get_ylabel() == f"{axis}\n(lower is better)"
    assert figure.axes[0].get_title(loc="left") == f"Rate against {title}"
    assert f"{title}: {features or 'unknown'} features, 12 images." in _caption(figure)
    kid = rate_distortion.plot_rates(points, measures=["kid"]).axes[0].get_ylabel()
    assert kid.startswith(
        "KID (Inception)" if features == "inception_v3_fid" else "kernel distance,"
    )


@pytest.mark.parametrize(
    ("measure", "y_scale", "expected"),
    [
        ("fid", None, "log"),
        ("fid", "linear", "linear"),
        ("lpips", None, "linear"),
        ("lpips", "log", "log"),
        ("psnr", "log", "linear"),
    ],
)
def test_axis_of_distances_is_log_or_linear(measure, y_scale, expected):
    figure = rate_distortion.plot_rates(_judged(), measures=[measure], y_scale=y_scale)
    axes = figure.axes[0]
    assert axes.get_yscale() == expected
    values = [getattr(p, measure) for p in _judged() if p.bpp >= 0.02]
    np.testing.assert_allclose(axes.lines[0].get_ydata()[1:], values)
    low, high = axes.get_ylim()
    assert low < min(values)
    assert high > max(values)


def test_distance_of_nothing_stands_on_the_edge_of_a_log_axis():
    points = _judged(method="webp")
    points[-1] = dataclasses.replace(points[-1], fid=0.0)
    figure = rate_distortion.plot_rates(points, measures=["fid"])
    line, *_, triangles = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES[:-1])
    np.testing.assert_allclose(triangles.get_xdata(), RATES[-1:])
    np.testing.assert_allclose(triangles.get_ydata(), [0.0])
    assert triangles.get_marker() == "v"
    assert "Triangles on the bottom edge: distance 0." in _caption(figure)
    figure = rate_distortion.plot_rates(points, measures=["fid"], y_scale="linear")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), RATES)


def test_panels_share_their_legend_and_each_shows_what_it_has():
    points = [*_judged(), *_points(method="avif")]
    figure = rate_distortion.plot_rates(points, measures=["fid", "psnr"])
    left, right = figure.axes
    assert left.get_ylabel().startswith("Fréchet")
    assert right.get_ylabel() == "PSNR of the mean squared error (dB)"
    assert left.get_xlim() == right.get_xlim()
    colours = [
        {to_hex(line.get_color()).upper() for line in axes.lines if len(line.get_xdata())}
        for axes in (left, right)
    ]
    assert colours == [{style.VERMILION}, {style.VERMILION, "#1F1F1F"}]
    assert {"DiffC-F (flow)", "AVIF"} <= set(_legend(figure))


@pytest.mark.parametrize(("measure", "mixed"), [("fid", False), ("fid", True), ("kid", True)])
def test_set_distances_that_do_not_compare_are_never_drawn_together(measure, mixed):
    points = [
        *_judged(),
        *(dataclasses.replace(p, n_images=99) for p in _judged(method="avif")),
        *(dataclasses.replace(p, fid_features="inception_v3_fid") for p in _judged(method="webp")),
    ]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(points, measures=["psnr", measure], allow_mixed_data=mixed)
    assert str(error.value) == (
        f"{measure}: distances in different features, or of different numbers of images, never "
        "compare: efficientnet_lite0 features, 12 images [diffc]; efficientnet_lite0 features, 99 "
        "images [avif]; inception_v3_fid features, 12 images [webp]; draw each alone"
    )


def test_make_figures_draws_every_measure_of_the_inputs(tmp_path):
    results.write_rate_points(tmp_path / "rd.csv", _judged())
    others = [dataclasses.replace(p, fid=1.0, fid_features="dino", lpips=0.1) for p in _published()]
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
    assert table[: len(RATES)] == _judged()
    assert [p.fid for p in table[len(RATES) :]] == [None] * len(others)
    with pytest.raises(UsageError, match=r"^fid: distances in different features"):
        figures.make_figures(
            [tmp_path / "rd.csv"],
            tmp_path / "out",
            more_points=others,
            measures=["fid"],
            allow_mixed_data=True,
        )


def test_left_out_distances_are_named(caplog):
    others = [
        *_judged(method="published:bpg", n_images=99),
        *_judged(method="published:jpeg"),
    ]
    with caplog.at_level("WARNING"):
        kept = measures.drop_other_distances(others, _judged())
    assert [p.fid is None for p in kept] == [True] * 6 + [False] * 6
    assert [p.kid is None for p in kept] == [True] * 6 + [False] * 6
    assert caplog.messages == [
        "left out distances between sets that do not compare with those in efficientnet_lite0 "
        "features, 12 images: efficientnet_lite0 features, 99 images [published:bpg]"
    ]
    caplog.clear()
    assert [p.fid for p in measures.drop_other_distances(others, _points())] == [None] * 12
    assert not caplog.messages


def test_unknown_methods_are_drawn_and_broken_rows_refused(tmp_path):
    path = tmp_path / "rd.csv"
    unknown = [*_points(method="vvc"), *_points(method="neural", rate_kind="bound", model="big")]
    results.write_rate_points(path, [*unknown, *_points(method="avif")])
    points = figures.collect_rate_points([path])
    legend = _legend(rate_distortion.plot_rates(points))
    assert legend == [
        *("Codecs (file bytes)", "AVIF", "Other methods (file bytes)", "vvc"),
        *("Other methods (upper bound)", "neural big"),
    ]
    path.write_text(path.read_text().replace("3.0", "three"))
    with pytest.raises(InputError) as error:
        figures.make_figures([path], tmp_path / "out")
    assert str(error.value) == f"{path}, line 7: column 'level' is not a number: 'three'"
