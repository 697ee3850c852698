"""Figures as the pixels that they are drawn with."""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def pixels_of(figure: Figure) -> np.ndarray:
    """RGB, (height, width, 3)."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi="figure")
    return np.asarray(Image.open(stream).convert("RGB"))
