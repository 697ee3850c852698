"""Copies what is worth keeping of a reproduction: tables, PNG figures and the report.

    python scripts/collect_results.py --workdir=W --output=docs/results/NAME

W is a workdir of experiments/reproduce.py. Files that are there already are replaced.
"""

import shutil

from absl import flags

from diffc_jax import cli
from diffc_jax.errors import InputError
from diffc_jax.runtime.files import atomic_write, local_path

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of experiments/reproduce.py.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the copies.")

# Of all images; those of subsets have folders of the same layout.
_KEPT = (
    *("claims.md", "*/eval/rd.csv", "*/eval/summary.json", "*/eval/lossless.json"),
    *("*/eval/samples.csv", "figures/rate_paper_log.png", "figures/rate_lpips_log.png"),
    *("figures/rate_auc_log.png", "figures/spectra.png"),
)
_KEPT_OF_ALL = (
    *("report.html", "*/eval/rate_curve.csv", "*/eval/environment.json"),
    *("figures/rate_psnr_log.png", "figures/rate_bounds_*.png", "figures/coding_cost.png"),
    *("figures/strips_*.png", "*/eval/samples_*.png"),
    *("figures_published/rate_psnr_log.png", "theory/gaussian/*.png", "theory/gaussian/curves.csv"),
)


def main() -> None:
    """Copies each file whole or not at all."""
    workdir, output = (local_path(name) for name in (_WORKDIR.value, _OUTPUT.value))
    if not (workdir / "claims.md").is_file():
        raise InputError(
            f"--workdir {workdir}: has no claims.md, which experiments/reproduce.py writes last"
        )
    patterns = (*_KEPT, *_KEPT_OF_ALL, *(f"*/{pattern}" for pattern in _KEPT))
    kept = sorted({path for pattern in patterns for path in workdir.glob(pattern)})
    for path in kept:
        with atomic_write(output / path.relative_to(workdir)) as temporary:
            shutil.copyfile(path, temporary)
    size = sum(path.stat().st_size for path in kept)
    print(f"{output}: {len(kept)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "output"])
    cli.run(main)
