"""Feeds spoilt files to every reader of the package, and counts what is accepted, refused and wrong.

    python benchmarks/fuzz_readers.py --inputs=2000000

The inputs are shared out by `Reader.share`, no reader getting less than --least. Input N of a reader is made
from the seed N alone, so that any of them can be made again, alone, with its traceback:

    python benchmarks/fuzz_readers.py --readers=tar --first=N --inputs=1 --least=1

Each reader runs in a process of its own. One that ends there or stays longer than --patience at one input is
counted, and the next input goes to a new process. --notes gets the seeds of what went wrong. Exit code 0: no
exception but the package's own, no crash, no hang.
"""

import collections
import ctypes
import mmap
import multiprocessing
import os
import pathlib
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence

from absl import app, flags, logging
from readers import READERS

from diffc_jax.errors import DiffcError

_INPUTS = flags.DEFINE_integer("inputs", 100_000, "Over all readers together.", lower_bound=1)
_LEAST = flags.DEFINE_integer("least", 1000, "For each reader.", lower_bound=0)
_FIRST = flags.DEFINE_integer("first", 0, "Seed of the first input of each reader.", lower_bound=0)
_READERS = flags.DEFINE_list(
    "readers", [], "Names of readers, or beginnings of them; all if empty."
)
_PROCESSES = flags.DEFINE_integer("processes", 1, "Readers at once.", lower_bound=1)
_PATIENCE = flags.DEFINE_float("patience", 120.0, "Seconds for one input.")
_NOTES = flags.DEFINE_string("notes", os.devnull, "File for what no reader may do, with the seeds.")
_MEMORY = flags.DEFINE_float(
    "memory", 4.0, "GiB that a process may take beyond what it has at first."
)

_POLL_SECONDS = 0.2
_SUMS = ("inputs", "accepted", "refused", "foreign")


class Counts(ctypes.Structure):
    """What became of the inputs of a reader, where a process that crashes leaves it behind.

    The slowest input, in seconds of CPU time, and that with the highest growth of memory, in KiB, stand with
    their seeds; `seed` is the one that is read since `since`, -1 before the first.
    """

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("inputs", "accepted", "refused", "foreign")),
        *(("slowest", ctypes.c_double), ("slowest_seed", ctypes.c_int64)),
        *(("growth", ctypes.c_int64), ("growth_seed", ctypes.c_int64)),
        *(("seed", ctypes.c_int64), ("since", ctypes.c_double)),
    )


def _work(name: str, seeds: range, counts: Counts, notes: pathlib.Path) -> None:
    """Reads inputs one after the other; writes what no reader may do to `notes`."""
    logging.set_verbosity(logging.FATAL)
    logging.set_stderrthreshold(logging.FATAL)
    warnings.simplefilter("ignore")
    for standard in (1, 2):  # decoders in C print there
        os.dup2(os.open(os.devnull, os.O_WRONLY), standard)
    reader = READERS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, notes.open("a") as stream:
        root = pathlib.Path(folder) / "files"
        root.mkdir()
        reader.make(root)
        path = root / reader.file
        valid = path.read_bytes()
        reader.read(path)  # what is valid has to pass, and imports and caches are not counted
        _limit_memory()
        for seed in seeds:
            counts.seed, counts.since = seed, time.monotonic()
            counts.inputs += 1
            memory, begin = _peak(), time.process_time()
            try:
                path.write_bytes(reader.mutate(random.Random(f"{name}/{seed}"), valid))
                memory, begin = _peak(), time.process_time()
                reader.read(path)
                counts.accepted += 1
            except DiffcError:
                counts.refused += 1
            except Exception:  # what is looked for: it is noted, and the exit code tells of it
                counts.foreign += 1
                text = traceback.format_exc(limit=-4)[-1500:]
                print(f"{name}, seed {seed}:\n{text}", file=stream, flush=True)
            seconds, growth = time.process_time() - begin, _peak() - memory
            if seconds > counts.slowest:
                counts.slowest, counts.slowest_seed = seconds, seed
            if growth > counts.growth:
                counts.growth, counts.growth_seed = growth, seed


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit_memory() -> None:
    """So that an input that asks for all memory fails in this process and not elsewhere."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + int(_MEMORY.value * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Job:
    """All inputs of one reader, in one process or, after crashes, several."""

    def __init__(self, name: str, seeds: range, notes: pathlib.Path):
        self.name, self.crashes, self.hangs = name, 0, 0
        self.counts = Counts.from_buffer(mmap.mmap(-1, ctypes.sizeof(Counts)))
        self._notes, self._end = notes, seeds.stop
        self._start(seeds)

    def _start(self, seeds: range) -> None:
        self.counts.seed, self.counts.since = -1, time.monotonic()
        context = multiprocessing.get_context("fork")  # shares the memory of `counts`
        arguments = (self.name, seeds, self.counts, self._notes)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    def is_done(self) -> bool:
        """Whether all inputs were read; starts again behind one that ended the process."""
        waited, how = time.monotonic() - self.counts.since, ""
        if self._process.is_alive():
            if waited < _PATIENCE.value:
                return False
            self._process.kill()
            self.hangs += 1
            how = f"no answer after {waited:.0f} s"
        self._process.join()
        if self._process.exitcode == 0:
            return True
        seed = self.counts.seed
        if seed < 0:
            raise RuntimeError(f"{self.name}: the process ends before the first input")
        if not how:
            self.crashes += 1
            how = f"the process ended with {self._process.exitcode}"
        with self._notes.open("a") as stream:
            print(f"{self.name}, seed {seed}: {how}", file=stream)
        if seed + 1 < self._end:
            self._start(range(seed + 1, self._end))
            return False
        return True


def _shares() -> dict[str, int]:
    wanted = _READERS.value
    chosen = {
        name: reader
        for name, reader in READERS.items()
        if not wanted or any(name.startswith(one) for one in wanted)
    }
    if not chosen:
        raise app.UsageError(f"--readers={','.join(wanted)}: no name begins like this")
    total = sum(reader.share for reader in chosen.values())
    return {
        name: max(_LEAST.value, round(_INPUTS.value * reader.share / total))
        for name, reader in chosen.items()
    }


def _row(name: str, jobs: Sequence[_Job]) -> str:
    counts = [job.counts for job in jobs]
    sums = [sum(getattr(one, field) for one in counts) for field in _SUMS]
    ends = [sum(job.crashes for job in jobs), sum(job.hangs for job in jobs)]
    slowest, growth = max(one.slowest for one in counts), max(one.growth for one in counts)
    cells = [name, *map(str, (*sums, *ends)), f"{slowest:.2f}", f"{growth / 1024:.0f}"]
    return f"| {' | '.join(cells)} |"


def main(argv: list[str]) -> None:
    """Runs all readers and prints a table."""
    del argv
    waiting = collections.deque(_shares().items())
    notes = pathlib.Path(_NOTES.value)
    notes.write_text("")
    head = ("reader", *_SUMS, "crashes", "hangs", "slowest, s", "growth, MiB")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    running, done = list[_Job](), list[_Job]()
    while waiting or running:
        while waiting and len(running) < _PROCESSES.value:
            name, count = waiting.popleft()
            running.append(_Job(name, range(_FIRST.value, _FIRST.value + count), notes))
        time.sleep(_POLL_SECONDS)
        for job in [job for job in running if job.is_done()]:
            running.remove(job)
            done.append(job)
            print(_row(job.name, [job]), flush=True)
    print(_row("all", done))
    print(notes.read_text(), file=sys.stderr)
    if any(job.counts.foreign or job.crashes or job.hangs for job in done):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
