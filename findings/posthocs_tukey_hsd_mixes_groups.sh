#!/usr/bin/env bash
# scikit-posthocs' Tukey HSD mixes groups, or counts rows several times, after pandas.concat.
#
# Guess:  `posthoc_tukey_hsd(frame, "value", "group")` does not depend on the index of the frame.
# Seen:   with labels that come more than once, as `pd.concat` of frames leaves them,
#         - one frame for each group: all groups are the same to it, p = 1 instead of 2e-10;
#         - one frame for each run of an experiment with all groups in it: rows count as often
#           as there are runs. With 5 runs of pure noise 56 % of the experiments have a
#           "significant" difference at 5 %, and 2 % after renumbering.
#         After `reset_index(drop=True)` it agrees with SciPy, and so do the other functions of
#         the package (posthoc_tukey, posthoc_ttest, posthoc_dunn, ...) with any index.
# Why:    it takes the labels of the rows of each group (`groupby(...).groups.values()`) and
#         looks them up with `x.loc[labels]`, which returns every row with such a label, once for
#         each time it is asked for.
# Source: https://github.com/maximtrp/scikit-posthocs, posthoc_tukey_hsd in
#         scikit_posthocs/_posthocs.py; no issue was found.
# Hurts:  who collects results of runs or files with `pd.concat(frames)`, whose default keeps the
#         labels. Nothing warns, and both false alarms and missed effects look plausible.
# Cure:   pd.concat(frames, ignore_index=True), or reset_index(drop=True).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  scikit-posthocs==0.17.1 pandas==3.1.1 scipy==1.17.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import scikit_posthocs
import scipy.stats

print("scikit-posthocs", version("scikit-posthocs"), "pandas", pd.__version__)
rng = np.random.default_rng(0)
UPPER = np.triu_indices(3, 1)


def smallest(frame):
    """Smallest p value of the pairs of groups."""
    table = scikit_posthocs.posthoc_tukey_hsd(frame, "value", "group")
    return float(table.to_numpy()[UPPER].min())


def run(values, **shifts):
    """A frame with some values for each group."""
    return pd.concat(
        [pd.DataFrame({"value": rng.normal(shift, 1, values), "group": group})
         for group, shift in shifts.items()],
        ignore_index=True,
    )


groups = [run(20, a=0), run(20, b=2), run(20, c=0.2)]
kept, renumbered = pd.concat(groups), pd.concat(groups, ignore_index=True)
right = float(scipy.stats.tukey_hsd(*(group.value for group in groups)).pvalue[UPPER].min())
missed, found = smallest(kept), smallest(renumbered)
other = scikit_posthocs.posthoc_tukey(kept, "value", "group").to_numpy()[UPPER].min()
print(f"means 0, 2, 0.2; one frame for each group: p = {missed:.2g}; after renumbering "
      f"{found:.2g}; SciPy {right:.2g}; posthoc_tukey {other:.2g}")

EXPERIMENTS, alarms = 100, np.zeros(2)
for _ in range(EXPERIMENTS):
    runs = [run(6, a=0, b=0, c=0) for _ in range(5)]
    alarms += [smallest(pd.concat(runs)) < 0.05,
               smallest(pd.concat(runs, ignore_index=True)) < 0.05]
alarms /= EXPERIMENTS
print(f"equal means; 5 runs of all groups: {alarms[0]:.0%} of experiments are significant at "
      f"5 %; after renumbering {alarms[1]:.0%}")

if not (missed > 0.99 and max(found, right, other) < 1e-6
        and alarms[0] > 0.4 and alarms[1] < 0.15):
    sys.exit("no longer seen: the index has no effect")
print("seen: rows are looked up by labels that are not unique")
PYTHON
