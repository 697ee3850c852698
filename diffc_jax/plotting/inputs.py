"""What plots are made of: the rate points of every input, and what tells those of one from those of another.

Each input, a workdir or a table, is a run of its own. Where two have points of the same method, model and
decoder, their lines are labelled by the settings in which the runs differ, or else by the names of their
folders. `rd.csv` does not know this: it is read from the JSON files beside it.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import results
from diffc_jax.evaluation.image_sets import read_images
from diffc_jax.evaluation.result_files import CONFIG, RATES
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting import style
from diffc_jax.plotting.reconstructions import Label
from diffc_jax.plotting.style import Line, RunPoint, line_of
from diffc_jax.runtime.files import AnyPath, read_json
from diffc_jax.runtime.run_config import flatten, is_trained

# Settings of an evaluation that move points of the same weights.
_OF_EVALUATION = ("ancestral_steps", "flow_steps", "codec_memory", "rate_evaluations")
# Of a card, besides the model and its schedule: what weights were trained on.
_OF_A_CARD = ("image_size", "dataset", "split", "images_seen", "ema_decay")
# The column of tables behind figures that keeps runs apart.
_RUN = "run"
# More differences than these say less than the name of a folder.
_MOST_DIFFERENCES = 3


@dataclasses.dataclass(frozen=True)
class Input:
    """One workdir or table.

    Attributes:
        path: as it was given.
        name: the end of the path that no other input has.
        points: those that no other input has too, each a `RunPoint` where its line needs a label.
    """

    path: pathlib.Path
    name: str
    points: tuple[RatePoint, ...]

    def label(self, method: str, model: str | None) -> str | None:
        """What to call results of a method beside those of other inputs; None if only it has them."""
        for point in self.points:
            if isinstance(point, RunPoint) and (point.method, point.model) == (method, model):
                return point.settings or point.run
        return None

    @property
    def is_table(self) -> bool:
        """Whether it is a table alone, and no folder of a run."""
        return _is_table(self.path)


def collect_rate_points(inputs: Sequence[str | os.PathLike[str]]) -> list[RatePoint]:
    """The points of `read_inputs`, of all inputs together."""
    return [point for one in read_inputs(inputs) for point in one.points]


def read_inputs(inputs: Sequence[str | os.PathLike[str]]) -> list[Input]:
    """Reads `eval/rd.csv` of every workdir, or the CSV files named; equal lines count once.

    Raises:
        UsageError: no inputs.
        InputError: an input without results; the message names the commands that make them.
    """
    if not inputs:
        raise UsageError("empty; name at least one workdir or rd.csv file", field="inputs")
    given = list(dict.fromkeys(map(pathlib.Path, inputs)))
    ends = _distinct_ends([path.parent.parent if _is_result(path) else path for path in given])
    found = [
        (path, run or end, lines)
        for path, end in zip(given, ends, strict=True)
        for run, lines in _runs(path).items()
    ]
    paths, names = [path for path, _, _ in found], [name for _, name, _ in found]
    lines = _without_copies([lines for _, _, lines in found])
    settings = _differing_settings(paths, lines)
    return [
        Input(
            path,
            name,
            tuple(
                _labelled(point, line, name, own, lines)
                for line, points in by_line.items()
                for point in points
            ),
        )
        for path, name, by_line, own in zip(paths, names, lines, settings, strict=True)
    ]


def labels_of(inputs: Sequence[Input]) -> Label:
    """For `collect_reconstructions`: what to call the results of a workdir, see `Input.label`."""
    by_path = {one.path: one for one in inputs}

    def label(path: AnyPath, method: str, model: str | None) -> str | None:
        return by_path[path].label(method, model)

    return label


def check_same_pixels(inputs: Sequence[str | os.PathLike[str]]) -> None:
    """Refuses inputs whose images have the same name and number, but other pixels.

    Inputs of older versions do not say which images theirs are.

    Raises:
        UsageError: two that do not compare.
    """
    known: dict[tuple[str, str, int], tuple[str, pathlib.Path]] = {}
    for path in map(pathlib.Path, inputs):
        images = None if _is_table(path) and not _is_result(path) else read_images(_folder(path))
        if images is None:
            continue
        key = images.dataset, images.split, images.n_images
        digest, first = known.setdefault(key, (images.digest, path))
        if digest != images.digest:
            raise UsageError(
                f"{first} and {path} have results of different images, though both are called"
                f" {images.dataset} {images.split}, {images.n_images} images; evaluate all methods on the"
                " same images, or set allow_mixed_data",
                field="inputs",
            )


def check_output(inputs: Sequence[str | os.PathLike[str]], output: pathlib.Path) -> None:
    """Refuses a folder with the results of an input, where figures would replace the tables they come from.

    Raises:
        UsageError: it is one.
    """
    for path in map(pathlib.Path, inputs):
        if (_is_result(path) or not _is_table(path)) and _folder(
            path
        ).resolve() == output.resolve():
            raise UsageError(
                f"{output} has the results of {path}, which figures would replace; choose another folder",
                field="output",
            )


def _runs(path: pathlib.Path) -> dict[str, dict[Line, list[RatePoint]]]:
    """The lines of an input: of one run without a name, or of those in the table behind a figure."""
    table = path if _is_table(path) else path / "eval" / RATES
    if not table.is_file():
        raise InputError(f"{table}: does not exist; {_how_to_make(path)}")
    points = dict.fromkeys(enumerate(results.read_rate_points(table)), "")
    if not points:
        raise InputError(f"{table}: has no rows; {_how_to_make(path)}")
    with contextlib.suppress(InputError):  # there is no such column
        rows = results.read_table(table, numbers=(), texts=(_RUN,))
        points = {point: row[_RUN] for point, row in zip(points, rows, strict=True)}
    runs: dict[str, dict[Line, list[RatePoint]]] = {}
    for (_, point), run in points.items():
        line = runs.setdefault(run, {}).setdefault(line_of(point), [])
        if point not in line:
            line.append(point)
    return runs


def _without_copies(
    inputs: Sequence[dict[Line, list[RatePoint]]],
) -> list[dict[Line, list[RatePoint]]]:
    """Leaves out lines whose points are all in another input too; those of a denoiser only together."""

    def is_copy(position: int, other: int, line: Line) -> bool:
        points, there = inputs[position][line], inputs[other].get(line, [])
        return {*points} <= {*there} and (other < position or len(points) < len(there))

    def is_left_out(position: int, line: Line) -> bool:
        together = [line]
        if line.is_diffc:
            together = [
                one for one in inputs[position] if (one.is_diffc, one.model) == (True, line.model)
            ]
        return any(
            all(is_copy(position, other, one) for one in together)
            for other in range(len(inputs))
            if other != position
        )

    return [
        {line: points for line, points in lines.items() if not is_left_out(position, line)}
        for position, lines in enumerate(inputs)
    ]


def _labelled(
    point: RatePoint,
    line: Line,
    name: str,
    settings: Mapping[str | None, str],
    inputs: Sequence[Mapping[Line, Sequence[RatePoint]]],
) -> RatePoint:
    """A `RunPoint` if other inputs have points of the same line or, of a denoiser, of its model."""
    if line.is_diffc:
        own = settings.get(line.model)
        return point if own is None else RunPoint(**vars(point), run=name, settings=own or None)
    found = [lines[line] for lines in inputs if line in lines]
    levels = [point.level for points in found for point in points]
    # Of HiFiC each point is a network of its own, from a run of its own.
    is_one_line = line.method in style.NEURAL and len({*levels}) == len(levels)
    return point if len(found) == 1 or is_one_line else RunPoint(**vars(point), run=name)


def _differing_settings(
    paths: Sequence[pathlib.Path], inputs: Sequence[Mapping[Line, Sequence[RatePoint]]]
) -> list[dict[str | None, str]]:
    """For each input the settings in which its DiffC points differ from those of others, by model.

    Only models are listed that others have too, and texts that are not one run's alone are empty.
    """
    found: list[dict[str | None, str]] = [{} for _ in inputs]
    models = {line.model: None for lines in inputs for line in lines if line.is_diffc}
    for model in models:
        having = [
            position
            for position, lines in enumerate(inputs)
            if any(line.is_diffc and line.model == model for line in lines)
        ]
        if len(having) > 1:
            texts = describe_differences([_settings(paths[position]) for position in having])
            for position, text in zip(having, texts, strict=True):
                found[position][model] = text if texts.count(text) == 1 else ""
    return found


def describe_differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of some runs has that not all have: "learning_rate 0.01".

    Empty texts where that is too much, or where nothing is known of one of them.
    """
    fields = list(dict.fromkeys(field for one in settings for field in one))
    differing = [f for f in fields if any(one.get(f) != settings[0].get(f) for one in settings)]
    if len(differing) > _MOST_DIFFERENCES or not all(settings):
        return ["" for _ in settings]
    ends = [field.rpartition(".")[2] for field in differing]
    shown = [
        end if ends.count(end) == 1 else field for field, end in zip(differing, ends, strict=True)
    ]
    return [
        ", ".join(
            f"{name} {_text(one[field])}" if field in one else f"default {name}"
            for field, name in zip(differing, shown, strict=True)
        )
        for one in settings
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(str, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings(path: pathlib.Path) -> dict[str, Any]:
    """What decides the DiffC points of an input, by field; nothing where no file says it."""
    if _is_table(path) and not _is_result(path):
        return {}
    folder = _folder(path)
    evaluation = _flat(folder / CONFIG)
    settings = {
        field: value
        for field, value in evaluation.items()
        if field.startswith("eval.") and field.removeprefix("eval.") in _OF_EVALUATION
    }
    params = evaluation.get("eval.params")
    if isinstance(params, str) and pathlib.Path(params).name:
        return settings | dict(_of_weights(pathlib.Path(params)))
    # The images of a subset are evaluated in a folder inside that of the run.
    run = next((at for at in folder.parents[:2] if (at / CONFIG).is_file()), folder)
    trained = {f: v for f, v in _flat(run / CONFIG).items() if is_trained(f)}
    trained.pop("seed", None)  # a column of its own
    return settings | trained


def _of_weights(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """What the card of exported weights says, if it is still there."""
    for field, value in _flat(path.with_suffix(".json")).items():
        if field in _OF_A_CARD or field.startswith(("model.", "schedule.")):
            yield field, value


def _flat(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object with joined names, empty if there is none."""
    return flatten(read_json(path, dict[str, Any], "restore it") if os.path.isfile(path) else {})


def _distinct_ends(paths: Sequence[pathlib.Path]) -> list[str]:
    """As many last parts of each path as no other of them ends in."""
    parts = [path.absolute().parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next(
            (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)),
            len(own),
        )
        names.append("/".join(own[-length:]))
    return names


def _folder(path: pathlib.Path) -> pathlib.Path:
    """Where the table of an input is, with what is beside it."""
    return path.parent if _is_table(path) else path / "eval"


def _is_table(path: pathlib.Path) -> bool:
    return path.suffix == ".csv" and not path.is_dir()


def _is_result(path: pathlib.Path) -> bool:
    """Whether a table is the one of a workdir."""
    return _is_table(path) and path.name == RATES and path.absolute().parent.name == "eval"


def _how_to_make(source: pathlib.Path) -> str:
    workdir = source.parent.parent if source.suffix == ".csv" else source
    return (
        f"make it with: python experiments/evaluate.py --config=CONFIG --workdir={workdir} "
        "(or experiments/baselines.py with the same flags)"
    )


def point_rows(points: Sequence[RatePoint]) -> list[dict[str, Any]]:
    """The columns of `rd.csv`, the same for all points, and those of `RunPoint` if there is one."""
    rows = [dataclasses.asdict(point) for point in points]
    if any(isinstance(point, style.RunPoint) for point in points):
        rows = [{"run": None, "settings": None, **row} for row in rows]
        rows = [{name: row[name] for name in (*results.COLUMNS, "run", "settings")} for row in rows]
    return rows
