"""Packed images and the archives that they come from, made once for all tests of this folder."""

import pathlib
import shutil

import pytest

from diffc_jax.data.prepare import prepare
from tests.support.packed_images import spec, write_tars


@pytest.fixture(scope="session")
def tars(tmp_path_factory) -> pathlib.Path:
    """Tar archives of small images; not to be changed."""
    return write_tars(tmp_path_factory.mktemp("tars"))


@pytest.fixture(scope="session")
def whole(tars, tmp_path_factory) -> pathlib.Path:
    """Packed images, prepared without interruption; not to be changed."""
    output = tmp_path_factory.mktemp("whole")
    prepare(spec(tars), output, layout="packed")
    return output


@pytest.fixture
def output(whole, tmp_path) -> pathlib.Path:
    """A copy of the packed images, to damage or change."""
    return shutil.copytree(whole, tmp_path / "out")
