"""Arrays of archives are read as they were written, and what an archive says of them is compared first."""

import io
import zipfile

import numpy as np
import pytest

from diffc_jax.runtime.npz import NpzReader, check_packed_size, read_npy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_orders_of_axes(save, tmp_path):
    rows = np.arange(24.0).reshape(2, 3, 4)
    columns = np.asfortranarray(rows)
    stream = io.BytesIO()
    save(stream, rows=rows, columns=columns, part=rows[:, ::2])
    reader = NpzReader(stream)
    assert (reader.header("rows").fortran_order, reader.header("columns").fortran_order) == (0, 1)
    for name, array in (("rows", rows), ("columns", rows), ("part", rows[:, ::2])):
        np.testing.assert_array_equal(reader.read(name), array)
    np.save(tmp_path / "columns.npy", columns)
    np.testing.assert_array_equal(read_npy(tmp_path / "columns.npy"), rows)


def test_a_name_that_differs_in_the_list_is_noticed():
    """Else an array that may be missing would seem to be."""
    stream = io.BytesIO()
    np.savez(stream, mean=np.zeros(3), spread=np.ones(3))
    content = stream.getvalue()
    at = content.rindex(b"spread.npy")
    damaged = content[:at] + b"sprxad" + content[at + 6 :]
    with pytest.raises(zipfile.BadZipFile, match="differ"):
        NpzReader(io.BytesIO(damaged))


def member(kind, packed, size, flags=0):
    found = zipfile.ZipInfo("x.npy")
    found.compress_type, found.compress_size, found.file_size = kind, packed, size
    found.flag_bits = flags
    return found


@pytest.mark.parametrize(
    ("kind", "packed", "size"),
    [
        (zipfile.ZIP_DEFLATED, 10, 10_321),  # deflate makes 1032 bytes of one, at most
        (zipfile.ZIP_STORED, 10, 11),
        (zipfile.ZIP_STORED, 10, 9),
    ],
)
def test_sizes_that_cannot_be(kind, packed, size):
    check_packed_size(member(kind, 10, 10))
    check_packed_size(member(zipfile.ZIP_DEFLATED, 10, 10_320))
    with pytest.raises(ValueError, match=rf"^x.npy has {packed} bytes, which cannot be {size}$"):
        check_packed_size(member(kind, packed, size))


@pytest.mark.parametrize(("kind", "flags"), [(zipfile.ZIP_LZMA, 0), (zipfile.ZIP_STORED, 1)])
def test_ways_of_packing_that_are_not_read(kind, flags):
    with pytest.raises(ValueError, match=r"^x.npy is compressed or encrypted in a way that"):
        check_packed_size(member(kind, 10, 10, flags))
