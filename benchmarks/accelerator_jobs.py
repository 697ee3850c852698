"""Jobs of benchmarks/accelerator.py, run within a budget of time, and the tables of what they found."""

import dataclasses
import math
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

# Measured values by names that hold their units; None is what this machine cannot tell.
Row = dict[str, Any]

_LONGEST_ERROR = 300


@dataclasses.dataclass(frozen=True)
class Job:
    """A part of a section.

    Attributes:
        section: whose rows it makes.
        name: of the job.
        expected_seconds: a guess, until a job of the section has ended.
        run: measures.
    """

    section: str
    name: str
    expected_seconds: float
    run: Callable[[], list[Row]]


@dataclasses.dataclass
class Section:
    """What came of the jobs of a section.

    Attributes:
        rows: of all jobs that ended.
        seconds: wall time, failures counted.
        failed: job -> its error, one line.
        skipped: jobs for which there was no time.
    """

    rows: list[Row] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    skipped: list[str] = dataclasses.field(default_factory=list)
    longest_job: float = dataclasses.field(default=0.0, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = ("rows", "seconds", "failed", "skipped")
        return {name: getattr(self, name) for name in fields}


def run_jobs(
    jobs: Sequence[Job],
    max_seconds: float,
    begin: float,
    on_change: Callable[[dict[str, Section]], None],
) -> dict[str, Section]:
    """Runs jobs in their order; one that fails is noted, and the rest goes on.

    A job is skipped if what is left is less than the longest job of its section took, or less than its own
    guess where none has ended.

    Args:
        jobs: the most important ones first.
        max_seconds: of all together.
        begin: `time.monotonic()` from which they count.
        on_change: told of all sections after each job.
    """
    sections = {job.section: Section() for job in jobs}
    for job in jobs:
        section = sections[job.section]
        started = time.monotonic()
        left = max_seconds - (started - begin)
        expected = section.longest_job or job.expected_seconds
        if expected > left:
            section.skipped.append(job.name)
            print(
                f"{job.section}, {job.name}: skipped, {left:.0f} s of --max_seconds are left and it takes "
                f"about {expected:.0f} s",
                flush=True,
            )
        else:
            try:
                rows = job.run()
                _check(rows)
            except Exception as error:
                traceback.print_exc()
                line = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_ERROR]
                section.failed[job.name] = line
                rows, outcome = [], f"failed: {line}"
            else:
                outcome = "done"
            section.rows += rows
            seconds = time.monotonic() - started
            section.seconds += seconds
            section.longest_job = max(section.longest_job, seconds)
            print(f"{job.section}, {job.name} ({seconds:.1f} s): {outcome}", flush=True)
            for row in rows:
                print("    " + ", ".join(f"{key} {cell(row[key])}" for key in row), flush=True)
        on_change(sections)
    return sections


def report(sections: dict[str, Section]) -> str:
    """A table in Markdown for each section, with what is missing from it."""
    parts = []
    for name, section in sections.items():
        lines = [f"### {name} ({section.seconds:.0f} s)", "", *markdown(section.rows), ""]
        lines += [f"- failed: {job}: {error}" for job, error in section.failed.items()]
        lines += [f"- skipped, no time left: {job}" for job in section.skipped]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts)


def markdown(rows: Sequence[Row]) -> list[str]:
    """Lines of a table, with a column for each name in the rows."""
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[cell(row.get(name)) for name in columns] for row in rows]
    titles = [name.replace("_", " ") for name in columns]
    lines = [titles, ["---"] * len(columns), *cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def cell(value: Any) -> str:
    """A value as text, with four digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def _check(rows: Sequence[Row]) -> None:
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ArithmeticError(f"{name} is {value}")
