"""Rate points to draw, and what figures say about them."""

import dataclasses
import math

from matplotlib.figure import Figure
from matplotlib.text import Text

from diffc_jax.evaluation import results
from diffc_jax.plotting import style

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def make_points(**kwargs) -> list[results.RatePoint]:
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


def make_gallery() -> list[results.RatePoint]:
    return [
        *(p for decoder in ("mean", "kappa=1.5", "flow") for p in make_points(decoder=decoder)),
        *make_points(decoder="ancestral"),
        *make_points(model="gaussian"),
        *make_points(model="vdm"),
        *make_points(method="hific", model="width 0.125"),
        *make_points(method="hyperprior"),
        *make_points(method="avif"),
        *make_points(method="jpeg", model="4:4:4"),
        *make_points(method="jpeg", model="4:2:0"),
        *make_points(method="jpegxl"),
        *make_points(method="hevc"),
        *make_points(method="dithered_pcm"),
        *make_points(method="vvc"),
    ]


def make_published(dataset: str = "imagenet64") -> list[results.RatePoint]:
    kwargs = {"dataset": dataset, "split": None, "n_images": 10000, "bpp_stderr": None}
    kwargs["psnr_mean_stderr"] = None
    return [
        *(p for name in style.PUBLISHED for p in make_points(method=f"published:{name}", **kwargs)),
        *make_points(method="published:diffc-f", rate_kind="bound", n_rate_steps=20, **kwargs),
        *make_points(method="published:unheard-of", **kwargs),
    ]


def make_judged(**kwargs) -> list[results.RatePoint]:
    """Points that have every measure."""
    return [
        dataclasses.replace(
            p,
            fid=20 / (1 + p.bpp),
            kid=1 / (1 + p.bpp),
            lpips=0.5 - p.bpp / 10,
            fid_features="efficientnet_lite0",
        )
        for p in make_points(**kwargs)
    ]


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.findobj(Text) if text.get_text()]


def caption_of(figure: Figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
