"""`compare_schemes(config, workdir)`: what each scheme of `channel_simulation` costs, and its samples."""

import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

from absl import logging
from ml_collections import ConfigDict

from diffc_jax.evaluation.results import write_table
from diffc_jax.plotting import channel_simulation as figures
from diffc_jax.plotting.figures import save_figure
from diffc_jax.runtime.environment import write_environment
from diffc_jax.runtime.files import read_json, write_json
from diffc_jax.runtime.progress import Progress
from diffc_jax.runtime.run_config import check_no_training
from diffc_jax.studies.channel_comparison import rows as schemes
from diffc_jax.studies.channel_comparison.limit_rows import limit_rows
from diffc_jax.studies.channel_comparison.open_trellis_rows import open_trellis_rows

Row = dict[str, Any]
# A function of `rows` and its arguments.
Job = tuple[Callable[..., list[Row]], dict[str, Any]]
# What arguments were called when the first files of jobs were written.
_TEXTS = ("scheme", "setting", "source")
_Row = TypedDict(  # type: ignore[misc]  # of names that are made elsewhere
    "_Row", {field: str if field in _TEXTS else float | None for field in schemes.FIELDS}
)
_FORMER_NAMES = {"ideal_rate": "kl_bits"}


def compare_schemes(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes W/channel_simulation: schemes.csv, and figures with their tables; older ones are replaced.

    The config is one that `config.validate` has checked. Each job's rows are kept in
    W/channel_simulation/progress, so that a killed run continues. Take another folder after changing a
    scheme's code. Seconds are those of the machine that ran the job.

    Raises:
        UsageError: the folder has a run of a model.
        InputError: rows that were kept are damaged.
    """
    begin = time.monotonic()
    check_no_training(workdir)
    folder = workdir / "channel_simulation"
    write_json(workdir / "config.json", config.to_dict())
    write_environment(workdir)
    jobs = list(_jobs(config))
    paths = [folder / "progress" / f"{_digest(job)}.json" for job in jobs]
    waiting = [(job, path) for job, path in zip(jobs, paths, strict=True) if not path.exists()]
    progress = Progress("channels", len(jobs), "settings", done=len(jobs) - len(waiting))
    for (function, arguments), path in waiting:
        write_json(path, function(**arguments))
        progress.advance()
    found = [row for path in paths for row in read_rows(path)]
    rows = [{field: row[field] for field in schemes.FIELDS} for row in found]
    write_table(folder / "schemes.csv", schemes.FIELDS, rows)
    for name, plot in figures.FIGURES.items():
        save_figure(plot(rows), folder / name, rows)
    logging.info("%d settings in %s, %.0f s", len(jobs), folder, time.monotonic() - begin)


def read_rows(path: pathlib.Path) -> list[Row]:
    """The rows that a job left behind.

    Raises:
        InputError: the file is damaged.
    """
    rows: list[Row] = read_json(path, list[_Row], "delete it and run again")
    return rows


def _jobs(config: ConfigDict) -> Iterator[Job]:
    """From the quickest kind to the slowest."""
    races, chunks, whole = config.races, config.chunks, config.whole
    yield limit_rows, {"bits": config.limit_bits}
    for bits in races.chunk_bits:
        arguments = {"ideal_rate": bits, "tail": config.tail, "count": races.near_exact}
        yield schemes.near_exact_race_rows, arguments | {"seed": config.seed}
    messages = {"size": whole.size, "messages": whole.messages, "batch": whole.batch}
    messages["seed"] = config.seed
    for bits in whole.dithered_bits:
        yield schemes.dithered_rows, messages | {"ideal_rate": bits}
    for memory in whole.memory:
        for path_bits in whole.path_bits:
            yield schemes.trellis_rows, messages | {"path_bits": path_bits, "memory": memory}
    for memory in config.exact.memory:
        for path_bits in config.exact.path_bits:
            yield open_trellis_rows, messages | {"path_bits": path_bits, "memory": memory}
    for bits in races.chunk_bits:
        for extra in config.extra_bits:
            arguments = {"ideal_rate": bits, "extra_bits": extra, "seed": config.seed}
            arguments |= {"count": races.bounded, "normals": races.bounded_normals}
            yield schemes.bounded_race_rows, arguments
    messages = {"size": chunks.size, "chunks": chunks.number, "messages": chunks.messages}
    messages |= {"batch": chunks.batch, "seed": config.seed}
    for bits in chunks.bounded_bits:
        for scheme in schemes.BOUNDED:
            arguments = {"scheme": scheme, "ideal_rate": bits, "extra_bits": config.extra_bits[0]}
            yield schemes.bounded_channel_rows, messages | arguments
    for bits in chunks.near_exact_bits:
        yield schemes.near_exact_channel_rows, messages | {"ideal_rate": bits, "tail": config.tail}


def _digest(job: Job) -> str:
    """The name of a job's file, the same as in folders from before arguments were renamed."""
    function, arguments = job
    arguments = {_FORMER_NAMES.get(name, name): value for name, value in arguments.items()}
    text = json.dumps(
        [function.__name__, arguments, schemes.FIELDS], sort_keys=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
