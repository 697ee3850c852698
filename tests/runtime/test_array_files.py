"""Texts in files of arrays."""

import pathlib

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.runtime.array_files import open_arrays


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
