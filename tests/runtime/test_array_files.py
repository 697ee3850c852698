"""Texts in files of arrays, and arrays of another shape or type than their reader needs."""

import pathlib

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.runtime.array_files import open_arrays
from tests.support.refusals import fails


def read_text(path):
    with open_arrays(path) as content:
        return content.read("text", (), np.str_)


@pytest.mark.parametrize("order", ["<", ">"])
def test_texts_are_code_points(order, tmp_path):
    path = pathlib.Path(tmp_path / "x.npz")
    text = "a\u00e9\uffff\U0010ffff"
    np.savez(path, text=np.array(text, f"{order}U4"))
    assert read_text(path) == text
    for number in (0x110000, 0xFFFFFFFF, 0xD800, 0xDFFF):
        np.savez(
            path, text=np.array([97, number], f"{order}u4").view(f"{order}U2")[0:1].reshape(())
        )
        with pytest.raises(InputError, match="'text' holds numbers that are no characters"):
            read_text(path)


@pytest.mark.parametrize(
    ("shape", "kind", "wanted"),
    [
        ((2, 4), np.floating, "floating of shape (2, 4)"),
        ((None,), np.floating, "floating of shape (any)"),
        ((None, 3), np.integer, "integer of shape (any, 3)"),
        ((2, 3), np.float64, "float64 of shape (2, 3)"),
    ],
)
def test_arrays_of_another_shape_or_type(shape, kind, wanted, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones((2, 3), np.float32))
    with open_arrays(path, "is damaged", "make it again") as content:
        assert content.read("x", (None, 3), np.floating).shape == (2, 3)
        fails(
            InputError,
            f"{path}: 'x' is float32 of shape (2, 3), not {wanted}; make it again",
            lambda: content.read("x", shape, kind),
        )
        fails(
            InputError, f"{path}: has no array 'y'; make it again", lambda: content.read("y", shape)
        )
