"""Spectra of Gaussian sources that several tests use."""

import numpy as np

# 768 components, as of 16x16 pixels, that add up to 192.
POWER_LAW = np.arange(1, 769) ** -1.5
POWER_LAW *= 192 / POWER_LAW.sum()
