"""One figure of rate and distortion: what it draws, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from diffc_jax.errors import InputError, UsageError
from diffc_jax.plotting import rate_distortion, style
from tests.support.figures import pixels_of
from tests.support.rate_points import (
    RATES,
    caption_of,
    legend_of,
    make_gallery,
    make_points,
    make_published,
)


def test_published_points_mix_with_ours_only_on_request():
    points = [*make_points(), *make_published()]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(points)
    assert str(error.value).startswith(
        "inputs: rates and PSNRs of different images do not compare: "
        "photos test, 12 images [diffc]; imagenet64, 10000 images [published:balle2018, "
    )
    figure = rate_distortion.plot_rates(points, allow_mixed_data=True)
    legend = legend_of(figure)
    first = legend.index("Published (upper bound)")
    assert legend[first + 1 : first + 4] == [
        *("on imagenet64", "DiffC-F (VDM, T = 20)", "Published (file bytes)"),
    ]
    assert caption_of(figure) == (
        "photos test, 12 images; imagenet64, 10000 images. Upper bound: C + log2(C + 1) + 5 bits per "
        "image, C over T = 1000 steps. Thin pale lines: published by others on the images named, see "
        "diffc_jax/baselines/published/README.md. Bars: standard error over the images."
    )
    rate_distortion.plot_rates(make_published())


def test_rate_psnr_draws_the_rates_that_are_achievable():
    figure = rate_distortion.plot_rates(make_points())
    (line, *_) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES)
    np.testing.assert_allclose(line.get_ydata(), [30 + 5 * math.log(rate) for rate in RATES])
    assert to_hex(line.get_color()).upper() == style.VERMILION
    assert set(legend_of(figure)) == {"DiffC, unet (upper bound)", "DiffC-F (flow)"}
    assert caption_of(figure) == (
        "photos test, 12 images. Upper bound: C + log2(C + 1) + 5 bits per image, C over T = 1000 "
        "steps. Bars: standard error over the images."
    )


def test_ideal_rates_are_drawn_only_when_asked():
    figure = rate_distortion.plot_rates(make_points(), show_ideal=True)
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(dotted[0].get_xdata(), np.multiply(RATES, 0.9))
    assert "Dotted: ideal rate C." in caption_of(figure)
    assert not [
        line
        for line in rate_distortion.plot_rates(make_points()).axes[0].lines
        if line.get_linestyle() == ":"
    ]


@pytest.mark.parametrize(
    ("scale", "labels"),
    [("log", ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]), ("linear", ["0.5", "1.0", "1.5"])],
)
def test_axis_has_readable_ticks_within_the_data(scale, labels):
    figure = rate_distortion.plot_rates(make_points(), scale=scale)
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
    assert rate_distortion.plot_rates(make_points(), scale=scale, bpp_range=(1, 2)).axes[
        0
    ].get_xlim() == (1, 2)


def test_measure_with_its_standard_errors():
    def bars(measure):
        figure = rate_distortion.plot_rates(make_points(), measures=[measure])
        return [np.array(c.get_segments()) for c in figure.axes[0].collections]

    (horizontal,) = bars("psnr")
    np.testing.assert_allclose(np.ptp(horizontal[:, :, 0], axis=1), np.multiply(RATES, 0.2))
    _, vertical = bars("psnr_mean")
    np.testing.assert_allclose(np.ptp(vertical[:, :, 1], axis=1), 1.0)


def test_lossless_and_missing_points():
    points = make_points(method="webp")
    points[-1] = dataclasses.replace(points[-1], psnr=math.inf, psnr_mean=math.inf)
    points[0] = dataclasses.replace(points[0], psnr=None)
    points += [dataclasses.replace(points[-1], bpp=50.0)]
    figure = rate_distortion.plot_rates(points)
    line, *_, triangles = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES[1:-1])
    np.testing.assert_allclose(triangles.get_xdata(), RATES[-1:])
    assert triangles.get_marker() == "^"
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    assert "Triangles on the top edge: lossless." in caption_of(figure)
    mean = rate_distortion.plot_rates(points, measures=["psnr_mean"])
    assert "Triangles on the top edge: an image that is exact." in caption_of(mean)
    assert "File bytes: whole files, headers counted." in caption_of(figure)
    pixels_of(figure)
    pixels_of(rate_distortion.plot_rates([points[-2]]))
    pixels_of(rate_distortion.plot_rates([dataclasses.replace(points[1], bpp=0.0)]))


def test_different_images_do_not_mix_silently():
    points = [
        *make_points(),
        *make_points(method="jpeg", n_images=1),
        *make_points(dataset="imagenet64"),
    ]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(points)
    assert str(error.value) == (
        "inputs: rates and PSNRs of different images do not compare: "
        "photos test, 12 images [diffc]; photos test, 1 image [jpeg]; "
        "imagenet64 test, 12 images [diffc]; "
        "evaluate all methods on the same images, or set allow_mixed_data"
    )
    figure = rate_distortion.plot_rates(points, allow_mixed_data=True)
    assert caption_of(figure).startswith(
        "photos test, 12 images; photos test, 1 image; imagenet64 test, 12 images. "
    )
    assert "DiffC-F (flow), on imagenet64 test" in legend_of(figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"measures": ["psnr", "ssim"]},
            "measures: 'ssim' is not one of psnr, psnr_mean, fid, kid, fid_originals,"
            " kid_originals, auc, precision, recall, density, coverage, lpips, lpips_vgg, ms_ssim",
        ),
        (
            {"measures": []},
            "measures: empty; name some of psnr, psnr_mean, fid, kid, fid_originals,"
            " kid_originals, auc, precision, recall, density, coverage, lpips, lpips_vgg, ms_ssim",
        ),
        ({"y_scale": "cubic"}, "y_scale: 'cubic' is not one of log, linear"),
        ({"scale": "cubic"}, "scale: 'cubic' is not one of log, linear"),
        ({"bpp_range": (0, 1)}, "bpp_range: 0..1 is not a range of rates on a log axis"),
        ({"bpp_range": (1, 1)}, "bpp_range: 1..1 is not a range of rates on a log axis"),
        (
            {"bpp_range": (2, 1), "scale": "linear"},
            "bpp_range: 2..1 is not a range of rates on a linear axis",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(make_points(), **arguments)
    assert str(error.value) == message


def test_nothing_to_draw_is_an_error():
    with pytest.raises(InputError) as error:
        rate_distortion.plot_rates(make_points(psnr=None))
    assert str(error.value) == "nothing to draw: none of the 6 rate points has psnr"


@pytest.mark.parametrize("extra_codecs", [0, 20])
def test_legend_and_caption_overlap_nothing(extra_codecs):
    extra = [p for index in range(extra_codecs) for p in make_points(method=f"codec{index}")]
    published = make_published() if extra_codecs else []
    figure = rate_distortion.plot_rates(
        [*make_gallery(), *extra, *published], allow_mixed_data=bool(published)
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


def test_axes_are_as_wide_as_their_data():
    points = [
        dataclasses.replace(point, precision=0.60 + 0.05 * number / 4, fid_features="network")
        for number, point in enumerate(make_points())
    ]
    figure = rate_distortion.plot_rates(points, measures=["precision"])
    low, high = figure.axes[0].get_ylim()
    assert high - low < 0.06
    figure = rate_distortion.plot_rates(
        [dataclasses.replace(point, psnr=30.0) for point in points], measures=["psnr"]
    )
    low, high = figure.axes[0].get_ylim()
    assert high - low == pytest.approx(0.4)
