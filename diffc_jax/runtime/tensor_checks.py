"""Tensors of others' checkpoints, checked by name."""

from collections.abc import Collection, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from diffc_jax.errors import InputError

Shape = tuple[int, ...]


def check_tensors(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], complaint: str
) -> None:
    """Refuses anything but floats of the given names and shapes that are finite as float32.

    Raises:
        InputError: as of `check_names_and_shapes`; or tensors of integers, or with NaN or infinity.
    """
    check_names_and_shapes(tensors, shapes, complaint)
    unfit = [name for name in shapes if not _is_finite(tensors[name])]
    refuse(complaint, "are not finite floats", unfit)


def _is_finite(tensor: np.ndarray) -> bool:
    floating = jnp.issubdtype(tensor.dtype, jnp.floating)  # NumPy does not count bfloat16
    with np.errstate(over="ignore"):  # found here
        return floating and bool(np.isfinite(tensor.astype(np.float32)).all())


def check_names_and_shapes(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], complaint: str
) -> None:
    """Refuses anything but tensors of the given names and shapes.

    Raises:
        InputError: missing, unexpected or wrongly shaped tensors, see `refuse`; or all of them under other
            names, as in wrapped checkpoints.
    """
    if cause := _other_names(tensors.keys(), shapes.keys()):
        raise InputError(f"{complaint}: {cause}")
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


def _other_names(found: Collection[str], needed: Collection[str]) -> str:
    """How the needed names are written in `found`, if they are all there but not as they should be."""
    written = {name.replace(".", "/"): name for name in found}
    first = min(needed, key=len, default="").replace(".", "/")
    if not first or set(needed) <= set(found):
        return ""
    plain = {name.replace(".", "/") for name in needed}
    wrappers = sorted(
        {
            written[name][: len(name) - len(first)]
            for name in written
            if name.endswith(first)
            and {name[: len(name) - len(first)] + one for one in plain} <= written.keys()
        }
    )
    if "" in wrappers:
        return f"names like {min(found)!r} join their parts by another sign than {min(needed)!r}"
    if wrappers:
        names = " and ".join(map(repr, wrappers))
        return (
            f"its tensors are wrapped, their names begin with {names}; save what is below that, under its"
            " own names"
        )
    heads = {one[: len(one) - len(name)] for one in plain for name in written if one.endswith(name)}
    for head in sorted(heads):
        if head and {head + name for name in written} == plain:
            return f"the names of its tensors lack {head!r} at the beginning; save the tree above them too"
    return ""
