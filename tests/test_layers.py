"""Imports go downwards only, and maths reads no files, flags or configs."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "diffc_jax"
# From the top down; modules of the root not listed here are for everyone.
LAYERS = (
    *("reproduction", "trainees", "analysis", "baselines", "compression", "conversion"),
    *("evaluation", "plotting"),
    *("training", "codec", "coding", "models", "diffusion", "theory", "data"),
)
PURE = ("theory", "diffusion", "models", "coding", "codec")
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


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_downwards(layer):
    files = sorted((ROOT / layer).rglob("*.py")) or [ROOT / f"{layer}.py"]
    above = LAYERS[: LAYERS.index(layer)]
    for path in files:
        for module in imported_modules(path):
            assert layer_of(module) not in above, f"{path.name} of {layer} imports {module}"


def test_root_modules_import_no_layer():
    for path in ROOT.glob("*.py"):
        if path.stem not in LAYERS:
            for module in imported_modules(path):
                assert layer_of(module) not in LAYERS, f"{path.name} imports {module}"


@pytest.mark.parametrize("layer", PURE)
def test_maths_is_pure(layer):
    for path in sorted((ROOT / layer).rglob("*.py")):
        roots = {module.split(".")[0] for module in imported_modules(path)}
        assert not roots & IMPURE_MODULES, path.name


def test_nothing_imports_tensorflow():
    for path in ROOT.rglob("*.py"):
        roots = {module.split(".")[0] for module in imported_modules(path)}
        assert "tensorflow" not in roots, path.name
