"""Exported parameters come back as they were, and others are refused by name."""

import hashlib
import json
import struct

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from diffc_jax.errors import InputError
from diffc_jax.runtime.digests import sealed
from diffc_jax.runtime.export import export_params, load_params, read_card, read_history
from tests.support.processes import run_program
from tests.support.refusals import fails


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


def refusal(path, template):
    with pytest.raises(InputError) as caught:
        load_params(path, shapes(template))
    return str(caught.value)


def test_round_trip(tree, tmp_path):
    path = tmp_path / "new" / "params.safetensors"
    card = {"model": {"name": "unet"}, "steps": 3, "dataset": "photos"}
    export_params(path, tree, card)
    loaded = load_params(path, shapes(tree))
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert json.loads((tmp_path / "new" / "params.json").read_text()) == sealed(card)
    assert {p.name for p in path.parent.iterdir()} == {"params.safetensors", "params.json"}


def test_other_parameters_are_named(tree, tmp_path):
    path = tmp_path / "params.safetensors"
    export_params(path, tree, {})

    def message(template):
        return refusal(path, template)

    wider = shapes(tree)
    wider["params"]["model"]["conv"]["bias"] = jax.ShapeDtypeStruct((4,), jnp.float32)
    complaint = f"{path}: does not hold the model that is needed"
    name = "the first is 'params/model/conv/bias'"
    assert (
        message(wider)
        == f"{complaint}: 1 tensors have another shape, {name} ((3,) instead of (4,))"
    )
    more = shapes(tree)
    more["fixed"]["variances"] = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert message(more) == (f"{complaint}: 1 tensors are missing, the first is 'fixed/variances'")
    fewer = shapes(tree)
    del fewer["fixed"]["mean"]
    assert message(fewer) == (f"{complaint}: 1 tensors are unexpected, the first is 'fixed/mean'")

    for value in (np.nan, -np.inf):
        broken = {**tree, "fixed": {"mean": np.asarray(value, np.float32)}}
        export_params(path, broken, {})
        assert message(shapes(tree)) == (
            f"{path}: 'fixed/mean' holds NaN or infinity; the model was damaged or its training diverged"
        )

    missing = tmp_path / "missing.safetensors"
    with pytest.raises(InputError, match=r"missing\.safetensors: cannot be read \(No such file"):
        load_params(missing, shapes(tree))


def flat(tree):
    return flax.traverse_util.flatten_dict(jax.device_get(tree), sep="/")


@pytest.mark.parametrize(
    ("rename", "cause"),
    [
        (
            lambda name: f"module.{name}",
            "its tensors are wrapped, their names begin with 'module.'; save what is below that, under its"
            " own names",
        ),
        (
            lambda name: f"state_dict/ema/{name}",
            "its tensors are wrapped, their names begin with 'state_dict/ema/'; save what is below that,"
            " under its own names",
        ),
        (
            lambda name: name.replace("/", "."),
            "names like 'fixed.mean' join their parts by another sign than 'fixed/mean'",
        ),
    ],
)
def test_wrapped_names_are_told(tree, tmp_path, rename, cause):
    path = tmp_path / "params.safetensors"
    arrays = {rename(name): np.asarray(array) for name, array in flat(tree).items()}
    safetensors.numpy.save_file(arrays, path)
    complaint = f"{path}: does not hold the model that is needed"
    assert refusal(path, tree) == f"{complaint}: {cause}"


def test_two_copies_and_a_tree_cut_short_are_told(tree, tmp_path):
    path = tmp_path / "params.safetensors"
    arrays = {name: np.asarray(array) for name, array in flat(tree).items()}
    copies = {
        f"{head}.{name}": array for head in ("ema", "model") for name, array in arrays.items()
    }
    safetensors.numpy.save_file(copies | {"optimizer.step": np.zeros(1)}, path)
    assert "their names begin with 'ema.' and 'model.'" in refusal(path, tree)
    del tree["fixed"]
    inner = {
        name.removeprefix("params/model/"): array
        for name, array in arrays.items()
        if name.startswith("params/")
    }
    safetensors.numpy.save_file(inner, path)
    assert refusal(path, tree) == (
        f"{path}: does not hold the model that is needed: the names of its tensors lack 'params/model/' at"
        " the beginning; save the tree above them too"
    )


def write_raw(path, kind, n_bytes):
    """A safetensors file with one tensor of two numbers, of a type that NumPy may not have."""
    entry = {"dtype": kind, "shape": [2], "data_offsets": [0, n_bytes]}
    head = json.dumps({"scale": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(n_bytes))


@pytest.mark.parametrize(
    ("kind", "n_bytes", "flaw"),
    [
        ("F8_E4M3", 2, "is F8_E4M3, and only F16, BF16, F32, F64 are read; convert it"),
        ("F8_E5M2", 2, "is F8_E5M2, and only F16, BF16, F32, F64 are read; convert it"),
        ("F4", 1, "is F4, and only F16, BF16, F32, F64 are read; convert it"),
        ("I8", 2, "is int8, not floats"),
        ("BOOL", 2, "is bool, not floats"),
        ("C64", 16, "is complex64, not floats"),
    ],
)
def test_other_numbers_than_floats_are_told(tmp_path, kind, n_bytes, flaw):
    path = tmp_path / "params.safetensors"
    write_raw(path, kind, n_bytes)
    assert refusal(path, {"scale": np.zeros(2, np.float32)}) == f"{path}: 'scale' {flaw}"


def test_numbers_too_large_for_the_type_are_told(tmp_path):
    path = tmp_path / "params.safetensors"
    safetensors.numpy.save_file({"scale": np.array([1e300])}, path)
    assert "'scale' holds NaN or infinity" in refusal(path, {"scale": np.zeros(1, np.float32)})


def test_cards_are_read_and_may_be_missing(tmp_path):
    path = tmp_path / "params.safetensors"
    assert read_history(path) == {}
    path.with_suffix(".json").write_text('{"bits": NaN}')
    assert read_history(path) == {"bits": None}
    path.with_suffix(".json").write_text("[]")
    card = f"{tmp_path}/params.json"
    asked = "is it the card of the weights beside it?"
    fails(
        InputError, f"{card}: expected `object`, got `array`; {asked}", lambda: read_history(path)
    )
    for read, content, flaw in (
        (read_history, '{"image_size": 0}', "image_size: expected `int` >= 1"),
        (read_card, '{"image_size": 8}', "object missing required field `model`"),
    ):
        path.with_suffix(".json").write_text(content)
        fails(InputError, f"{card}: {flaw}; {asked}", lambda read=read: read(path))


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
    card = {
        "steps": 3,
        "stored_as": "float16",
        "packed_from_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    assert json.loads(output.with_suffix(".json").read_text()) == sealed(card)

    before = source.read_bytes()
    done = pack(source, tmp_path / "weights" / ".." / "params.safetensors")
    assert (done.returncode, source.read_bytes()) == (2, before)
    assert done.stderr.endswith(
        "is the input, whose parameters would be lost; choose another name\n"
    )

    tree["params"]["model"]["kernel"] = np.full((3, 5), 7e4, np.float32)
    export_params(source, tree, {"steps": 3})
    done = pack(source, output)
    assert (done.returncode, done.stderr) == (
        1,
        f"pack_weights.py: error: {source}: 'params/model/kernel' holds values that float16 does not have\n",
    )
    tree["params"] = {"autoencoder": {"kernel": values}}  # as HiFiC exports
    export_params(source, tree, {"steps": 3})
    done = pack(source, tmp_path / "hific.safetensors")
    assert (done.returncode, done.stderr) == (
        1,
        f"pack_weights.py: error: {source}: is no denoiser of DiffC; no tensor is called params/model/...\n",
    )
    done = pack(source, tmp_path / "small.npz")
    assert (done.returncode, done.stderr) == (
        2,
        f"pack_weights.py: error: --output {tmp_path / 'small.npz'}: must end in .safetensors\n",
    )
