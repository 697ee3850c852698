"""Variables of Flax modules by the names, and in the layouts, that PyTorch gives them."""

from collections.abc import Mapping

import flax.traverse_util
import numpy as np
from jaxtyping import PyTree

from diffc_jax.runtime.tensor_checks import Shape

# What PyTorch calls the leaves of Flax's layers.
_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def torch_shapes(template: PyTree) -> dict[str, Shape]:
    """Shapes that the state dict of the same module in PyTorch has, by its names.

    `template` is one collection of variables: nested dicts of arrays or shapes.
    """
    leaves = flax.traverse_util.flatten_dict(template)
    return {_name(path): torch_shape(leaf.shape) for path, leaf in leaves.items()}


def from_state_dict(state_dict: Mapping[str, np.ndarray], template: PyTree) -> PyTree:
    """Variables like `template`, float32, from tensors of the shapes of `torch_shapes`."""
    leaves = flax.traverse_util.flatten_dict(template)
    return flax.traverse_util.unflatten_dict(
        {path: flax_layout(state_dict[_name(path)]) for path in leaves}
    )


def _name(path: tuple[str, ...]) -> str:
    return ".".join((*path[:-1], _NAMES[path[-1]]))


def torch_shape(shape: Shape) -> Shape:
    """The shape that PyTorch has for one of Flax.

    Its (outputs, inputs, positions...) are (positions..., inputs, outputs) here.
    """
    return (*shape[:-3:-1], *shape[:-2])


def flax_layout(array: np.ndarray) -> np.ndarray:
    """A tensor as float32 in the layout that `torch_shape` comes from."""
    array = array.astype(np.float32)
    if array.ndim == 1:
        return array
    return np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))
