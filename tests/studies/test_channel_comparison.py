"""The comparison of schemes: its races against other routes, its table, resuming, mistakes."""

import re

import numpy as np
import pytest
from scipy import stats

from diffc_jax.channel_simulation.candidate_schemes import later_winners
from diffc_jax.channel_simulation.candidates_distribution import ordered_winner, poisson_winner
from diffc_jax.errors import UsageError
from diffc_jax.studies.channel_comparison.config import channel_config, shrink_to_smoke, validate
from diffc_jax.studies.channel_comparison.rows import FIELDS, bounded_races, near_exact_race
from diffc_jax.studies.channel_comparison.run import compare_schemes
from tests.support.run_files import table


def small_config():
    config = channel_config()
    shrink_to_smoke(config)
    config.races.chunk_bits = (3.3,)
    config.chunks.near_exact_bits, config.chunks.bounded_bits = (2.0,), (4.0,)
    config.chunks.messages = config.chunks.batch = 16
    config.whole.path_bits, config.whole.dithered_bits = (32,), (64.0,)
    return config


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("channels")
    config = small_config()
    validate(config)
    compare_schemes(config, folder)
    return folder / "channel_simulation"


def number(row, column):
    return float(row[column])


def test_every_scheme_has_its_rows(small_run):
    rows = table(small_run / "schemes.csv")
    assert tuple(rows[0]) == FIELDS
    found = {(row["scheme"], row["source"]) for row in rows}
    chunked = ("poisson", "poisson_truncated", "ordered", "minimal")
    assert found == {(scheme, source) for scheme in chunked for source in ("race", "channel")} | {
        ("dithered", "channel"),
        ("trellis", "channel"),
        ("open_trellis", "channel"),
    } | {(scheme, "theory") for scheme in ("any_code", "codewords", "bound")}
    for row in rows:
        if row["source"] == "theory":
            continue
        bits, kl, shift = (number(row, name) for name in ("bits", "kl_bits", "shift"))
        assert number(row, "overhead") == pytest.approx(bits / kl - 1)
        assert number(row, "credited_overhead") == pytest.approx(bits / kl / shift**2 - 1)
        assert number(row, "units") >= 8
        if row["source"] == "channel":
            assert number(row, "encode_seconds") > 0 < number(row, "decode_seconds")
            assert number(row, "variance_orthogonal") == pytest.approx(1, abs=0.1)


def test_real_bytes_agree_with_the_quadrature(small_run):
    by_name = {
        row["scheme"]: row for row in table(small_run / "schemes.csv") if row["source"] == "channel"
    }
    for name, winner in (
        ("poisson", poisson_winner(2.0)),
        ("poisson_truncated", poisson_winner(4.0, 64)),
        ("ordered", ordered_winner(4.0, 64)),
        ("minimal", ordered_winner(4.0, 64)),
    ):
        row = by_name[name]
        shift = abs(number(row, "shift") - winner.shift)
        assert shift < 4 * number(row, "shift_stderr") + 0.02, name
        entropy = stats.entropy(winner.digits, base=2) + winner.digits @ np.arange(63)
        expected = 6.0 if name == "minimal" else entropy
        assert number(row, "bits") == pytest.approx(expected, abs=0.9), name
    assert number(by_name["dithered"], "overhead") > 1
    assert number(by_name["trellis"], "shift") == pytest.approx(1, abs=0.1)
    assert number(by_name["trellis"], "variance_along") < 0.5


def test_exact_samples_of_the_trellis_vary_along_mu(small_run):
    (row,) = [r for r in table(small_run / "schemes.csv") if r["scheme"] == "open_trellis"]
    assert 0.2 < number(row, "variance_along") < 3
    assert number(row, "overhead") > 0
    assert number(row, "kl_bits") < 32


def test_limits_are_in_the_order_that_theory_says(small_run):
    rows = [r for r in table(small_run / "schemes.csv") if r["source"] == "theory"]
    found = {}
    for row in rows:
        found.setdefault((row["scheme"], row["setting"]), {})[number(row, "bits")] = number(
            row, "kl_bits"
        )
    least = {number(r, "kl_bits"): number(r, "bits") for r in rows if r["scheme"] == "any_code"}
    bounds = [
        {number(r, "kl_bits"): number(r, "bits") for r in rows if r["setting"].endswith(constant)}
        for constant in ("+ 2.45", "+ 5")
    ]
    for kl in (1.0, 8.0, 64.0, 512.0):
        assert kl < least[kl] < bounds[0][kl] < bounds[1][kl]
    for bits, kl in found["codewords", "exact"].items():
        assert kl < found["codewords", "right mean"][bits] < bits


def test_figures_have_their_tables_beside_them(small_run):
    for name in ("overhead", "distribution", "work"):
        for suffix in ("png", "pdf", "csv"):
            assert (small_run / f"{name}.{suffix}").stat().st_size > 1000


def test_a_run_continues_where_it_was(small_run):
    kept = sorted((small_run / "progress").iterdir())
    times = [path.stat().st_mtime_ns for path in kept[1:]]
    before = table(small_run / "schemes.csv")
    kept[0].unlink()
    (small_run / "schemes.csv").unlink()
    compare_schemes(small_config(), small_run.parent)
    assert [path.stat().st_mtime_ns for path in kept[1:]] == times
    timed = {"encode_seconds", "decode_seconds"}
    for old, new in zip(before, table(small_run / "schemes.csv"), strict=True):
        assert {k: v for k, v in old.items() if k not in timed} == {
            k: v for k, v in new.items() if k not in timed
        }


def test_folders_of_earlier_versions_continue(small_run):
    """The files of jobs, which are named by their arguments, have the names that they had then."""
    assert {path.stem for path in (small_run / "progress").iterdir()} > {
        *("fff78b454ea7faf1", "6a30d9432ed42e3a", "f385b31348d6a423", "61a0002e116ba3d4"),
        *("1432b1599d155899", "17385914fd762fa2", "17a7c3b59fabf277", "4f33609ab7a45f1d"),
    }


def test_near_exact_races_agree_with_the_quadrature():
    winners = near_exact_race(3.3, 1e-4, 20_000, np.random.default_rng(0))
    assert stats.kstest(winners.along, "norm").pvalue > 0.01
    winner = poisson_winner(3.3)
    digits = np.bincount(np.log2(winners.index + 0.5).astype(int), minlength=63)
    shown = winner.digits * 20_000 > 10
    expected = winner.digits[shown] * 20_000
    assert (
        stats.chisquare(
            [*digits[shown], digits[~shown].sum()], [*expected, 20_000 - expected.sum()]
        ).pvalue
        > 0.001
    )


def test_near_exact_races_stop_where_a_search_one_by_one_stops():
    """Also the number of winners missed is that of the tail."""
    ideal_rate, tail, count = 1.5, 0.05, 4000
    fast = near_exact_race(ideal_rate, tail, count, np.random.default_rng(1))
    random, length = np.random.default_rng(2), np.sqrt(2 * np.log(2) * ideal_rate)
    time, best = np.zeros(count), np.full(count, np.inf)
    winner, looked_at = np.zeros(count), np.zeros(count)
    along, racing = np.zeros(count), np.ones(count, bool)
    for n in range(1, 3000):
        time[racing] += random.exponential(size=racing.sum())
        g = random.normal(size=count)
        score = np.log(np.maximum(time, 1e-300)) - length * g + length**2 / 2
        better = racing & (score < best)
        best[better], winner[better], along[better] = score[better], n, g[better] - length
        looked_at[racing] = n
        racing &= later_winners(best, time, np.full(count, length)) > -np.log1p(-tail)
    assert not racing.any()
    assert stats.ks_2samp(fast.index, winner).pvalue > 0.01
    assert stats.ks_2samp(fast.along, along).pvalue > 0.01
    assert fast.candidates.mean() == pytest.approx(looked_at.mean(), rel=0.12)


def test_bounded_races_agree_with_the_quadrature():
    found = bounded_races(5.0, 256, 20_000, np.random.default_rng(3))
    length = np.sqrt(2 * np.log(2) * 5.0)
    expected = {
        "poisson_truncated": poisson_winner(5.0, 256),
        "ordered": ordered_winner(5.0, 256),
        "minimal": ordered_winner(5.0, 256),
    }
    assert set(found) == set(expected)
    for name, winner in expected.items():
        winners = found[name]
        assert 1 + winners.along.mean() / length == pytest.approx(winner.shift, abs=0.012), name
        assert winners.along.var() == pytest.approx(winner.variance, abs=0.04), name
        assert winners.index.max() <= 256
        if name != "minimal":
            mean = winner.digits @ np.arange(63)
            assert np.floor(np.log2(winners.index)).mean() == pytest.approx(mean, abs=0.08), name
    assert stats.kstest(found["minimal"].index / 256, "uniform").pvalue > 1e-4


def test_the_defaults_can_be_used():
    validate(channel_config())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tail", 0.0, "tail: 0.0 is not above 0.0"),
        ("extra_bits", (2, 12), "extra_bits: 12 is not in [0, 11)"),
        ("races.chunk_bits", (31.0,), "races.chunk_bits: 31.0 is not in [0.0, 30.0)"),
        ("races.chunk_bits", (2.0, 2.0), "races.chunk_bits: (2.0, 2.0) names a number twice"),
        (
            "races.chunk_bits",
            (22.0,),
            "races.chunk_bits: 22 bits and extra_bits = 4 make more than 2^24 candidates",
        ),
        ("chunks.near_exact_bits", (0.0,), "chunks.near_exact_bits: 0.0 is not above 0.0"),
        (
            "chunks.number",
            100,
            "chunks.number: 100 does not divide chunks.size = 2048 into parts of at least 32 dimensions",
        ),
        ("whole.batch", 60, "whole.batch: 60 does not divide whole.messages = 256"),
        ("chunks.messages", 1, "chunks.messages: 1 is not at least 2"),
        ("whole.dithered_bits", (-1.0,), "whole.dithered_bits: -1.0 is not above 0.0"),
        ("exact.path_bits", (449,), "exact.path_bits: 449 is not in [8, 449)"),
        ("exact.memory", (9,), "exact.memory: 9 is not one of 8, 12, 14"),
        ("limit_bits", (0.5,), "limit_bits: 0.5 is not in [1.0, 65536.0)"),
        (
            "limit_bits",
            ("many",),
            "limit_bits: 'many' is not a number; give a tuple of numbers, without quotes",
        ),
        (
            "exact.path_bits",
            (32.5,),
            "exact.path_bits: 32.5 is not a whole number; give a tuple of them, without quotes",
        ),
        (
            "whole.memory",
            (8.5,),
            "whole.memory: 8.5 is not a whole number; give a tuple of them, without quotes",
        ),
        ("extra_bits", (2, 2), "extra_bits: (2, 2) names a number twice"),
        (
            "extra_bits",
            (),
            "extra_bits: () has no number for the schemes of chunks.bounded_bits; give one, or empty both",
        ),
    ],
)
def test_mistakes_are_named(field, value, message):
    config = channel_config()
    part, _, name = field.rpartition(".")
    (config[part] if part else config)[name] = value
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        validate(config)


def test_trellis_settings_are_checked_early():
    config = channel_config()
    config.whole.memory = (40,)
    with pytest.raises(UsageError, match=r"^whole\.memory: 40; "):
        validate(config)


def test_the_folder_of_a_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"train": {}}')
    with pytest.raises(
        UsageError, match=r": holds a run of experiments/train\.py, whose config\.json"
    ):
        compare_schemes(small_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
