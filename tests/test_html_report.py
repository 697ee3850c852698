"""The report: complete and exact numbers, safe HTML, plain words where something is missing, and a drive."""

import base64
import dataclasses
import html.parser
import io
import json
import math
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from diffc_jax import files, results
from diffc_jax.baselines.published import load_published
from diffc_jax.errors import InputError, UsageError
from diffc_jax.plotting import report_sections, style
from diffc_jax.plotting.html_report import make_report
from diffc_jax.plotting.measures import MEASURES

GAMMAS = (2.0, -1.5, -4.25)
DECODERS = ("ancestral", "flow", "mean", "kappa=1.5")
QUALITIES = (10.0, 60.0)
INDEX = (0, 3)
SIZE = 16
EVIL = (
    "a</script ><script>document.title='owned'</script><!--<img src=https://example.org/x.png>&amp;"
)


def _sweep_points(**changes):
    return [
        results.RatePoint(
            **{
                "method": "diffc",
                "model": "unet",
                "decoder": decoder,
                "rate_kind": "bound",
                "level": 0.9,
                "gamma": gamma,
                "bpp": 0.1 / 3 * 4**level,
                "bpp_kl": 0.03 * 4**level,
                "psnr": 20.1 + 5 * level,
                "psnr_mean": 21.0 + 5 * level,
                "mse": 2 / 3,
                "n_images": 12,
                "n_steps": 25,
                "seed": 0,
                "dataset": "photos",
                "split": "eval",
                "bpp_stderr": 0.01,
                "psnr_mean_stderr": 0.25,
                "checkpoint": "step 5",
                "n_rate_steps": 100,
                "fid": 0.0 if level == 2 else 30.0 / (1 + level),
                "fid_features": "efficientnet_lite0",
                **changes,
            }
        )
        for decoder in DECODERS
        for level, gamma in enumerate(GAMMAS)
    ]


def _codec_points(**changes):
    return [
        results.RatePoint(
            **{
                "method": method,
                "model": model,
                "rate_kind": "file",
                "level": quality,
                "bpp": quality / 30,
                "bpp_headerless": quality / 40,
                "n_images": 12,
                "psnr": psnr,
                "psnr_mean": psnr,
                "dataset": "photos",
                "split": "eval",
                **changes,
            }
        )
        for method, model in (("jpeg", "4:2:0"), ("webp", None))
        for quality, psnr in zip(QUALITIES, (25.0, math.inf), strict=True)
    ]


def _pixels(*shape):
    """Smooth random pictures."""
    seed = np.random.default_rng(0).integers(0, 256, (*shape, 2, 2, 3), dtype=np.uint8)
    return seed.repeat(SIZE // 2, -3).repeat(SIZE // 2, -2)


def _write_sweep(workdir, *, seed=7, size=SIZE, with_numbers=True, **changes):
    folder = workdir / "eval"
    results.write_rate_points(folder / "rd.csv", _sweep_points(**changes))
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, (len(INDEX), size, size, 3), dtype=np.uint8)
    np.savez(
        folder / "reconstructions.npz",
        index=np.array(INDEX),
        original=original,
        gammas=np.array(GAMMAS),
        **{
            name: rng.integers(0, 256, (len(INDEX), len(GAMMAS), size, size, 3), dtype=np.uint8)
            for name in DECODERS
        },
    )
    fields = ("index", "model", "decoder", "level", "gamma", "bits_kl", "bits_bound", "mse", "psnr")
    rows = [
        (index, "unet", decoder, 0.9, gamma, 1.0, 100.0 * 4**level + index, 2.0, 20.5 + level)
        for decoder in DECODERS
        for level, gamma in enumerate(GAMMAS)
        for index in INDEX
    ]
    if with_numbers:
        results.write_table(
            folder / "per_image.csv", fields, [dict(zip(fields, r, strict=True)) for r in rows]
        )
    return original


def _write_codecs(workdir, original, **changes):
    folder = workdir / "eval"
    results.write_rate_points(folder / "rd.csv", _codec_points(**changes))
    arrays = {"index": np.array(INDEX), "original": original}
    for name, method, model in (("jpeg_420", "jpeg", "4:2:0"), ("webp", "webp", "")):
        arrays |= {
            f"{name}/images": _pixels(len(INDEX), len(QUALITIES)),
            f"{name}/level": np.array(QUALITIES),
            f"{name}/bpp": np.array([[0.4, 3.5], [0.5, 4.0]]),
            f"{name}/psnr": np.array([[25.0, math.inf], [26.0, 44.0]]),
            f"{name}/method": np.array(method),
            f"{name}/model": np.array(model),
        }
    np.savez(folder / "reconstructions_baselines.npz", **arrays)


@pytest.fixture
def runs(tmp_path):
    """Workdirs of a sweep and of codecs, with everything that a report can show."""
    sweep, codecs = tmp_path / "unet", tmp_path / "baselines"
    original = _write_sweep(sweep)
    _write_codecs(codecs, original)
    files.write_json(
        sweep / "eval" / "summary.json",
        {
            "model": "unet",
            "checkpoint": "step 5",
            "n_images": 12,
            "bits_per_dim": 3.14159,
            "bits_per_dim_stderr": 0.0123,
            "chain_steps": 100,
            "chain_bits_per_dim": 3.5,
            "chain_bits_per_dim_stderr": None,
            "denoiser_evaluations_per_image": {"flow": [25, 24, 23], "mean": [1, 1, 1]},
            "rate_evaluations_per_image": 100,
            "seconds_per_image": {"sweep": 1.75, "distances": None},
        },
    )
    files.write_json(sweep / "config.json", {"seed": 0, "note": EVIL})
    files.write_json(sweep / "environment.json", {"python": "3.11.7"})
    files.write_json(sweep / "eval" / "environment.json", {"device": "cpu"})
    return [sweep, codecs]


class _Page(html.parser.HTMLParser):
    """Tags with their attributes, the text outside scripts, and what stands in each script."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.scripts, self._open = [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.texts).split())
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag):  # noqa: ARG002
        self._open = ""

    def handle_data(self, data):
        if self._open == "script":
            self.scripts.append(data)
        elif self._open != "style":
            self.texts.append(data)


def _read_number(value):
    return float(value) if isinstance(value, str) else value


def _picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))))


def test_holds_every_rate_point_exactly(runs, tmp_path):
    path = make_report(runs, tmp_path / "out" / "report.html")
    assert path == tmp_path / "out" / "report.html"
    page = _Page(path)
    numbers = {"psnr", "psnr_mean"}
    found = [
        results.RatePoint(**{k: _read_number(v) if k in numbers else v for k, v in point.items()})
        for point in page.data["points"]
    ]
    assert found == [*_sweep_points(), *_codec_points()]
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
    page = _Page(make_report(runs, tmp_path / "r.html", measure_default="fid"))
    assert page.data["measures"][page.data["default_measure"]]["column"] == "fid"
    with pytest.raises(UsageError) as usage:
        make_report(runs, tmp_path / "x.html", measure_default="ssim")
    assert str(usage.value) == f"measure_default: 'ssim' is not one of {', '.join(MEASURES)}"
    with pytest.raises(InputError) as error:
        make_report(runs, tmp_path / "x.html", measure_default="lpips")
    assert str(error.value) == "nothing to draw: none of the 16 rate points has lpips"
    assert not (tmp_path / "x.html").exists()


def test_distances_in_different_features_get_axes_of_their_own(tmp_path):
    points = [*_sweep_points(), *_sweep_points(model="vdm", fid_features="inception_v3_fid")]
    results.write_rate_points(tmp_path / "rd.csv", points)
    page = _Page(make_report([tmp_path / "rd.csv"], tmp_path / "r.html"))
    assert [measure["name"] for measure in page.data["measures"][2:]] == [
        "Fréchet distance (EfficientNet-Lite0), 12 images",
        "FID (Inception), 12 images",
    ]
    assert "Fréchet distance (EfficientNet-Lite0) over 12 images." in page.text
    assert "FID (Inception) over 12 images." in page.text


def test_table_leaves_out_empty_columns_only(runs, tmp_path):
    assert {name for name, _, _ in report_sections.COLUMNS} == {*results.FIELDS} - {
        "method",
        "decoder",
    }
    points = _sweep_points(kid=0.5, kid_stderr=0.25, ms_ssim=0.875)
    results.write_rate_points(runs[0] / "eval" / "rd.csv", points)
    page = _Page(make_report(runs, tmp_path / "r.html"))
    headings = page.text[
        page.text.index("All rate points") : page.text.index("DiffC-F (flow) unet bound")
    ]
    assert "Fréchet kernel ± kernel features MS-SSIM images" in headings
    assert "LPIPS" not in headings
    assert "(EfficientNet-Lite0) and kernel distance (EfficientNet-Lite0) over 12" in page.text


def test_lines_look_as_in_the_figures(runs, tmp_path):
    page = _Page(make_report(runs, tmp_path / "r.html"))
    expected = style.series_of([*_sweep_points(), *_codec_points()])
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


def test_pictures_are_exact(runs, tmp_path):
    page = _Page(make_report(runs, tmp_path / "r.html"))
    (found,) = page.data["pictures"]
    assert found["index"] == list(INDEX)
    with np.load(runs[0] / "eval" / "reconstructions.npz") as sweep:
        for row in range(len(INDEX)):
            np.testing.assert_array_equal(_picture(found["originals"][row]), sweep["original"][row])
        assert [s["label"] for s in found["series"]] == [
            *("DiffC-F (flow)", "DiffC-A (ancestral)", "DiffC-D (posterior mean)", "κ = 1.5"),
            *("JPEG 4:2:0", "WebP"),
        ]
        flow = found["series"][0]
        assert flow["columns"] == 2
        sprite = _picture(flow["sprites"][1])
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


def test_files_of_the_codec_are_shown_beside_the_bound(runs, tmp_path):
    sweep = runs[0] / "eval"
    own = {"method": "diffc_codec", "model": "unet", "decoder": "flow", "gamma": -1.0}
    points = [*results.read_rate_points(sweep / "rd.csv"), *_codec_points(**own)[:2]]
    results.write_rate_points(sweep / "rd.csv", points)
    with np.load(sweep / "reconstructions.npz") as arrays:
        pictures = {
            "images": arrays["flow"],
            "level": arrays["gammas"],
            "bpp": np.array([[0.25, 1.0, 4.0]] * 2),
            "psnr": np.array([[20.0, 25.0, 30.0]] * 2),
            "method": np.array("diffc_codec"),
            "model": np.array("unet"),
            "decoder": np.array("flow"),
        }
        shared = {name: arrays[name] for name in ("index", "original")}
    named = {f"codec/flow/{name}": array for name, array in pictures.items()}
    np.savez(sweep / "reconstructions_codec.npz", **shared, **named)
    page = _Page(make_report(runs, tmp_path / "r.html"))
    lines = [(line["group"], line["label"]) for line in page.data["series"]]
    assert ("DiffC, unet (file bytes)", "DiffC-F files") in lines
    line = page.data["series"][lines.index(("DiffC, unet (file bytes)", "DiffC-F files"))]
    (shown,) = page.data["pictures"]
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
    _write_sweep(tmp_path / "again", checkpoint="step 6")
    page = _Page(make_report([*runs, tmp_path / "again"], tmp_path / "r.html"))
    series = page.data["pictures"][0]["series"]
    assert {s["model"] for s in series} == {"unet", "unet (2)", None}
    assert len({(s["model"], s["label"]) for s in series}) == 10


def test_asks_the_network_for_nothing(runs, tmp_path):
    path = make_report(runs, tmp_path / "r.html")
    page = _Page(path)
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
    evil = [dataclasses.replace(p, dataset=EVIL) for p in (*_sweep_points(), *_codec_points())]
    workdir = tmp_path / "<b>&run"
    shutil.copytree(runs[0], workdir)
    results.write_rate_points(workdir / "eval" / "rd.csv", evil)
    page = _Page(make_report([workdir], tmp_path / "r.html"))
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
    page = _Page(make_report(runs, tmp_path / "r.html"))
    assert page.text.startswith("DiffC on photos eval: rate and distortion")
    for sentence in (
        "16 rate points measured on 12 images of photos eval.",
        "Compared with JPEG 4:2:0 and WebP.",
        "unet (unet, step 5): 3.1416 ± 0.0123 bits/dim over 12 images.",
        "Fréchet distance (EfficientNet-Lite0) over 12 images.",
        "unet unet step 5 12 3.1416 ± 0.0123 3.5000 (T = 100) 1.75",
        "s/image, distances s/image, sweep",
        "Seconds for each image are empty where an evaluation computed nothing",
        "unet: network evaluations for each image, and 100 for its rates",
        "DiffC-F (flow) 25 24 23",
        "The figure needs JavaScript; the tables below hold all its numbers.",
        '"python": "3.11.7"',
        '"device": "cpu"',
        f"python experiments/train.py --config=CONFIG --workdir={runs[0]}",
        f"python experiments/evaluate.py --config=CONFIG --workdir={runs[0]}",
        f"python experiments/baselines.py --config=CONFIG --workdir={runs[1]}",
        "The noise of the evaluation has the seed 0.",
        "baselines: no config.json and environment.json.",
    ):
        assert sentence in page.text


def test_seconds_of_older_runs_are_of_the_sweep(runs, tmp_path):
    files.write_json(runs[0] / "eval" / "summary.json", {"model": "unet", "seconds_per_image": 2.5})
    page = _Page(make_report(runs, tmp_path / "r.html"))
    assert "s/image, sweep unet unet not measured not measured 2.5" in page.text
    assert "distances" not in page.text
    assert "are empty where" not in page.text


def test_says_what_is_missing(runs, tmp_path):
    results.write_rate_points(tmp_path / "bare" / "eval" / "rd.csv", _sweep_points(fid=None))
    page = _Page(make_report([tmp_path / "bare"], tmp_path / "r.html"))
    for sentence in (
        "bare: no pictures (eval/reconstructions.npz or eval/reconstructions_baselines.npz).",
        "bare: no bits/dim, times and network evaluations (eval/summary.json).",
        "bare: no config.json and environment.json.",
    ):
        assert sentence in page.text
    assert page.data["pictures"] == []
    assert [measure["column"] for measure in page.data["measures"]] == ["psnr", "psnr_mean"]
    (runs[0] / "eval" / "per_image.csv").unlink()
    page = _Page(make_report(runs, tmp_path / "r.html"))
    assert "unet: no rates for its pictures (eval/per_image.csv)." in page.text
    assert [s["label"] for s in page.data["pictures"][0]["series"]] == ["JPEG 4:2:0", "WebP"]
    page = _Page(make_report([runs[1] / "eval" / "rd.csv"], tmp_path / "r.html"))
    assert page.text.count("Only tables of rate points were given, no folders of runs.") == 4


def test_broken_files_are_named(runs, tmp_path):
    summary = runs[0] / "eval" / "summary.json"
    summary.write_text("[]")
    with pytest.raises(InputError) as error:
        make_report(runs, tmp_path / "r.html")
    assert str(error.value) == f"{summary}: is not a JSON object"
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
def test_pictures_of_different_images_do_not_mix_silently(runs, tmp_path, size):
    _write_sweep(tmp_path / "other", seed=8, size=size)
    inputs = [runs[1], tmp_path / "other"]
    with pytest.raises(InputError) as error:
        make_report(inputs, tmp_path / "r.html")
    assert str(error.value) == (
        "reconstructions: the inputs show different images: 16x16 pixels, index 0, 3; "
        f"{size}x{size} pixels, index 0, 3; evaluate all of them on the same images, or set "
        "allow_mixed_data"
    )
    page = _Page(make_report(inputs, tmp_path / "r.html", allow_mixed_data=True))
    assert [found["width"] for found in page.data["pictures"]] == [SIZE, size]


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
    page = _Page(
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


def test_same_results_give_the_same_bytes(runs, tmp_path):
    first, second = (make_report(runs, tmp_path / name) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()


_DRIVER = pathlib.Path(__file__).with_name("html_report_driver.js")
_LISTENERS = """<script>
const errors = [];
let saved;
URL.createObjectURL = (blob) => { saved = blob; return "data:,"; };
addEventListener("error", (e) => errors.push(e.message));
addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => errors.push(`policy: ${e.effectiveDirective}`));
</script>"""


# A frame, because windows have a least width that is more than a phone's.
_FRAME = """<!doctype html><iframe src="driven.html" width="{width}" height="900" style="border:0"></iframe>
<pre id="driven"></pre>
<script>addEventListener("message", (e) => driven.textContent = e.data);</script>"""


def _drive(chromium, path, folder, width):
    """Opens the page in a browser, with a reader's hands injected; gives what they noted."""
    text = path.read_text(encoding="utf-8").replace("<head>", f"<head>{_LISTENERS}", 1)
    hands = f"<script>{{{_DRIVER.read_text()}}}</script></body>"
    (folder / "driven.html").write_text(text.replace("</body>", hands), encoding="utf-8")
    (folder / "frame.html").write_text(_FRAME.format(width=width))
    shown = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--dump-dom"),
            *("--virtual-time-budget=20000", (folder / "frame.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r'<pre id="driven">(.+?)</pre>', shown, re.DOTALL)
    assert found, shown[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [360, 1280])
def test_works_in_a_browser(runs, tmp_path, width):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: the page's script was not run")
    path = make_report(runs, tmp_path / "r.html")
    seen = _drive(chromium, path, tmp_path, width)
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
        "Bars: standard error over the images. Triangles on the bottom edge: distance 0."
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
        *(*_sweep_points(), *_codec_points()),
    ]
