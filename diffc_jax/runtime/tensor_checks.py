"""Tensors of others' checkpoints, checked by name."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from diffc_jax.errors import InputError

Shape = tuple[int, ...]


def check_tensors(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], complaint: str
) -> None:
    """Refuses anything but finite floats of the given names and shapes.

    Raises:
        InputError: as of `check_names_and_shapes`; or tensors of integers, or with NaN or infinity.
    """
    check_names_and_shapes(tensors, shapes, complaint)
    unfit = [name for name in shapes if not _is_finite(tensors[name])]
    refuse(complaint, "are not finite floats", unfit)


def _is_finite(tensor: np.ndarray) -> bool:
    floating = jnp.issubdtype(tensor.dtype, jnp.floating)  # NumPy does not count bfloat16
    return floating and bool(np.isfinite(tensor.astype(np.float32)).all())


def check_names_and_shapes(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], complaint: str
) -> None:
    """Refuses anything but tensors of the given names and shapes.

    Raises:
        InputError: missing, unexpected or wrongly shaped tensors; see `refuse`.
    """
    refuse(complaint, "are missing", [name for name in shapes if name not in tensors])
    refuse(complaint, "are unexpected", [name for name in tensors if name not in shapes])
    wrong = [name for name in shapes if tensors[name].shape != shapes[name]]
    for name in wrong[:1]:
        detail = f" ({tensors[name].shape} instead of {shapes[name]})"
        refuse(complaint, "have another shape", wrong, detail)


def refuse(complaint: str, flaw: str, names: Sequence[str], detail: str = "") -> None:
    """Raises InputError if there are tensors with this flaw; it says how many, and names the first.

    `complaint` is how it begins: where the tensors come from, and what they are not.
    """
    if names:
        raise InputError(
            f"{complaint}: {len(names)} tensors {flaw}, the first is {names[0]!r}{detail}"
        )
