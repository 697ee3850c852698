"""Distances beside PSNR: their axes, their names, and which of them compare."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from diffc_jax.errors import UsageError
from diffc_jax.plotting import measures, rate_distortion, style
from tests.support.figures import pixels_of
from tests.support.rate_points import RATES, caption_of, legend_of, make_judged, make_points


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
    points = [dataclasses.replace(p, fid_features=features) for p in make_judged()]
    figure = rate_distortion.plot_rates(points, measures=["fid"])
    assert figure.axes[0].get_ylabel() == f"{axis}\n(lower is better)"
    assert figure.axes[0].get_title(loc="left") == f"Rate against {title}"
    assert f"{title}: {features or 'unknown'} features, 12 images." in caption_of(figure)
    kid = rate_distortion.plot_rates(points, measures=["kid"]).axes[0].get_ylabel()
    assert kid.startswith(
        "KID (Inception)" if features == "inception_v3_fid" else "kernel distance,"
    )


@pytest.mark.parametrize("measure", ["auc", "precision", "recall", "density", "coverage"])
def test_other_measures_of_sets_have_no_name_of_their_own_with_inception(measure):
    points = [dataclasses.replace(p, fid_features="inception_v3_fid") for p in make_judged()]
    found = measures.describe_measure(measure, points)
    name = "AUC of a classifier" if measure == "auc" else measure
    assert found.title == f"{name} (inception_v3_fid)"
    assert found.axis.startswith(f"{name}, inception_v3_fid features")


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
    figure = rate_distortion.plot_rates(make_judged(), measures=[measure], y_scale=y_scale)
    axes = figure.axes[0]
    assert axes.get_yscale() == expected
    values = [getattr(p, measure) for p in make_judged() if p.bpp >= 0.02]
    np.testing.assert_allclose(axes.lines[0].get_ydata()[1:], values)
    low, high = axes.get_ylim()
    assert low < min(values)
    assert high > max(values)


def test_distance_of_nothing_stands_on_the_edge_of_a_log_axis():
    points = make_judged(method="webp")
    points[-1] = dataclasses.replace(points[-1], fid=0.0)
    figure = rate_distortion.plot_rates(points, measures=["fid"])
    line, *_, triangles = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), RATES[:-1])
    np.testing.assert_allclose(triangles.get_xdata(), RATES[-1:])
    np.testing.assert_allclose(triangles.get_ydata(), [0.0])
    assert triangles.get_marker() == "v"
    assert "Triangles on the bottom edge: distance 0 or less." in caption_of(figure)
    figure = rate_distortion.plot_rates(points, measures=["fid"], y_scale="linear")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), RATES)


def test_panels_share_their_legend_and_each_shows_what_it_has():
    points = [*make_judged(), *make_points(method="avif")]
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
    assert {"DiffC-F (flow)", "AVIF"} <= set(legend_of(figure))


@pytest.mark.parametrize(("measure", "mixed"), [("fid", False), ("fid", True), ("kid", True)])
def test_set_distances_that_do_not_compare_are_never_drawn_together(measure, mixed):
    points = [
        *make_judged(),
        *(dataclasses.replace(p, n_images=99) for p in make_judged(method="avif")),
        *(
            dataclasses.replace(p, fid_features="inception_v3_fid")
            for p in make_judged(method="webp")
        ),
    ]
    with pytest.raises(UsageError) as error:
        rate_distortion.plot_rates(points, measures=["psnr", measure], allow_mixed_data=mixed)
    assert str(error.value) == (
        f"{measure}: distances in different features, or of different numbers of images, never "
        "compare: efficientnet_lite0 features, 12 images [diffc]; efficientnet_lite0 features, 99 "
        "images [avif]; inception_v3_fid features, 12 images [webp]; draw each alone"
    )


def test_left_out_distances_are_named(caplog):
    others = [
        *make_judged(method="published:bpg", n_images=99),
        *make_judged(method="published:jpeg"),
    ]
    with caplog.at_level("WARNING"):
        kept = measures.drop_other_distances(others, make_judged())
    assert [p.fid is None for p in kept] == [True] * 6 + [False] * 6
    assert [p.kid is None for p in kept] == [True] * 6 + [False] * 6
    assert caplog.messages == [
        "left out distances between sets that do not compare with those in efficientnet_lite0 "
        "features, 12 images: efficientnet_lite0 features, 99 images [published:bpg]"
    ]
    caplog.clear()
    assert [p.fid for p in measures.drop_other_distances(others, make_points())] == [None] * 12
    assert not caplog.messages


def test_measures_of_the_originals_do_not_depend_on_the_reference():
    points = [
        dataclasses.replace(p, auc=0.7, fid_originals=p.fid, precision=0.5, fid_reference=reference)
        for reference, method in ((None, "avif"), ("mine all, 9 images", "webp"))
        for p in make_judged(method=method)
    ]
    for measure in ("auc", "fid_originals"):
        caption = caption_of(rate_distortion.plot_rates(points, measures=[measure]))
        assert "efficientnet_lite0 features, 12 images. " in caption
        assert "against" not in caption
    for measure in ("fid", "precision"):
        with pytest.raises(UsageError, match=f"^{measure}: distances in different features"):
            rate_distortion.plot_rates(points, measures=[measure])


@pytest.mark.parametrize("y_scale", measures.SCALES)
def test_distances_of_which_none_is_positive_are_drawn(y_scale):
    """A kernel distance to the originals is around 0, of either sign, where all of them are close."""
    points = [dataclasses.replace(p, kid=-1e-4 * p.bpp) for p in make_judged()]
    figure = rate_distortion.plot_rates(points, measures=["kid"], y_scale=y_scale)
    assert pixels_of(figure).size
    edge = "Triangles on the bottom edge: distance 0 or less." in caption_of(figure)
    assert edge == (y_scale == "log")


@pytest.mark.parametrize("scale", measures.SCALES)
def test_rates_beyond_the_usual_ones_are_in_sight(scale):
    points = [p for factor in (3.0, 4.0) for p in make_points(bpp=2 * factor)]
    low, high = rate_distortion.plot_rates(points, scale=scale).axes[0].get_xlim()
    assert low < 6.0 < 8.0 < high
