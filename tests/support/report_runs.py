"""Workdirs with everything that a report can show, and a reader of its page."""

import html.parser
import json
import math

import numpy as np

from diffc_jax.evaluation import results
from diffc_jax.runtime import files

GAMMAS = (2.0, -1.5, -4.25)
DECODERS = ("ancestral", "flow", "mean", "kappa=1.5")
QUALITIES = (10.0, 60.0)
INDEX = (0, 3)
SIZE = 16
EVIL = (
    "a</script ><script>document.title='owned'</script><!--<img src=https://example.org/x.png>&amp;"
)


def sweep_points(**changes):
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


def codec_points(**changes):
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
    """Smooth random images."""
    seed = np.random.default_rng(0).integers(0, 256, (*shape, 2, 2, 3), dtype=np.uint8)
    return seed.repeat(SIZE // 2, -3).repeat(SIZE // 2, -2)


def write_sweep(workdir, *, seed=7, size=SIZE, with_numbers=True, **changes):
    folder = workdir / "eval"
    results.write_rate_points(folder / "rd.csv", sweep_points(**changes))
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


def write_codecs(workdir, original, **changes):
    folder = workdir / "eval"
    results.write_rate_points(folder / "rd.csv", codec_points(**changes))
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


def write_runs(folder):
    """Workdirs of a sweep and of codecs, with everything that a report can show."""
    sweep, codecs = folder / "unet", folder / "baselines"
    original = write_sweep(sweep)
    write_codecs(codecs, original)
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
    files.write_json(
        codecs / "eval" / "lossless.json",
        {
            "png": {"bits_per_dim": 5.4, "bits_per_dim_stderr": 0.04},
            "jpegxl": {"bits_per_dim": 3.8, "bits_per_dim_stderr": None},
            "n_images": 12,
            "dataset": "photos",
            "split": "eval",
        },
    )
    files.write_json(sweep / "config.json", {"seed": 0, "note": EVIL})
    files.write_json(sweep / "environment.json", {"python": "3.11.7"})
    files.write_json(sweep / "eval" / "config.json", {"seed": 0, "max_images": 12})
    files.write_json(sweep / "eval" / "environment.json", {"device": "cpu"})
    return [sweep, codecs]


class Page(html.parser.HTMLParser):
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
