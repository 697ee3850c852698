#!/usr/bin/env bash
# jax.scipy.signal.welch and csd do not average, unless the length of segments is given.
#
# Guess:  `welch(x)` cuts the signal into segments of 256 values and averages their periodograms,
#         as the docstring says ("nperseg: Length of each segment (default: 256)") and SciPy does.
# Seen:   it returns one periodogram of the whole signal. The spectrum of white noise scatters by
#         100 % of its value, however long the signal is (SciPy: 5 % for 65536 values), and has
#         32769 frequencies instead of 129. The coherence of two independent signals, made of
#         `csd` and `welch`, is 1 at all frequencies.
#         With nperseg=256 all of this agrees with SciPy. `stft` has 256 as said.
# Why:    _triage_segments takes the length of the input where `nperseg` is None, and SciPy 256.
# Source: jax/_src/third_party/scipy/signal_helper.py
#         https://github.com/jax-ml/jax/issues/40012 (August 2026, open; on the shapes)
# Hurts:  who moves code from SciPy to JAX: spectra that look like noise, losses on spectra whose
#         targets have no average, and coherences of 1 that prove nothing. Nothing warns.
# Cure:   nperseg=256.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 scipy==1.17.1 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.scipy.signal
import numpy as np
import scipy.signal

print("jax", jax.__version__, "scipy", scipy.__version__)
x, y = np.random.default_rng(0).normal(size=(2, 65_536)).astype(np.float32)


def measure(name, module, **options):
    """Relative scatter of the spectrum of white noise, mean coherence of independent noise."""
    xx, yy = (np.asarray(module.welch(signal, **options)[1]) for signal in (x, y))
    xy = np.asarray(module.csd(x, y, **options)[1])
    inner = slice(2, -2)  # Without the ends, which the removal of the mean and one side change.
    scatter = float(xx[inner].std() / xx[inner].mean())
    coherence = float((np.abs(xy) ** 2 / (xx * yy))[inner].mean())
    print(f"{name:22} {xx.size:6} frequencies, scatter {scatter:.3f}, coherence {coherence:.4f}")
    return scatter, coherence


wrong = measure("jax", jax.scipy.signal)
controls = [
    measure("scipy", scipy.signal),
    measure("jax, nperseg=256", jax.scipy.signal, nperseg=256, detrend="constant"),
    measure("scipy, nperseg=256", scipy.signal, nperseg=256),
]
expected = wrong[0] > 0.9 and wrong[1] > 0.99
expected &= all(scatter < 0.12 and coherence < 0.02 for scatter, coherence in controls)
if not expected:
    sys.exit("no longer seen: welch averages, or the others do not")
print("seen: one periodogram of the whole signal")
PYTHON
