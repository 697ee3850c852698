#!/usr/bin/env bash
# statsmodels' root mean squared percentage error is neither a percentage nor a fraction.
#
# Guess:  `rmspe(y, forecast)` of forecasts that are all 10 % too low is 10 (percent), or 0.1, and
#         does not depend on whether the numbers are integers or the same floats.
# Seen:   1.0; for errors of 1, 10, 20 and 100 % it is 0.1, 1, 2 and 10: ten times the fraction.
#         For integers it is 0, as long as all errors are below 100 %: of Poisson counts around 50
#         and their mean 0 instead of 15.2 %. (There is no warning with `zeros=0`; with the
#         default of NaN there is one about a cast.)
# Why:    the factor 100 stands below the root: sqrt(mean(fraction ** 2) * 100). And fractions are
#         put in `np.full_like(y - forecast, zeros)`, an array of integers that cuts them off.
# Source: https://github.com/statsmodels/statsmodels, rmspe in statsmodels/tools/eval_measures.py,
#         there since 2020 (issue 6773 asked for it); no issue was found. Its tests compare with the
#         same formula.
# Hurts:  evaluations of forecasts and regressions: numbers that are compared with those of papers
#         or other libraries are 10 times too good (or too bad), and those of counts are 0.
# Cure:   `100 * np.sqrt(np.mean(((y - forecast) / y) ** 2))`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import statsmodels
from statsmodels.tools.eval_measures import rmspe

print("statsmodels", statsmodels.__version__, "numpy", np.__version__)


def by_loop(actual, forecast):
    """In percent, in plain Python."""
    squares = [((float(a) - float(f)) / float(a)) ** 2 for a, f in zip(actual, forecast)]
    return 100 * (sum(squares) / len(squares)) ** 0.5


actual = np.array([100.0, 200.0, 300.0, 400.0])
scale = []
for percent in (1, 10, 20, 100):
    forecast = actual * (1 - percent / 100)
    seen = float(rmspe(actual, forecast))
    scale.append(seen / percent)
    print(f"all forecasts {percent:3} % too low: rmspe {seen:6.3f}, "
          f"by hand {by_loop(actual, forecast):7.3f} %")

counts = np.random.default_rng(0).poisson(50, 1000)
mean = np.full(1000, 50)
floats = float(rmspe(counts.astype(float), mean.astype(float), zeros=0))
integers = float(rmspe(counts, mean, zeros=0))
print(f"Poisson counts ({counts.min()} to {counts.max()}) and 50: rmspe {floats:.3f} as floats, "
      f"{integers:.3f} as integers, by hand {by_loop(counts, mean):.3f} %")
if not (np.allclose(scale, 0.1) and integers == 0 and floats > 1):
    sys.exit("no longer seen: rmspe is a percentage or a fraction, of integers too")
print("seen: rmspe is ten times the fraction, and 0 for integers")
PYTHON
