"""Progress of long work: at most a line every few seconds, and what it says."""

import types

import pytest

from diffc_jax.runtime.progress import Progress, ShareProgress


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("diffc_jax.runtime.progress.time", clock)
    return clock


def test_counted_work(clock, caplog):
    progress = Progress("sweep", 8, "calls", done=2)
    with caplog.at_level("INFO", "absl"):
        for seconds in (9, 10, 19, 20, 21, 25):
            clock.now = seconds
            progress.advance()
    assert caplog.messages == [
        "sweep: 4/8 calls (50 %), 0.2 calls/s, ETA 0:20",
        "sweep: 6/8 calls (75 %), 0.2 calls/s, ETA 0:10",
        "sweep: 8/8 calls (100 %), 0.24 calls/s, ETA 0:00",
    ]


def test_shares_of_work(clock, caplog):
    progress = ShareProgress("a.png")
    with caplog.at_level("INFO", "absl"):
        for seconds, share in (
            (9, 0.0),
            (10, 0.0),
            (19, 0.1),
            (1000, 0.2),
            (1001, 1.0),
            (1010, 1.0),
        ):
            clock.now = seconds
            progress.reach(share)
    assert caplog.messages == [
        "a.png: 0 %, ETA ?",
        "a.png: 20 %, ETA 1:06:40",
        "a.png: 100 %, ETA 0:00",
    ]
