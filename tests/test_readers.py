"""Every reader of files takes a spoilt file or refuses it in one line; benchmarks/readers.py lists them."""

import ast
import contextlib
import pathlib
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS

from diffc_jax.errors import DiffcError

ROOT = pathlib.Path(__file__).parents[1]
# What opens files that others may have made, or written by hand.
OPENERS = re.compile(
    r"json\.loads?|np\.(load|memmap|fromfile)|np\.lib\.format\.(open|read)_\w+|pickle\._?Unpickler|pickle\.loads?"
    r"|tarfile\.open|zipfile\.ZipFile|csv\.(Dict)?[rR]eader|safetensors\.(numpy\.)?(safe_open|load\w*)"
    r"|.*msgpack_restore|PIL\.Image\.open|.*\.ArrayRecordReader|tfds\.builder\w*|.*\.jpegxl_decode"
)
# They open what this package, or the process itself, has made in memory.
OWN = {"runtime.images"}


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Makes the valid files of a reader, once, and gives the one that is spoilt with its bytes."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("files") / "made"
            folder.mkdir()
            READERS[name].make(folder)
            path = folder / READERS[name].file
            made[name] = path, path.read_bytes()
        return made[name]

    return make


@pytest.mark.parametrize("name", READERS)
@settings(
    derandomize=True,
    database=None,
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(rng=st.randoms(use_true_random=False))
@pytest.mark.filterwarnings("ignore")  # of libraries, about what is wrong
def test_spoilt_files_are_read_or_refused(name, valid, rng):
    path, content = valid(name)
    path.write_bytes(READERS[name].mutate(rng, content))
    with contextlib.suppress(DiffcError):
        READERS[name].read(path)


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name, valid):
    path, content = valid(name)
    path.write_bytes(content)
    READERS[name].read(path)


def modules(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def test_whatever_opens_files_is_in_the_table():
    opening = set()
    for path, tree in modules("diffc_jax", "experiments", "scripts"):
        used = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        if any(OPENERS.fullmatch(one) for one in used):
            opening.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    listed = {f"diffc_jax.{reader.module}" for reader in READERS.values() if reader.module}
    assert opening - {f"diffc_jax.{name}" for name in OWN} == listed


def test_json_is_read_with_its_type():
    untyped = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in modules("diffc_jax", "experiments", "scripts")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(files\.)?(read|parse)_json", ast.unparse(node.func))
        and len(node.args) < 2 + ("parse" in ast.unparse(node.func))
    ]
    assert untyped == []
