"""Which line every method gets, and how lines are called."""

import numpy as np
from matplotlib.colors import to_rgb

from diffc_jax.plotting import rate_distortion, style
from tests.support.rate_points import RATES, caption_of, make_gallery, make_points, make_published


def test_series_come_in_groups_in_a_fixed_order():
    series = style.series_of(make_gallery()[::-1])
    assert [(line.group, line.label) for line in series] == [
        ("DiffC, unet (upper bound)", "DiffC-F (flow)"),
        ("DiffC, unet (upper bound)", "DiffC-A (ancestral)"),
        ("DiffC, unet (upper bound)", "DiffC-D (posterior mean)"),
        ("DiffC, unet (upper bound)", "κ = 1.5"),
        ("DiffC, vdm (upper bound)", "DiffC-F (flow)"),
        ("DiffC, gaussian (upper bound)", "DiffC-F (flow)"),
        ("Trained codecs (file bytes)", "HiFiC, ours, width 0.125"),
        ("Trained codecs (file bytes)", "Hyper-prior, ours"),
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
    series = style.series_of(make_gallery())
    looks = {(str(s.line["linestyle"]), s.line["marker"], s.line["linewidth"]) for s in series}
    assert len(looks) == len(series)
    alone = style.series_of(make_points(method="avif"))[0]
    assert alone.line == next(s.line for s in series if s.label == "AVIF")
    colours = {s.label: s.line["color"] for s in series if s.group.startswith("DiffC, unet")}
    assert len(set(colours.values())) == 4
    flow = [s for s in series if s.label == "DiffC-F (flow)"]
    assert {s.line["color"] for s in flow} == {style.VERMILION}
    assert flow[-1].line["linewidth"] < flow[0].line["linewidth"]


def test_many_networks_and_trained_codecs_look_different():
    points = [
        point
        for model in ("a", "b", "c", "d", "e")
        for point in make_points(method="diffc", model=model, decoder="flow", rate_kind="bound")
    ]
    points += [
        point
        for model in ("width 0.125", "width 0.25", "width 1")
        for point in make_points(method="hific", model=model)
    ]
    series = style.series_of(points)
    assert len(series) == 8
    looks = [tuple(sorted((name, str(v)) for name, v in s.line.items())) for s in series]
    assert len(set(looks)) == len(looks)


def test_published_series_stand_apart_and_name_their_data():
    series = style.series_of([*make_published("b"), *make_gallery(), *make_published("a")])
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


def test_repeated_series_say_what_differs():
    points = [*make_points(), *make_points(n_rate_steps=100), *make_points(checkpoint="step_5")]
    series = style.series_of(points)
    assert [line.label for line in series] == [
        "DiffC-F (flow), T 100",
        "DiffC-F (flow), T 1000",
        "DiffC-F (flow), checkpoint step_5, T 1000",
    ]
    assert len({str(line.line["linestyle"]) for line in series}) == 3


def test_files_of_the_codec_are_a_group_of_their_own():
    files = {"method": "diffc_codec", "rate_kind": "file"}
    points = [
        *make_points(),
        *make_points(decoder="mean"),
        *make_points(model="vdm"),
        *make_points(**files, model="unet", decoder="flow"),
        *make_points(**files, model="unet", decoder="kappa=1.5"),
        *make_points(**files, model="gaussian", decoder="flow"),
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
    bound, _, own, _, other_network, baseline = (line.line for line in series)
    assert own["marker"] == bound["marker"]
    assert own["linestyle"] != bound["linestyle"]
    assert own["linewidth"] == bound["linewidth"]
    # Files of a network do not make the next network a second one.
    assert other_network["linewidth"] < bound["linewidth"]
    darker = 0.55 * np.array(to_rgb(bound["color"]))
    np.testing.assert_allclose(to_rgb(own["color"]), darker, atol=0.003)
    assert baseline["alpha"] < 1
    caption = caption_of(rate_distortion.plot_rates(points))
    assert "Upper bound: C + log2(C + 1)" in caption
    assert "File bytes: whole files, headers counted." in caption
