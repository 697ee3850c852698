"""Rows of the comparison of schemes, from numbers that are known."""

import numpy as np
import pytest

from diffc_jax.channel_simulation.channel import length_of_rate
from diffc_jax.channel_simulation.open_trellis_reach import mean_projections
from diffc_jax.channel_simulation.projection import UNIT, make_grid
from diffc_jax.studies.channel_comparison import open_trellis_rows, rows


def test_columns_of_every_scheme():
    bits, along = np.array([2.0, 3.0, 4.0]), np.array([-0.5, 0.0, 1.1])
    row = rows.row_of("scheme", "setting", "race", 1.5, bits, along)
    length = np.sqrt(2 * np.log(2) * 1.5)
    assert row["shift"] == pytest.approx(1 + 0.2 / length)
    assert row["shift_stderr"] == pytest.approx(np.std(along) / np.sqrt(3) / length)
    assert row["variance_along"] == pytest.approx(np.mean((along - 0.2) ** 2))


@pytest.mark.parametrize(("normals", "count"), [(160, 10), (1e6, 100), (1, 2)])
def test_bounded_races_are_as_many_as_there_are_normals_for(monkeypatch, normals, count):
    raced = []

    def race(*arguments):
        raced.append(arguments[:3])
        return {}

    monkeypatch.setattr(rows, "bounded_races", race)
    rows.bounded_race_rows(ideal_rate=2.5, extra_bits=1, count=100, normals=normals, seed=0)
    assert raced == [(2.5, 16, count)]


@pytest.mark.parametrize("word", [0, 1 << 30, (1 << 32) - 1])
def test_cells_of_the_known_range_of_lengths(word):
    grid, length = make_grid(word, 32, 8), length_of_rate(32.0)
    lengths = np.linspace(0.7, 1.4, 5000) * length
    cells = {grid.nearest(float(one)) for one in lengths}
    assert open_trellis_rows._n_cells(grid, length) == len(cells)


def test_the_open_trellis_is_measured_at_the_length_of_a_planned_step(monkeypatch):
    run = dict(path_bits=32, memory=8, size=384, messages=4, batch=4, seed=0)
    (row,) = open_trellis_rows.open_trellis_rows(**run)
    grids = [
        make_grid(int(word), 32, 8)
        for word in np.random.default_rng(0).integers(0, 1 << 32, 20_000)
    ]
    length = length_of_rate(row["kl_bits"])
    targets = np.array([grid.target(grid.nearest(length)) for grid in grids]) / UNIT
    planned = mean_projections(8)[32] / UNIT
    assert np.mean(targets**2) == pytest.approx(planned**2, abs=0.3)
    # What says in which cell |mu| is counts, too.
    found = {}
    for cells in (4, 8):
        monkeypatch.setattr(open_trellis_rows, "_n_cells", lambda *_, cells=cells: cells)
        (row,) = open_trellis_rows.open_trellis_rows(**run)
        found[cells] = row["bits"]
    assert found[8] == pytest.approx(found[4] + 1)
