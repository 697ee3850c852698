"""Exported parameters come back as they were, and others are refused by name."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.runtime.export import export_params, load_params
from tests.support.processes import run_program


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


def pack(source, output):
    return run_program("scripts/pack_weights.py", f"--input={source}", f"--output={output}")


def test_packed_weights_are_the_same_to_half_precision(tree, tmp_path):
    source, output = tmp_path / "params.safetensors", tmp_path / "weights" / "small.safetensors"
    values = np.random.default_rng(0).normal(0.0, 0.1, (3, 5)).astype(np.float32)
    tree["params"]["model"] = {"kernel": values}
    tree["fixed"]["mean"] = np.asarray(1e-7 / 3, np.float32)
    export_params(source, tree, {"steps": 3})
    done = pack(source, output)
    assert done.returncode == 0, done.stderr
    loaded = load_params(output, shapes(tree))
    assert loaded["params"]["model"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(loaded["params"]["model"]["kernel"], values.astype(np.float16))
    assert loaded["fixed"]["mean"] == np.float32(1e-7 / 3)
    assert json.loads(output.with_suffix(".json").read_text()) == {
        "steps": 3,
        "stored_as": "float16",
        "packed_from_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }

    tree["params"]["model"]["kernel"] = np.full((3, 5), 7e4, np.float32)
    export_params(source, tree, {"steps": 3})
    done = pack(source, output)
    assert (done.returncode, done.stderr) == (
        1,
        f"pack_weights.py: error: {source}: 'params/model/kernel' holds values that float16 does not have\n",
    )
    done = pack(source, tmp_path / "small.npz")
    assert (done.returncode, done.stderr) == (
        2,
        f"pack_weights.py: error: --output {tmp_path / 'small.npz'}: must end in .safetensors\n",
    )
