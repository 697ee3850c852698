"""How long a run lasts: numbers of steps, and a limit of time that holds with evaluation and export."""

import contextlib
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.config import base_config
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.training import duration, loop
from diffc_jax.training.duration import TimeLimit, make_time_limit, num_train_steps
from diffc_jax.training.meter import Meter
from diffc_jax.training.optimizer import decay_factor, fresh_decay, learning_rate_schedule
from tests.support.quick_training import QuickTask, quick_config, quick_task
from tests.support.run_files import logged

FIELDS = "train.num_steps, train.num_epochs, train.num_examples, train.max_seconds"


def train_config(**fields):
    config = base_config().train
    config.update({"lr_decay": "wsd", "decay_fraction": 0.2} | fields)
    return config


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"num_steps": 7}, 7),
        ({"num_epochs": 2.5}, 8),
        ({"num_examples": 65}, 3),
        ({"max_seconds": 10.0}, 0),
    ],
)
def test_number_of_steps(fields, steps):
    assert num_train_steps(train_config(batch_size=32, **fields), num_images=100) == steps


def test_rounding_adds_no_step():
    """0.1, 0.2, ... 3 passes over 100 images."""
    steps = [
        num_train_steps(train_config(batch_size=10, num_epochs=n / 10), 100) for n in range(1, 31)
    ]
    assert steps == list(range(1, 31))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "train.num_steps"),
        ({"num_steps": 3, "max_seconds": 5.0}, "train.num_steps, train.max_seconds"),
        ({"num_epochs": 1.0, "num_examples": 5}, "train.num_epochs, train.num_examples"),
    ],
)
def test_exactly_one_duration_is_given(fields, named):
    with pytest.raises(UsageError) as caught:
        num_train_steps(train_config(**fields), num_images=100)
    assert str(caught.value) == f"{named}: set exactly one of {FIELDS} to a positive number"


# Learning rates


def test_wsd_is_constant_and_then_linear_to_zero():
    rate = learning_rate_schedule(train_config(learning_rate=2.0, warmup_steps=4), 100)
    rates = [float(rate(step)) for step in range(101)]
    np.testing.assert_allclose(rates[:4], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(rates[4:81], 2.0)
    np.testing.assert_allclose(rates[80:], np.linspace(2.0, 0.0, 21), atol=1e-6)


@pytest.mark.parametrize(("steps", "fraction"), [(300, 0.9), (150, 0.5), (101, 1.0)])
def test_wsd_ends_at_zero_where_decay_and_warm_up_would_overlap(steps, fraction):
    config = train_config(learning_rate=2.0, warmup_steps=100, decay_fraction=fraction)
    rate = learning_rate_schedule(config, steps)
    assert float(rate(99)) == 2.0
    assert float(rate(steps)) == pytest.approx(0.0, abs=1e-6)


def test_rate_of_a_run_with_an_open_end_does_not_decay():
    rate = learning_rate_schedule(train_config(learning_rate=2.0, warmup_steps=4), 0)
    np.testing.assert_allclose([float(rate(step)) for step in (0, 3, 4, 10**6)], [0.5, 2, 2, 2])


def test_peak_can_be_that_of_another_optimizer():
    rate = learning_rate_schedule(train_config(learning_rate=2.0, warmup_steps=0), 10, peak=0.5)
    assert float(rate(0)) == pytest.approx(0.5)


def test_factor_of_the_decay():
    def factors_at(decay, *steps):
        return [float(decay_factor(jnp.int32(step), decay)) for step in steps]

    assert factors_at(fresh_decay(), 0, 10**6) == [1.0, 1.0]
    decay = {"start": jnp.int32(10), "length": jnp.int32(4)}
    factors = factors_at(decay, 0, 10, 11, 12, 13, 14, 20)
    assert factors == [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


# A limit of time, with a clock of our own


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(duration.time, "monotonic", lambda: clock.now)
    return clock


def simulate(clock, limit, speed, compile_seconds, evaluation, averages=1, first=0):
    """The calls of `loop._Run.steps`, on devices that take 1 / speed seconds a step.

    A call is sent while the one before it runs; the first takes `compile_seconds` more.

    Returns:
        Steps of the run, those of its decay, and the time when all is over.
    """
    per_call = limit._per_call
    ordered = first
    end, length, free, before = limit.end or 0, 0, clock.now + compile_seconds, None
    if not end:
        clock.now += evaluation  # compiles
        limit.evaluated(evaluation)
        free = clock.now + compile_seconds
    while True:
        count = min(per_call, end - ordered) if end else per_call
        free += count / speed
        ordered += count
        if not end:
            ready, finished = before or (free, ordered)
            clock.now = max(clock.now, ready)
            decided = limit.finished(finished, ordered)
            before = (free, ordered)
            if decided is not None:
                end, length = ordered + decided, decided
        if ordered == end:
            break
    clock.now = max(clock.now, free) + evaluation * (averages + (averages > 1))
    return end, length, clock.now


@pytest.mark.parametrize("per_call", [1, 8])
@pytest.mark.parametrize(("speed", "compile_seconds"), [(3.0, 5.0), (40.0, 30.0), (700.0, 60.0)])
@pytest.mark.parametrize(("evaluation", "averages"), [(1.0, 1), (12.0, 2)])
@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_everything_ends_within_the_limit(
    clock, per_call, speed, compile_seconds, evaluation, averages, fraction
):
    seconds = 540.0
    fields = {"second_ema_decay": 0.9} if averages == 2 else {}
    config = train_config(
        max_seconds=seconds, steps_per_call=per_call, decay_fraction=fraction, **fields
    )
    start = clock.now
    clock.now += 20.0  # to open the data and make the state
    limit = TimeLimit(config, start, 0.0, None)
    steps, decay, over = simulate(clock, limit, speed, compile_seconds, evaluation, averages)
    needed = evaluation * (averages + (averages > 1))
    used = seconds - 20.0 - compile_seconds - 2 * evaluation
    assert over - start <= seconds
    # Little is left unused: the margin of the evaluations, the time to save, and a few calls.
    assert seconds - (over - start) < 5.0 + 0.21 * needed + 4 * per_call / speed
    assert steps > 0.8 * speed * (used - needed)
    assert limit.end == steps
    assert decay % per_call == 0
    assert abs(decay / steps - fraction) < 0.02 + 3 * per_call / steps


def test_without_decay_the_run_just_ends(clock):
    config = train_config(lr_decay="constant", max_seconds=100.0, steps_per_call=4)
    limit = TimeLimit(config, clock.now, 0.0, None)
    steps, decay, over = simulate(clock, limit, 10.0, 5.0, 2.0)
    assert decay == 0
    assert 1090.0 < over <= 1100.0
    assert steps % 4 == 0


def test_one_call_says_nothing_about_the_speed(clock):
    """The first has compiled: taken for the speed it would end the run at once."""
    limit = TimeLimit(train_config(max_seconds=100.0, steps_per_call=8), clock.now, 0.0, None)
    clock.now += 60.0
    assert limit.finished(8, 8) is None
    assert limit.finished(8, 16) is None
    assert limit.end is None
    clock.now += 0.1
    assert limit.finished(16, 24) is None  # 80 steps a second: most of the 35 s are left
    assert limit.end is None


def test_too_short_a_limit_is_refused_at_the_start(clock):
    limit = TimeLimit(train_config(max_seconds=30.0), clock.now, 0.0, None)
    limit.evaluated(10.0)
    clock.now += 20.0
    with pytest.raises(UsageError) as caught:
        limit.finished(1, 1)
    assert str(caught.value) == (
        "train.max_seconds: 30 s are too short: it took 20 s to start and compile, and 17 s are needed"
        " to evaluate and save; use at least 74"
    )


def test_time_of_earlier_processes_counts(clock):
    config = train_config(max_seconds=200.0, steps_per_call=4)
    fresh = make_time_limit(config, {}, clock.now)
    steps, _, _ = simulate(clock, fresh, 10.0, 5.0, 2.0)
    clock.now += 10_000.0  # nobody runs
    begin = clock.now
    later = make_time_limit(config, {"limit_seconds": 120.0, "end": None}, clock.now)
    assert later.spent == 120.0
    more, _, over = simulate(clock, later, 10.0, 5.0, 2.0, first=1000)
    assert over - begin <= 80.0
    assert 1000 < more < 1000 + steps / 2


@pytest.mark.parametrize(("decay", "length"), [("constant", 0), ("wsd", 4)])
def test_a_run_that_was_stopped_near_its_end_ends_at_once(clock, decay, length):
    """There is no time to compile again, and what was trained must not be lost."""
    config = train_config(max_seconds=200.0, steps_per_call=4, lr_decay=decay)
    limit = make_time_limit(config, {"limit_seconds": 190.0, "end": None}, clock.now)
    clock.now += 30.0
    assert limit.finished(1004, 1004) == length
    assert limit.end == 1004 + length


def test_end_that_is_known_stays(clock):
    config = train_config(max_seconds=200.0, steps_per_call=4)
    limit = make_time_limit(config, {"limit_seconds": 190.0, "end": 1200}, clock.now)
    assert limit.end == 1200
    clock.now += 500.0
    assert limit.finished(1100, 1104) is None
    assert limit.end == 1200


def test_time_that_is_left_counts_what_is_no_training(clock, caplog):
    """Start and validations take of the limit, too."""
    limit = TimeLimit(train_config(max_seconds=200.0), clock.now - 20.0, 0.0, None)
    meter = Meter(0, 0, batch_size=4, seconds=0.0, cpu_seconds=0.0, summarise=str, limit=limit)
    with meter.paused():
        clock.now += 30.0
    meter.add([{"loss": jnp.ones(())}])
    clock.now += 50.0
    with caplog.at_level("INFO", "absl"):
        found = meter.report()
    assert found["seconds"] == 50.0
    assert found["images_per_second"] == pytest.approx(4 / 50)  # the pause is no part of it
    assert caplog.messages[-1].endswith(" images/s, ETA 1:40")


# A run


def play_clock(monkeypatch, stop_at=None):
    """Lets every step take half a second, and Ctrl-C come after `stop_at`; what is asked is returned."""
    finished, seen = TimeLimit.finished, []

    def half_a_second_a_step(self, step, ordered):
        if step == stop_at:
            raise KeyboardInterrupt
        self._begin = time.monotonic() - 0.5 * step
        self._spent_before = 0.0
        self._reserve = 5.0
        seen.append((step, ordered))
        return finished(self, step, ordered)

    monkeypatch.setattr(TimeLimit, "finished", half_a_second_a_step)
    return seen


def test_a_run_ends_in_time_and_is_resumed_as_finished(tmp_path, monkeypatch, caplog):
    """Seconds on a clock that runs with the steps, so that it ends on slow machines too."""
    config = quick_config(max_seconds=20.0, lr_decay="wsd")
    seen = play_clock(monkeypatch)
    loop.train(quick_task(config), tmp_path)
    # 15 s for 30 steps, of which one in five decays.
    card = json.loads((tmp_path / "params.json").read_text())
    assert 28 <= card["steps"] <= 31
    assert 0.7 < seen[-1][1] / card["steps"] < 0.9
    assert all(ordered - step <= 1 for step, ordered in seen)
    assert logged(tmp_path)[-1]["step"] == card["steps"]
    exported = (tmp_path / "params.safetensors").read_bytes()

    monkeypatch.setattr(TimeLimit, "finished", None)  # not asked again
    config.train.max_seconds = 40.0
    with caplog.at_level("INFO", "absl"):
        loop.train(quick_task(config), tmp_path)
    (said,) = (text for text in caplog.messages if " trained parameters, " in text)
    assert said.endswith(
        f"step {card['steps']} is exported; {card['steps']} was fixed as the last step when time was"
        " nearly over, and a larger train.max_seconds does not move it: to train longer, set"
        " train.num_steps instead"
    )
    assert (tmp_path / "params.safetensors").read_bytes() == exported
    assert json.loads((tmp_path / "params.json").read_text())["steps"] == card["steps"]


def test_no_validation_counts_as_training(tmp_path, monkeypatch):
    paused, make_validation, held, asked = Meter.paused, QuickTask.make_validation, [], []

    @contextlib.contextmanager
    def noting(meter):
        with paused(meter):
            held.append(meter)
            yield
            held.pop()

    def noted(task):
        evaluate = make_validation(task)

        def evaluate_and_note(state):
            asked.append(bool(held))
            return evaluate(state)

        return evaluate_and_note

    monkeypatch.setattr(Meter, "paused", noting)
    monkeypatch.setattr(QuickTask, "make_validation", noted)
    play_clock(monkeypatch)
    loop.train(quick_task(quick_config(max_seconds=20.0, lr_decay="wsd")), tmp_path)
    assert asked == [True] * 3  # to compile, before the first step, after the last


@pytest.mark.parametrize("stop_at", [3, 9])  # before the first checkpoint and after it
def test_a_resumed_run_writes_no_metric_of_a_step_twice(tmp_path, monkeypatch, stop_at):
    every = {f"{name}_every_steps": 4 for name in ("eval", "checkpoint")}
    config = quick_config(max_seconds=20.0, lr_decay="wsd", **every)
    with monkeypatch.context() as patch:
        play_clock(patch, stop_at)
        with pytest.raises(KeyboardInterrupt):
            loop.train(quick_task(config), tmp_path)
    play_clock(monkeypatch)
    loop.train(quick_task(config), tmp_path)
    lines = [(row["step"], *sorted(row)) for row in logged(tmp_path)]
    assert (0, "eval/bits_per_dim", "step") in lines
    assert len(lines) == len(set(lines))


def test_a_run_goes_on_with_a_limit_of_time_and_without_one_again(tmp_path, monkeypatch):
    play_clock(monkeypatch)

    def train(**fields):
        task = quick_task(quick_config(lr_decay="wsd", **fields))
        loop.train(task, tmp_path)
        assert load_trained(quick_task(quick_config(num_steps=1)), tmp_path).state.decay is None
        return json.loads((tmp_path / "params.json").read_text())["steps"]

    assert train(num_steps=6) == 6
    assert 28 <= (ended := train(max_seconds=20.0)) <= 31
    assert train(num_steps=ended + 3) == ended + 3
