"""What the pages of this project are made of: parts of templates, data and images, all in one file."""

import base64
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.colors import to_hex, to_rgb

from diffc_jax.runtime.images import encode_image

_TEMPLATE = "report_template"
_DARK_BACKGROUND = "#15171a"  # --paper of report.css in dark mode
_DARK_CONTRAST = 4.5


def read_part(name: str) -> str:
    """A file of the templates."""
    folder = resources.files("diffc_jax.plotting") / _TEMPLATE
    return (folder / name).read_text(encoding="utf-8")


def make_page(body_template: str, parts: Mapping[str, str]) -> str:
    """The page whose body is a template, with every part in its place.

    `parts` are those of the body, and `generator`, `title`, `style`, `summary`, `data` and `script`.
    """
    return _fill("page.html", {**parts, "body": _fill(body_template, parts)})


def _fill(name: str, parts: Mapping[str, str]) -> str:
    """In one pass: what is filled in is never searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read_part(name))


def embedded_json(value: Any) -> str:
    """JSON that can neither end nor comment out the script element around it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(image: UInt8[np.ndarray, "h w *c"]) -> str:
    """A lossless image; at most 16,383 pixels on a side."""
    # Denser settings take ninety times as long for 3 % of the size.
    webp = encode_image(image, "WEBP", lossless=True, method=2, quality=50)
    return file_uri(webp, "image/webp")


def file_uri(data: bytes, kind: str) -> str:
    """A file of this MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def on_dark(color: str) -> str:
    """The colour with as much white in it as a line on the dark page needs."""
    rgb, background = np.array(to_rgb(color)), _luminance(np.array(to_rgb(_DARK_BACKGROUND)))
    for white in np.arange(0.0, 1.0, 0.05):
        mixed = rgb + white * (1 - rgb)
        if (_luminance(mixed) + 0.05) / (background + 0.05) >= _DARK_CONTRAST:
            break
    return to_hex((mixed[0], mixed[1], mixed[2]))


def _luminance(rgb: np.ndarray) -> float:
    """Relative luminance of sRGB values in 0..1, as WCAG 2 defines it."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))
