"""What the report says: safe HTML, what was measured, plain words where something is missing."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from diffc_jax.baselines.published import load_published
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import results
from diffc_jax.plotting.html_report import make_report
from diffc_jax.runtime import files
from tests.support.rate_points import make_points
from tests.support.report_runs import (
    EVIL,
    SIZE,
    Page,
    codec_points,
    sweep_points,
    write_sweep,
)


def test_asks_the_network_for_nothing(runs, tmp_path):
    path = make_report(runs, tmp_path / "r.html")
    page = Page(path)
    for tag, attributes in page.tags:
        assert tag not in {"base", "iframe", "object", "embed"}
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    style_sheet = re.search(r"<style>(.*?)</style>", path.read_text(), re.DOTALL)[1]
    assert "url(" not in style_sheet
    assert "@import" not in style_sheet


def test_texts_of_files_are_only_text(runs, tmp_path):
    evil = [dataclasses.replace(p, dataset=EVIL) for p in (*sweep_points(), *codec_points())]
    workdir = tmp_path / "<b>&run"
    shutil.copytree(runs[0], workdir)
    results.write_rate_points(workdir / "eval" / "rd.csv", evil)
    page = Page(make_report([workdir], tmp_path / "r.html"))
    assert {point["dataset"] for point in page.data["points"]} == {EVIL}
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [tag for tag, _ in page.tags if tag in {"img", "b"}]
    assert f"measured on 12 images of {EVIL} eval." in page.text
    assert (
        EVIL
        in json.loads(page.text[page.text.index('{ "note"') :].partition(" }")[0] + "}")["note"]
    )
    assert "--workdir='" in page.text
    assert "{{" not in page.text


def test_says_what_was_measured_and_how_to_repeat_it(runs, tmp_path):
    page = Page(make_report(runs, tmp_path / "r.html"))
    assert page.text.startswith("DiffC on photos eval: rate and distortion")
    for sentence in (
        "16 rate points measured on 12 images of photos eval.",
        "Compared with JPEG 4:2:0 and WebP.",
        "unet (unet, step 5): 3.1416 ± 0.0123 bits/dim over 12 images.",
        "Whole files of lossless codecs: PNG 5.4000 ± 0.0400 and JPEG XL 3.8000 bits/dim over 12 images.",
        "Fréchet distance (EfficientNet-Lite0) over 12 images.",
        "unet unet step 5 12 3.1416 ± 0.0123 3.5000 (T = 100) 1.75",
        "s/image, distances s/image, sweep",
        "Seconds for each image are empty where an evaluation computed nothing",
        "unet: network evaluations for each image, and 100 for its rates",
        "DiffC-F (flow) 25 24 23",
        "The figure needs JavaScript; the tables below hold all its numbers.",
        '"python": "3.11.7"',
        '"device": "cpu"',
        '"max_images": 12',
        f"python experiments/train.py --config=CONFIG --workdir={runs[0]}",
        f"python experiments/evaluate.py --config=CONFIG --workdir={runs[0]}",
        f"python experiments/baselines.py --config=CONFIG --workdir={runs[1]}",
        "The noise of the evaluation has the seed 0.",
        "baselines: no config.json and environment.json.",
    ):
        assert sentence in page.text


def test_seconds_of_older_runs_are_of_the_sweep(runs, tmp_path):
    files.write_json(runs[0] / "eval" / "summary.json", {"model": "unet", "seconds_per_image": 2.5})
    page = Page(make_report(runs, tmp_path / "r.html"))
    assert "s/image, sweep unet unet not measured not measured 2.5" in page.text
    assert "distances" not in page.text
    assert "are empty where" not in page.text


def test_says_what_is_missing(runs, tmp_path):
    results.write_rate_points(tmp_path / "bare" / "eval" / "rd.csv", sweep_points(fid=None))
    page = Page(make_report([tmp_path / "bare"], tmp_path / "r.html"))
    for sentence in (
        "bare: no reconstructions (eval/reconstructions.npz or eval/reconstructions_baselines.npz).",
        "bare: no bits/dim, times and network evaluations (eval/summary.json).",
        "bare: no config.json and environment.json.",
    ):
        assert sentence in page.text
    assert page.data["reconstructions"] == []
    assert "experiments/evaluate.py" in page.text
    assert "experiments/train.py" not in page.text
    assert [measure["column"] for measure in page.data["measures"]] == ["psnr", "psnr_mean"]
    (runs[0] / "eval" / "per_image.csv").unlink()
    page = Page(make_report(runs, tmp_path / "r.html"))
    assert "unet: no rates for its reconstructions (eval/per_image.csv)." in page.text
    assert [s["label"] for s in page.data["reconstructions"][0]["series"]] == ["JPEG 4:2:0", "WebP"]
    page = Page(make_report([runs[1] / "eval" / "rd.csv"], tmp_path / "r.html"))
    assert page.text.count("Only tables of rate points were given, no folders of runs.") == 4


def test_broken_files_are_named(runs, tmp_path):
    summary = runs[0] / "eval" / "summary.json"
    summary.write_text("[]")
    with pytest.raises(InputError) as error:
        make_report(runs, tmp_path / "r.html")
    assert str(error.value) == (
        f"{summary}: expected `object`, got `array`; restore it, or delete it and run again"
    )
    summary.write_text('{"denoiser_evaluations_per_image": {"flow": [1, "2"]}}')
    with pytest.raises(InputError) as error:
        make_report(runs, tmp_path / "r.html")
    assert str(error.value).startswith(
        f"{summary}: denoiser_evaluations_per_image['flow'][1]: expected `int`, got `str`; "
    )
    summary.unlink()
    npz = runs[0] / "eval" / "reconstructions.npz"
    with np.load(npz) as archive:
        arrays = dict(archive)
    np.savez(npz, **{**arrays, "flow": arrays["flow"][:, :2]})
    with pytest.raises(InputError) as error:
        make_report(runs, tmp_path / "r.html")
    assert str(error.value) == (
        f"{npz}: 'flow' is uint8 of shape (2, 2, 16, 16, 3), not uint8 of shape (2, 3, 16, 16, 3)"
    )
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(
        InputError, match=r"nowhere/eval/rd.csv: does not exist; make it with: python"
    ):
        make_report([tmp_path / "nowhere"], tmp_path / "r.html")


@pytest.mark.parametrize("size", [SIZE, SIZE // 2])
def test_reconstructions_of_different_images_do_not_mix_silently(runs, tmp_path, size):
    write_sweep(tmp_path / "other", seed=8, size=size)
    inputs = [runs[1], tmp_path / "other"]
    with pytest.raises(InputError) as error:
        make_report(inputs, tmp_path / "r.html")
    assert str(error.value) == (
        "reconstructions: the inputs show different images: 16x16 pixels, index 0, 3; "
        f"{size}x{size} pixels, index 0, 3; evaluate all of them on the same images, or set "
        "allow_mixed_data"
    )
    page = Page(make_report(inputs, tmp_path / "r.html", allow_mixed_data=True))
    assert [found["width"] for found in page.data["reconstructions"]] == [SIZE, size]


def test_mixed_data_are_refused_as_in_the_figures(runs, tmp_path):
    with pytest.raises(UsageError) as error:
        make_report(
            runs, tmp_path / "r.html", more_points=load_published(["imagenet64-chrabaszcz/bpg"])
        )
    assert str(error.value) == (
        "inputs: rates and PSNRs of different images do not compare: photos eval, 12 images "
        "[diffc, jpeg, webp]; imagenet64-chrabaszcz val-deduplicated, 10000 images [published:bpg]; "
        "evaluate all methods on the same images, or set allow_mixed_data"
    )
    page = Page(
        make_report(
            *(runs, tmp_path / "r.html"),
            more_points=load_published(["imagenet64-chrabaszcz/bpg"]),
            allow_mixed_data=True,
        )
    )
    assert page.data["series"][-1]["group"] == ("Published (file bytes)\non imagenet64-chrabaszcz")
    assert (
        "Published by others on imagenet64-chrabaszcz val-deduplicated, 10000 images: BPG."
        in page.text
    )
    assert "DiffC on photos eval: rate" in page.text
    assert "16 rate points measured on 12 images of photos eval." in page.text


def test_a_trained_codec_is_trained_and_evaluated_again(runs, tmp_path):
    """Not with baselines.py, whose config has the classical codecs."""
    folder = tmp_path / "hific"
    points = make_points(method="hific", model="width 0.25")
    results.write_rate_points(folder / "eval" / "rd.csv", points)
    files.write_json(folder / "config.json", {"model": {"name": "hific"}})
    page = Page(make_report([*runs, folder], tmp_path / "r.html", allow_mixed_data=True))
    for program in ("train", "evaluate"):
        assert f"experiments/{program}.py --config=CONFIG --workdir={folder}" in page.text
    assert f"experiments/baselines.py --config=CONFIG --workdir={folder}" not in page.text
