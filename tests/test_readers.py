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
FOLDERS = ("diffc_jax", "experiments", "scripts")
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
    max_examples=20,
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


@pytest.fixture(scope="module")
def nodes():
    """What the files of programs and of the package are made of."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path: list(ast.walk(ast.parse(path.read_text()))) for path in paths}


def test_whatever_opens_files_is_in_the_table(nodes):
    opening = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path, found in nodes.items()
        if any(isinstance(n, ast.Attribute) and OPENERS.fullmatch(ast.unparse(n)) for n in found)
    }
    listed = {f"diffc_jax.{reader.module}" for reader in READERS.values() if reader.module}
    assert opening - {f"diffc_jax.{name}" for name in OWN} == listed


def test_json_is_read_with_its_type(nodes):
    needed = {"read_json": 2, "files.read_json": 2, "parse_json": 3}
    untyped = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, found in nodes.items()
        for node in found
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name | ast.Attribute)
        and len(node.args) < needed.get(ast.unparse(node.func), 0)
    ]
    assert untyped == []
