"""Work on several images side by side, so that their steps fill batches."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn, ParamSpec, TypeVar

from diffc_jax.codec.tile_encoder import Job, Wanted, advance
from diffc_jax.errors import DiffcError, InputError

P = ParamSpec("P")
T = TypeVar("T")
Name = TypeVar("Name")


def run(job: Job[T]) -> T:
    """The result of a single job.

    Raises:
        DiffcError: what ended the job.
    """
    ((_, result),) = run_all([(None, job)], at_once=1)
    return result()


def alone(start: Callable[P, Job[T]]) -> Callable[P, T]:
    """The function that does such a job by itself and returns its result."""

    @functools.wraps(start)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        return run(start(*arguments, **named))

    return call


def run_all(
    jobs: Iterable[tuple[Name, Job[T]]], at_once: int
) -> Iterator[tuple[Name, Callable[[], T]]]:
    """Does jobs with one chain side by side, of which each says what steps it needs next.

    Args:
        jobs: with their names; each is begun when there is room for it.
        at_once: how many are under way.

    Yields:
        The name of each job when it has ended, and a function that returns its result, or raises the
        `DiffcError` that ended it without ending others.
    """
    coming = iter(jobs)
    under_way: list[tuple[Name, Job[T], Sequence[Wanted]]] = []
    while True:
        while len(under_way) < at_once and (new := next(coming, None)) is not None:
            name, job = new
            wanted, result = _go_on(job)
            if result is None:
                under_way.append((name, job, wanted))
            else:
                yield name, result
        if not under_way:
            return
        n_tiles = max(at_once, *(len(one.encoder.x) for *_, wanted in under_way for one in wanted))
        failed = advance([one for *_, wanted in under_way for one in wanted], n_tiles)
        number, still = 0, []
        for name, job, wanted in under_way:
            own = range(number, number := number + len(wanted))
            error = next((failed[i] for i in own if i in failed), None)
            wanted, result = _go_on(job, error)
            if result is None:
                still.append((name, job, wanted))
            else:
                yield name, result
        under_way = still


def _go_on(
    job: Job[T], error: InputError | None = None
) -> tuple[Sequence[Wanted], Callable[[], T] | None]:
    """What a job wants next, or its result if it has ended; `error` is why it cannot get what it wanted."""

    def refuse(error: DiffcError) -> Callable[[], NoReturn]:
        def result() -> NoReturn:
            raise error

        return result

    try:
        return (next(job) if error is None else job.throw(error)), None
    except StopIteration as end:
        value = end.value
        return (), lambda: value
    except DiffcError as refused:
        return (), refuse(refused)
