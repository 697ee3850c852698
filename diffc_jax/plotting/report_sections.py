"""The sections of the report that are plain HTML: summary, runs, settings and commands."""

import contextlib
import dataclasses
import pathlib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict

from diffc_jax.evaluation.rate_point import DIFFC_CODEC, DIFFC_METHODS
from diffc_jax.evaluation.result_files import CONFIG, ENVIRONMENT, LOSSLESS, RATES, SUMMARY
from diffc_jax.evaluation.results import RatePoint, read_rate_points
from diffc_jax.plotting import report_tables as tables
from diffc_jax.plotting import style
from diffc_jax.plotting.layout import describe_training
from diffc_jax.plotting.measures import (
    SET_MEASURES,
    data_name,
    describe_measure,
    has_measure,
    set_basis,
)
from diffc_jax.runtime.files import read_json, to_json
from diffc_jax.typed import Count

NO_RUNS = "Only tables of rate points were given, no folders of runs."
_LOSSLESS = {"png": "PNG", "webp": "WebP", "jpegxl": "JPEG XL"}
_SUMMARY_HEAD = ("run", "model", "checkpoint", "images", "bits/dim", "chain bits/dim")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a workdir says beside its rate points; None for a file that is not there.

    Attributes:
        name: how the page calls the run.
        path: the folder with `eval/`: its own, or that of a subset of its images.
        workdir: its own folder.
        methods: of its rate points.
        summary: `eval/summary.json`.
        lossless: `eval/lossless.json`.
        documents: `config.json` and `environment.json` of its training and of its evaluation (in `eval/`),
            those that there are.
    """

    name: str
    path: pathlib.Path
    workdir: pathlib.Path
    methods: frozenset[str]
    summary: dict[str, Any] | None
    lossless: dict[str, Any] | None
    documents: dict[str, dict[str, Any]]

    @property
    def is_sweep(self) -> bool:
        """Whether a model of ours is among the methods."""
        return not self.methods.isdisjoint(DIFFC_METHODS)


def read_run(path: pathlib.Path) -> Run:
    """Reads the JSON files of a workdir that has `eval/rd.csv`, or of the folder of a subset in one.

    Raises:
        InputError: one of the files is broken.
    """
    points = read_rate_points(path / "eval" / RATES)
    name, workdir = path.resolve().name, path
    # The images of the subset hq64 in W/hq64 are of a split that is called "validation hq64" or the like.
    if all((point.split or "").endswith(f" {name}") for point in points):
        workdir = path.resolve().parent
        name = f"{path.resolve().parent.name}/{name}"
    documents = {
        file: content
        for file in (CONFIG, ENVIRONMENT, f"eval/{CONFIG}", f"eval/{ENVIRONMENT}")
        if (content := _read_object((path if "/" in file else workdir) / file)) is not None
    }
    return Run(
        name=name,
        path=path,
        workdir=workdir,
        methods=frozenset(point.method for point in points),
        summary=_read_object(path / "eval" / SUMMARY, _Summary),
        lossless=_read_object(path / "eval" / LOSSLESS, _Lossless),
        documents=documents,
    )


def title(points: Sequence[RatePoint]) -> str:
    """The heading of the page."""
    own = [point for point in points if not style.is_published(point)] or points
    return tables.text(f"DiffC on {_and(_data_name(point) for point in own)}: rate and distortion")


def summary(
    points: Sequence[RatePoint], runs: Sequence[Run], series: Sequence[style.Series]
) -> str:
    """What was measured, on which images, with which models, and how well these model the data."""
    own = [point for point in points if not style.is_published(point)]
    lines = [line for line in series if not style.is_published(line.points[0])]
    diffc = [line for line in lines if line.points[0].method == "diffc"]
    files = [line for line in lines if line.points[0].method == DIFFC_CODEC]
    codecs = [line for line in lines if line.points[0].method not in DIFFC_METHODS]
    sentences = []
    if own:
        images = _and(tables.count(n, "image") for n in sorted({point.n_images for point in own}))
        sentences.append(
            f"{tables.count(len(own), 'rate point')} measured on {images} of "
            f"{_and(_data_name(point) for point in own)}."
        )
    if diffc:
        models = list(dict.fromkeys(line.points[0].model or "unnamed" for line in diffc))
        plural = "s" if len(models) > 1 else ""
        decoders = _and(line.label for line in diffc)
        sentences.append(f"DiffC with the denoiser{plural} {_and(models)}, decoded by {decoders}.")
    if files:
        names = _and(line.points[0].model or "unnamed" for line in files)
        sentences.append(f"Files of its codec with {names}: {_and(line.label for line in files)}.")
    if codecs:
        sentences.append(f"Compared with {_and(line.label for line in codecs)}.")
    if training := describe_training(own):
        sentences.append(training)
    sentences += [_bits_per_dim(run) for run in runs if run.summary]
    sentences += [sentence for run in runs for sentence in _lossless_bits_per_dim(run.lossless)]
    sentences += _set_distances(points)
    others: dict[str, list[str]] = {}
    for line in series:
        if style.is_published(line.points[0]):
            others.setdefault(data_name(line.points[0]), []).append(line.label)
    sentences += [f"Published by others on {data}: {_and(them)}." for data, them in others.items()]
    rates = []
    if any(point.rate_kind == "bound" for point in own):
        rates.append(
            "Rates of DiffC's decoders are upper bounds on an achievable rate, C + log2(C + 1) + 5 bits for "
            "an image whose ideal rate is C bits."
        )
    if any(point.rate_kind == "file" for point in own):
        rates.append(
            "Rates of codecs, that of DiffC too, are bytes of whole files, headers counted."
        )
    paragraph = f"<p>{tables.text(' '.join(sentences))}</p>"
    return paragraph + (f'<p class="caption">{tables.text(" ".join(rates))}</p>' if rates else "")


def notes(lines: Iterable[str]) -> str:
    """Remarks on what the page cannot show."""
    items = "".join(f"<li>{tables.text(line)}</li>" for line in lines)
    return f'<ul class="missing">{items}</ul>' if items else ""


def runs_section(runs: Sequence[Run]) -> str:
    """Bits per dimension, time and network evaluations of every run that was swept."""
    if not runs:
        return notes([NO_RUNS])
    swept = [(run, run.summary) for run in runs if run.summary]
    parts = []
    if swept:
        seconds = [_seconds_per_image(summary) for _, summary in swept]
        spent = list(dict.fromkeys(part for row in seconds for part in row))
        head = (*_SUMMARY_HEAD, *(f"s/image, {part}" for part in spent))
        rows = [
            (*_summary_row(run, summary), *(row.get(part) for part in spent))
            for (run, summary), row in zip(swept, seconds, strict=True)
        ]
        parts.append(tables.table(head, rows))
        if any(None in row.values() for row in seconds):
            parts.append(
                '<p class="caption">Seconds for each image are empty where an evaluation computed '
                "nothing: it had kept the results.</p>"
            )
    parts += [_evaluations(run, summary) for run, summary in swept]
    absent = [run.name for run in runs if run.is_sweep and not run.summary]
    parts.append(
        notes(
            f"{name}: no bits/dim, times and network evaluations (eval/summary.json)."
            for name in absent
        )
    )
    return "".join(parts)


def settings(runs: Sequence[Run]) -> str:
    """Config and environment of every run, folded."""
    if not runs:
        return notes([NO_RUNS])
    parts, missing = [], []
    for run in runs:
        for name, content in run.documents.items():
            text = tables.text(to_json(content))
            heading = f"<summary>{tables.text(f'{run.name}/{name}')}</summary>"
            parts.append(f"<details>{heading}<pre>{text}</pre></details>")
        found = {pathlib.PurePath(file).name for file in run.documents}
        if absent := [name for name in (CONFIG, ENVIRONMENT) if name not in found]:
            missing.append(f"{run.name}: no {_and(absent)}.")
    return "".join(parts) + notes(missing)


def commands(points: Sequence[RatePoint], runs: Sequence[Run]) -> str:
    """What to type to make the results again, from the root of the repository."""
    if not runs:
        return notes([NO_RUNS])
    lines = []
    for run in runs:
        flags = f"--config=CONFIG --workdir={_shell(run.workdir)}"
        # HiFiC and the hyper-prior in a run of their own, which has a config; baselines.py leaves none there.
        networks = style.NEURAL.keys() if CONFIG in run.documents else set[str]()
        if run.is_sweep or run.methods & networks:
            programs = ["train"] if CONFIG in run.documents else []
            lines += [
                f"python experiments/{program}.py {flags}" for program in (*programs, "evaluate")
            ]
        if run.methods - {*DIFFC_METHODS, *networks}:
            lines.append(f"python experiments/baselines.py {flags}")
    folders = ",".join(_shell(run.path) for run in runs)
    lines.append(f"python experiments/plot.py --inputs={folders} --output=FOLDER")
    known = "; its resolved values are folded above" if any(run.documents for run in runs) else ""
    seeds = sorted({point.seed for point in points if point.seed is not None})
    noise = f" The noise of the evaluation has the seed {_and(map(str, seeds))}." if seeds else ""
    text = (
        f"CONFIG is the config file of the run, with its overrides{known}. A command that finds "
        f"finished results continues from them.{noise}"
    )
    return f"<pre>{tables.text(chr(10).join(lines))}</pre><p>{tables.text(text)}</p>"


class _Summary(TypedDict, total=False):
    """What the page takes from summary.json, whose fields docs/output_files.md describes."""

    model: str | None
    checkpoint: str | None
    n_images: Count
    bits_per_dim: float | None
    bits_per_dim_stderr: float | None
    chain_steps: Count
    chain_bits_per_dim: float | None
    chain_bits_per_dim_stderr: float | None
    seconds_per_image: dict[str, float | None] | float | None
    denoiser_evaluations_per_image: dict[str, list[Count]]
    rate_evaluations_per_image: Count | None


class _LosslessCodec(TypedDict, total=False):
    bits_per_dim: float | None
    bits_per_dim_stderr: float | None


class _Lossless(TypedDict, total=False):
    """The same of lossless.json."""

    n_images: Count
    png: _LosslessCodec
    webp: _LosslessCodec
    jpegxl: _LosslessCodec


def _read_object(path: pathlib.Path, kind: Any = dict[str, Any]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = read_json(path, kind, "restore it, or delete it and run again")
    return content


def _summary_row(run: Run, summary: dict[str, Any]) -> tuple[Any, ...]:
    chain = f" (T = {summary['chain_steps']})" if "chain_steps" in summary else ""
    return (
        run.name,
        summary.get("model"),
        summary.get("checkpoint"),
        summary.get("n_images"),
        _with_error(summary, "bits_per_dim"),
        _with_error(summary, "chain_bits_per_dim") + chain,
    )


def _seconds_per_image(summary: dict[str, Any]) -> dict[str, float | None]:
    """Seconds for each image, by stage of the evaluation; older runs timed the sweep alone."""
    seconds = summary.get("seconds_per_image")
    return seconds if isinstance(seconds, dict) else {"sweep": seconds}


def _evaluations(run: Run, summary: dict[str, Any]) -> str:
    evaluations = summary.get("denoiser_evaluations_per_image")
    if not evaluations:
        return ""
    levels = range(1, 1 + max(map(len, evaluations.values())))
    rows = [
        (style.decoder_label(name), *row, *[None] * (len(levels) - len(row)))
        for name, row in evaluations.items()
    ]
    rates = summary.get("rate_evaluations_per_image")
    more = f", and {rates} for its rates" if rates else ""
    heading = f"{run.name}: network evaluations for each image{more}"
    table = tables.table(("decoder, noise level", *map(str, levels)), rows)
    return f"<h3>{tables.text(heading)}</h3>{table}"


def _bits_per_dim(run: Run) -> str:
    assert run.summary is not None
    named = (run.summary.get("model"), run.summary.get("checkpoint"))
    described = ", ".join(str(value) for value in named if value)
    return (
        f"{run.name} ({described}): {_with_error(run.summary, 'bits_per_dim')} bits/dim over "
        f"{tables.count(run.summary.get('n_images', 0), 'image')}."
    )


def _lossless_bits_per_dim(lossless: dict[str, Any] | None) -> Iterator[str]:
    codecs = [
        f"{label} {_with_error(lossless[name], 'bits_per_dim')}"
        for name, label in _LOSSLESS.items()
        if lossless and name in lossless
    ]
    if lossless and codecs:
        images = tables.count(lossless.get("n_images", 0), "image")
        yield f"Whole files of lossless codecs: {_and(codecs)} bits/dim over {images}."


def _set_distances(points: Sequence[RatePoint]) -> Iterator[str]:
    """One sentence for all distances in the same features over the same number of images."""
    measured: dict[str, dict[str, list[RatePoint]]] = {}
    for point in points:
        for name in SET_MEASURES:
            if has_measure(point, name):
                by_name = measured.setdefault(set_basis(point, name), {})
                by_name.setdefault(name, []).append(point)
    for by_name in measured.values():
        names = _and(describe_measure(name, having).title for name, having in by_name.items())
        (first, *_), *_ = by_name.values()
        yield f"{names} over {tables.count(first.n_images, 'image')}."


def _with_error(summary: dict[str, Any], name: str) -> str:
    value, error = summary.get(name), summary.get(f"{name}_stderr")
    if value is None:
        return "not measured"
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"


def _data_name(point: RatePoint) -> str:
    return " ".join(filter(None, (point.dataset, point.split)))


def _and(words: Iterable[str]) -> str:
    """The different words, in order: a, b and c."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last


def _shell(path: pathlib.Path) -> str:
    with contextlib.suppress(ValueError):
        path = path.resolve().relative_to(pathlib.Path.cwd())
    return shlex.quote(str(path))
