"""reconstructions.png: what an evaluation made of its first images, with rates and PSNR."""

import numpy as np

from diffc_jax.plotting import style
from diffc_jax.plotting.grids import GridColumn, reconstruction_grid
from diffc_jax.plotting.reconstructions import CODEC, SWEEP, load_files, load_sweep
from diffc_jax.runtime.files import AnyPath, atomic_write

_SHOWN_LEVELS = 4


def draw_evaluation_grid(folder: AnyPath) -> None:
    """Draws the pictures that an evaluation has kept, at four of its levels; nothing if it kept none.

    Args:
        folder: W/eval, which gets reconstructions.png.

    Raises:
        InputError: a broken file.
    """
    if not (folder / SWEEP).is_file():
        return
    sweep = load_sweep(folder)
    series = [(style.decoder_label(one.decoder or ""), one) for one in sweep.series]
    if (folder / CODEC).is_file():
        files = load_files(folder / CODEC)
        series += [(style.files_label(one.decoder or ""), one) for one in files.series]
    n_levels = len(sweep.series[0].levels)
    shown = np.unique(np.linspace(0, n_levels - 1, _SHOWN_LEVELS).round().astype(int))
    columns = [
        GridColumn(group, one.images[:, level], one.bpp[:, level], one.psnr[:, level])
        for group, one in series
        for level in shown
    ]
    with atomic_write(folder / "reconstructions.png") as temporary:
        reconstruction_grid(sweep.originals, columns).savefig(temporary)
