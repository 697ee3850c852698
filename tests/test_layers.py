"""Imports go downwards only and find what they name; maths reads no files, flags or configs."""

import ast
import contextlib
import graphlib
import importlib
import inspect
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "diffc_jax"
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
# From the top down; layers in one line may import each other. Other modules of the root are for everyone.
LAYERS = (
    ("studies", "conversion"),
    ("commands",),
    ("baselines",),
    ("plotting",),
    ("evaluation",),
    ("training",),
    ("codec",),
    ("channel_simulation", "metrics", "data"),
    ("models",),
    ("theory",),
    ("runtime",),
    ("config",),
    ("diffusion",),
)
# Arrays in, arrays out.
PURE = ("theory", "diffusion", "models", "channel_simulation", "codec")
# The parts of the codec that deal with files.
FILES_OF_CODEC = ("files", "loading", "paths")
# Folders beside the package whose programs use it.
USERS = ("benchmarks", "configs", "examples", "experiments", "scripts", "tests")
MOST_LINES = 400
IMPURE_MODULES = {"absl", "argparse", "ml_collections", "orbax", "pathlib", "os"}


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "diffc_jax" else None


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_imports_go_downwards(number):
    above = {name for layer in LAYERS[:number] for name in layer}
    for name in LAYERS[number]:
        files = sorted((ROOT / name).rglob("*.py")) or [ROOT / f"{name}.py"]
        for path in files:
            for module in imported_modules(path):
                assert layer_of(module) not in above, f"{path.relative_to(ROOT)} imports {module}"


def test_every_folder_is_in_a_layer():
    assert {*FOLDERS, "commands"} == {name for layer in LAYERS for name in layer}


def test_root_modules_import_no_layer_but_config():
    names = {name for layer in LAYERS for name in layer} - {"config", "runtime"}
    for path in ROOT.glob("*.py"):
        if path.stem not in ("commands", "__init__"):
            for module in imported_modules(path):
                assert layer_of(module) not in names, f"{path.name} imports {module}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_of_a_folder_import_no_circle(folder):
    paths = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
        for path in (ROOT / folder).rglob("*.py")
    }
    graph = {name: paths.keys() & imported_modules(path) for name, path in paths.items()}
    graphlib.TopologicalSorter(graph).prepare()  # an error names the circle


@pytest.mark.parametrize("folder", [ROOT.name, "benchmarks", "tests"])
def test_files_are_short(folder):
    for path in sorted((ROOT.parent / folder).rglob("*.py")):
        lines = path.read_text().count("\n")
        assert lines <= MOST_LINES, f"{path.relative_to(ROOT.parent)} has {lines} lines; divide it"


@pytest.mark.parametrize("layer", PURE)
def test_maths_is_pure(layer):
    for path in sorted((ROOT / layer).rglob("*.py")):
        if layer == "codec" and path.stem in FILES_OF_CODEC:
            continue
        roots = {module.split(".")[0] for module in imported_modules(path)}
        assert not roots & IMPURE_MODULES, path.name


def test_nothing_imports_tensorflow():
    for path in ROOT.rglob("*.py"):
        roots = {module.split(".")[0] for module in imported_modules(path)}
        assert "tensorflow" not in roots, path.name


def missing_names(path):
    """What a file takes from modules of the package that do not have it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            own = [alias for alias in node.names if alias.name.split(".")[0] == ROOT.name]
            modules |= {a.asname or a.name: importlib.import_module(a.name) for a in own}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == ROOT.name:
            source = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(source, alias.name):
                    with contextlib.suppress(ModuleNotFoundError):
                        importlib.import_module(f"{node.module}.{alias.name}")
                if not hasattr(source, alias.name):
                    yield f"{node.module}.{alias.name}"
                elif inspect.ismodule(module := getattr(source, alias.name)):
                    modules[alias.asname or alias.name] = module
    # Names that mean something else in some function.
    others = {node.arg for node in nodes if isinstance(node, ast.arg)}
    others |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            if name in modules.keys() - others and not hasattr(modules[name], node.attr):
                yield f"{name}.{node.attr}"


@pytest.mark.parametrize("folder", [ROOT.name, *USERS])
def test_imported_names_exist(folder):
    # The type checker cannot tell: shapes of arrays are names to it, so it does not look for any.
    missing = {
        str(path.relative_to(ROOT.parent)): names
        for path in sorted((ROOT.parent / folder).rglob("*.py"))
        if (names := list(missing_names(path)))
    }
    assert not missing
