"""The public interface: what `diffc_jax` exports, and that its documentation says the same."""

import ast
import inspect
import json
import pathlib
import re
import subprocess
import sys

import pytest

import diffc_jax as dj
from tests.support.processes import ROOT, environment

API = (ROOT / "docs" / "api.md").read_text()
ENTRIES = dict(re.findall(r"^### `(\w+)(?:\(([\w, ]*)\))?`$", API, re.MULTILINE))


def test_every_name_is_documented_and_declared():
    assert sorted(ENTRIES) == sorted(dj.__all__) == sorted(set(dj.__all__))
    tree = ast.parse(pathlib.Path(dj.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = [alias.name for node in block.body for alias in node.names]
    assert sorted(declared) == sorted(dj.__all__)


@pytest.mark.parametrize("name", dj.__all__)
def test_names_resolve_to_what_the_page_says(name):
    value = getattr(dj, name)
    assert name in dir(dj)
    if inspect.isfunction(value):
        assert ENTRIES[name] == ", ".join(inspect.signature(value).parameters)
    if callable(value):
        assert value.__doc__.strip()


def test_other_names_are_refused():
    name = "encode_image"
    with pytest.raises(AttributeError, match=rf"^module 'diffc_jax' has no attribute '{name}'$"):
        getattr(dj, name)


def test_importing_loads_nothing():
    code = "import diffc_jax, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert loaded.isdisjoint({"jax", "numpy", "flax", "scipy", "PIL", "absl"})


def test_types_are_declared():
    assert (ROOT / "diffc_jax" / "py.typed").exists()
    assert re.search(r"^diffc_jax =\n    py.typed$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
