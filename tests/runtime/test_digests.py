"""Flipped bits and other damage of kept files are noticed, wherever the parts of an array lie."""

import collections
import contextlib
import functools
import json
import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.bit_flips import KINDS, flip_bits, parameters
from diffc_jax.errors import InputError
from diffc_jax.runtime import digests
from diffc_jax.runtime.array_files import open_arrays
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.digests import digest
from diffc_jax.runtime.export import export_params, load_params, read_history

State = collections.namedtuple("State", "step tree")


def test_every_bit_name_type_and_shape_counts():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = {"a": values, "b": np.float32(0.5), "c": np.zeros((0, 4), np.int8)}
    whole = digest(tree)
    assert whole == digest({name: jnp.asarray(array) for name, array in tree.items()})
    assert whole == digest(tree | {"a": np.asfortranarray(values)})
    others = [
        tree | {"a": values.reshape(3, 2)},
        tree | {"a": values.view(np.int32)},
        tree | {"a": values[:, ::-1]},
        tree | {"a": values[::-1]},
        tree | {"b": np.float32(-0.5)},
        {"x": values, "b": tree["b"], "c": tree["c"]},
        {"a": values, "b": tree["b"]},
    ]
    for byte in range(values.nbytes):
        for bit in range(8):
            changed = bytearray(values.tobytes())
            changed[byte] ^= 1 << bit
            others.append(tree | {"a": np.frombuffer(changed, np.float32).reshape(2, 3)})
    found = {digest(one) for one in others} | {digest(tree, "text"), whole}
    assert len(found) == len(others) + 2


@pytest.mark.parametrize("axes", [("x", "y"), ("y", None), (None, "x"), (("x", "y"), None), ()])
def test_a_digest_does_not_depend_on_the_devices(axes):
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("x", "y"))
    array = np.random.default_rng(0).normal(size=(8, 16, 3)).astype(jnp.bfloat16)
    placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))
    assert digest([placed]) == digest([array])


def test_processes_add_up_what_each_of_them_holds(monkeypatch):
    """Two processes are played: each sees half of the devices, and no array is whole in either."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("x",))
    array = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    tree = {
        "divided": jax.device_put(array, NamedSharding(mesh, PartitionSpec("x"))),
        "copied": jax.device_put(array, NamedSharding(mesh, PartitionSpec())),
        "own": array,
    }
    expected, parts, said = digest(tree), digests._parts, []

    def seen(first, leaf):
        if not isinstance(leaf, jax.Array):
            return list(parts(leaf))
        shards = [one for one in leaf.addressable_shards if not one.replica_id]
        return [(s.index, s.data) for s in shards if (s.device.id < 2) == first]

    monkeypatch.setattr(digests, "_is_whole_here", lambda leaf: not isinstance(leaf, jax.Array))
    monkeypatch.setattr(
        digests.multihost_utils,
        "process_allgather",
        lambda sums: said.append(sums) or np.stack([sums]),
    )
    for first in (True, False):
        monkeypatch.setattr(digests, "_parts", functools.partial(seen, first))
        digest(tree)
    monkeypatch.setattr(
        digests.multihost_utils, "process_allgather", lambda sums: np.stack(said[:2])
    )
    assert digest(tree) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_noticed_or_change_nothing(tmp_path, kind):
    folder = tmp_path / "kept"
    folder.mkdir()
    outcomes = flip_bits(KINDS[kind](folder), 24 if kind == "checkpoint" else 60, seed=1)
    assert outcomes["noticed"]
    assert not outcomes["silent"] + outcomes["traceback"]


def test_old_checkpoints_have_no_digest(tmp_path, caplog):
    state = State(jnp.int32(3), jax.tree.map(jnp.asarray, parameters()))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {"seconds": 1.0})
    for file in sorted((tmp_path / "checkpoints" / "3" / "digest").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (tmp_path / "checkpoints" / "3" / "digest").rmdir()
    with caplog.at_level("INFO", "absl"), Checkpoints(tmp_path) as checkpoints:
        restored, progress = checkpoints.restore(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert progress == {"seconds": 1.0}
    said = f"{tmp_path}/checkpoints/3: is of an older version, without a digest of its contents"
    assert caplog.messages.count(said) == 1


def test_the_checkpoint_before_a_damaged_one_is_used_when_that_is_deleted(tmp_path, monkeypatch):
    states = [State(jnp.int32(step), {"w": jnp.full(4, float(step))}) for step in (1, 2)]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(states[0], {})
        monkeypatch.setattr("diffc_jax.runtime.checkpoints.digest", lambda *_: "0" * 32)
        checkpoints.save(states[1], {})
        monkeypatch.undo()
    step = tmp_path / "checkpoints" / "2"
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError) as caught:
        checkpoints.restore(states[0])
    assert str(caught.value) == (
        f"{step}: is damaged (its contents do not fit their digest); delete it to go on from the checkpoint"
        " before it"
    )
    for file in sorted(step.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    step.rmdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(states[0])[0].step == 1


def test_a_list_of_members_that_seems_to_end_early_is_noticed(tmp_path):
    """Damage of the length of a comment hides the arrays behind it."""
    path = tmp_path / "a.npz"
    np.savez(path, first=np.zeros(3), second=np.ones(3))
    with open_arrays(path) as arrays:
        assert arrays.names == ["first", "second"]
    content = bytearray(path.read_bytes())
    entry, last = content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")
    hidden = content.index(b"PK\x05\x06") - last
    content[entry + 32 : entry + 34] = hidden.to_bytes(2, "little")
    path.write_bytes(content)
    text = f"{path}: is not an npz file of arrays (its list of members is damaged)"
    with pytest.raises(InputError, match=re.escape(text)), open_arrays(path):
        pass


def test_exports_of_others_and_edited_cards(tmp_path, caplog):
    path, tree = tmp_path / "params.safetensors", parameters()
    export_params(path, tree, {"seed": 0})
    card = path.with_suffix(".json")
    assert read_history(path) == {"seed": 0}
    assert not caplog.text
    card.write_text(json.dumps({**json.loads(card.read_text()), "seed": 1}))
    assert read_history(path) == {"seed": 1}
    said = f"{card}: was edited or is damaged; it is not as it was written"
    assert caplog.messages == [said]
    card.write_text('{"seed": 0}')  # as in older versions, but these weights are sealed
    assert read_history(path) == {"seed": 0}
    assert caplog.messages == [said, said]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError) as caught:
        load_params(path, tree)
    assert str(caught.value) == (
        f"{path}: is damaged (its contents do not fit their digest); copy or export it again"
    )
    # A file of somebody else, or of an older version.
    path.write_bytes(content.replace(b"diffc_jax_digest", b"someones_numbers"))
    jax.tree.map(np.testing.assert_array_equal, load_params(path, tree), tree)


@pytest.mark.parametrize("seed", range(3))
def test_other_damage_of_a_checkpoint_is_noticed(tmp_path, seed):
    """Cut, swapped and zeroed pieces of its files."""
    folder, bits = tmp_path / "kept", random.Random(seed)
    folder.mkdir()
    kept = KINDS["checkpoint"](folder)
    before = repr(kept.read())
    file = max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = file.read_bytes()
    at, size = bits.randrange(len(content)), bits.randrange(1, 40)
    for damaged in (
        content[:at],
        content[:at] + bytes(size) + content[at + size :],
        content[:at] + content[at : at + size][::-1] + content[at + size :],
    ):
        file.write_bytes(damaged)
        with contextlib.suppress(InputError):
            assert repr(kept.read()) == before
