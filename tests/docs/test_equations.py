"""The functions that docs/equations.md names exist, are public, and say what they compute."""

import importlib
import re

import pytest

from tests.support.pages import read

NAMES = sorted(set(re.findall(r"`(diffc_jax\.[\w.]+)`", read("docs/equations.md"))))


def resolve(name):
    """The object of a dotted name: a module, or something inside one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", NAMES)
def test_exists(name):
    assert not any(part.startswith("_") for part in name.split("."))
    assert resolve(name).__doc__


def test_a_missing_function_is_found():
    with pytest.raises(AttributeError):
        resolve("diffc_jax.theory.gaussian.nothing")


def test_covers_the_paper():
    """A row at least for the process, the rate, every decoder and the theory."""
    modules = {name.rpartition(".")[0].removeprefix("diffc_jax.") for name in NAMES}
    assert modules >= {
        "diffusion.process",
        "diffusion.elbo",
        "diffusion.samplers",
        "channel_simulation.rate_bound",
        "theory.gaussian",
        "theory.allocation",
        "theory.scalar",
    }
