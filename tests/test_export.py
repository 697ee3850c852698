"""Exported parameters come back as they were, and others are refused by name."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.training.export import export_params, load_params


@pytest.fixture
def tree():
    return {
        "params": {
            "model": {
                "conv": {"kernel": jnp.arange(6.0).reshape(2, 3).T, "bias": jnp.zeros(3)},
                "half": jnp.ones(2, jnp.bfloat16),
            },
            "schedule": {},
        },
        "fixed": {"mean": np.asarray(0.5, np.float32)},
    }


def shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def test_round_trip(tree, tmp_path):
    path = tmp_path / "new" / "params.safetensors"
    card = {"model": {"name": "unet"}, "steps": 3, "dataset": "photos"}
    export_params(path, tree, card)
    loaded = load_params(path, shapes(tree))
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert json.loads((tmp_path / "new" / "params.json").read_text()) == card
    assert {p.name for p in path.parent.iterdir()} == {"params.safetensors", "params.json"}


def test_other_parameters_are_named(tree, tmp_path):
    path = tmp_path / "params.safetensors"
    export_params(path, tree, {})

    def message(template):
        with pytest.raises(InputError) as caught:
            load_params(path, template)
        return str(caught.value)

    wider = shapes(tree)
    wider["params"]["model"]["conv"]["bias"] = jax.ShapeDtypeStruct((4,), jnp.float32)
    name = f"{path}: 'params/model/conv/bias' has shape"
    assert message(wider) == f"{name} (3,), the model needs (4,)"
    more = shapes(tree)
    more["fixed"]["variances"] = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert message(more) == f"{path}: 'fixed/variances' has shape None, the model needs (2,)"
    fewer = shapes(tree)
    del fewer["fixed"]["mean"]
    assert message(fewer) == f"{path}: 'fixed/mean' has shape (), the model needs None"

    for value in (np.nan, -np.inf):
        broken = {**tree, "fixed": {"mean": np.asarray(value, np.float32)}}
        export_params(path, broken, {})
        assert message(shapes(tree)) == (
            f"{path}: 'fixed/mean' holds NaN or infinity; the model was damaged or its training diverged"
        )

    missing = tmp_path / "missing.safetensors"
    with pytest.raises(
        InputError, match=r"missing\.safetensors: is not a readable safetensors file"
    ):
        load_params(missing, shapes(tree))
