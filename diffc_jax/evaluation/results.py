"""The results schema: one tidy row per rate point, the same for every method.

Evaluators, baselines and plots share only this module: whoever writes `RatePoint`s appears in every figure.
`RatePoint` is the one place for names, types, units and meanings of columns; readers, the report and the
table in docs/output_files.md derive theirs from `COLUMNS`.
"""

import csv
import dataclasses
import io
import math
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import InputError
from diffc_jax.runtime.files import AnyPath, as_path, atomic_write

RATE_KINDS = ("bound", "file")
_MOST_DECIBELS = 1000.0
_LONGEST_SHOWN = 100
# Of methods whose points come from others.
PUBLISHED_PREFIX = "published:"
_SECONDS_PER_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column of `rd.csv` holds.

    Attributes:
        meaning: in plain text.
        unit: of the numbers; empty for counts, indices and pure numbers.
        heading: short name in tables that people read; empty for the column's own.
        details: more about it for docs/output_files.md, in Markdown.
        kind: type of a cell: str, int or float.
        required: whether the cell is filled in every row.
    """

    meaning: str
    unit: str = ""
    heading: str = ""
    details: str = ""
    kind: type = str
    required: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatePoint:
    """One row of `rd.csv`; None is an empty cell, where a column does not apply.

    The order of the fields is that of the columns; new ones are only added at the end.
    """

    method: Annotated[
        str,
        Column(
            "method that the row measures",
            details="`diffc` (the sweep), `diffc_codec` (its files), `jpeg`, `webp`, `jpeg2000`, `avif`, "
            "`jpegxl`, `hevc`, `dithered_pcm`; `hific`, `hyperprior` (networks [trained here](hific.md), "
            "one for each rate); `published:NAME` (results of others, "
            "[sources](../diffc_jax/baselines/published/README.md))",
        ),
    ]
    model: Annotated[
        str | None,
        Column(
            "denoiser, or variant of the codec",
            details="a key of `diffc_jax.models.MODELS`, such as `unet`; the chroma subsampling of JPEG; the "
            "width of the networks of `hific` and `hyperprior`",
        ),
    ] = None
    decoder: Annotated[
        str | None,
        Column(
            "decoder of DiffC",
            details="`ancestral` (DiffC-A), `flow` (DiffC-F), `mean` (posterior mean, DiffC-D), `kappa=K` "
            "(score-scaled flow)",
        ),
    ] = None
    rate_kind: Annotated[
        str,
        Column(
            "bound: upper bound on an achievable rate; file: bytes of real files, headers counted",
            heading="rate",
        ),
    ]
    level: Annotated[
        float | None,
        Column(
            "standard deviation of the noise in z, or quality setting of the codec",
            details="The target rate in bits per pixel of `hific` and `hyperprior`",
        ),
    ] = None
    gamma: Annotated[
        float | None,
        Column(
            "negative log signal-to-noise ratio of the transmitted z",
            details="For files the mean over the images, each of which ends at its own step",
        ),
    ] = None
    bpp: Annotated[
        float,
        Column(
            "achievable rate, mean over the images",
            unit="bits per pixel",
            details="For `bound` C + log2(C + 1) + 5 bits, with C the mean ideal rate of an image",
        ),
    ]
    bpp_kl: Annotated[
        float | None,
        Column(
            "ideal rate C, the sum of the KL divergences of the chain",
            unit="bits per pixel",
            heading="ideal bpp",
            details="For files the mean over the images, each at its own noise level",
        ),
    ] = None
    bpp_headerless: Annotated[
        float | None,
        Column(
            "file size without the constant bytes of the container",
            unit="bits per pixel",
            heading="headerless bpp",
            details="What is left out for each codec: `baselines/containers.py`",
        ),
    ] = None
    psnr: Annotated[
        float | None,
        Column("PSNR of the mean squared error over all images", unit="dB", heading="PSNR"),
    ] = None
    psnr_mean: Annotated[
        float | None, Column("mean PSNR of the images", unit="dB", heading="mean PSNR")
    ] = None
    mse: Annotated[float | None, Column("mean squared error of 8-bit values", heading="MSE")] = None
    fid: Annotated[
        float | None,
        Column(
            "Fréchet distance in the features of the network in fid_features",
            heading="Fréchet",
            details="Only with `inception_v3_fid` is it the FID; with `efficientnet_lite0` it is another "
            "number, comparable only with itself. It falls with the number of images: compare at equal "
            "`n_images`",
        ),
    ] = None
    fid_features: Annotated[
        str | None, Column("feature network behind fid and kid", heading="features")
    ] = None
    lpips: Annotated[float | None, Column("mean LPIPS with AlexNet", heading="LPIPS")] = None
    n_images: Annotated[int, Column("number of images behind the row", heading="images")]
    n_steps: Annotated[
        int | None,
        Column("denoiser evaluations for each image by the decoder", heading="evaluations"),
    ] = None
    seed: Annotated[int | None, Column("seed of the evaluation noise")] = None
    dataset: Annotated[
        str, Column("data set and variant, as the source names itself", heading="data")
    ]
    split: Annotated[str | None, Column("split of the data set")] = None
    checkpoint: Annotated[str | None, Column("which parameters were evaluated")] = None
    n_rate_steps: Annotated[
        int | None, Column("T, the number of steps of the chain behind bpp_kl", heading="T")
    ] = None
    bpp_stderr: Annotated[
        float | None,
        Column("standard error of bpp over the images", unit="bits per pixel", heading="± bpp"),
    ] = None
    psnr_mean_stderr: Annotated[
        float | None,
        Column("standard error of psnr_mean over the images", unit="dB", heading="± mean PSNR"),
    ] = None
    lpips_stderr: Annotated[
        float | None, Column("standard error of lpips over the images", heading="± LPIPS")
    ] = None
    lpips_vgg: Annotated[
        float | None,
        Column(
            "mean LPIPS with VGG16",
            heading="LPIPS VGG",
            details="Only if `eval.image_metrics` asks for it",
        ),
    ] = None
    lpips_vgg_stderr: Annotated[
        float | None, Column("standard error of lpips_vgg over the images", heading="± LPIPS VGG")
    ] = None
    ms_ssim: Annotated[
        float | None,
        Column(
            "mean MS-SSIM with the scales that fit into the images (three at 64x64)",
            heading="MS-SSIM",
            details="Only if `eval.image_metrics` asks for it",
        ),
    ] = None
    ms_ssim_stderr: Annotated[
        float | None, Column("standard error of ms_ssim over the images", heading="± MS-SSIM")
    ] = None
    kid: Annotated[
        float | None,
        Column(
            "unbiased kernel distance in the features of the network in fid_features",
            heading="kernel",
            details="Of at most 10,000 images",
        ),
    ] = None
    kid_stderr: Annotated[
        float | None, Column("standard error of kid, from disjoint subsets", heading="± kernel")
    ] = None
    fid_reference: Annotated[
        str | None,
        Column(
            "images that fid and kid compare with",
            heading="reference",
            details="`originals`, the same images, or those of `config.data.reference`, with their number "
            "(their statistics are kept in `W/eval/reference`, under a hash of the images)",
        ),
    ] = None
    bpp_estimate: Annotated[
        float | None,
        Column(
            "file size that the entropy models of a trained codec estimate",
            unit="bits per pixel",
            heading="estimated bpp",
            details="`bpp_headerless` is the size that the range coder reached",
        ),
    ] = None
    trained_parameters: Annotated[
        int | None,
        Column("number of trained parameters that the decoder needs", heading="parameters"),
    ] = None
    images_seen: Annotated[
        int | None, Column("images seen in training, repetitions counted", heading="images seen")
    ] = None
    train_cpu_hours: Annotated[
        float | None,
        Column(
            "CPU time of training, all cores together",
            unit="CPU hours",
            heading="CPU hours",
            details="Of process 0, compilation and evaluation included",
        ),
    ] = None


def _columns() -> dict[str, Column]:
    columns = {}
    hints = get_type_hints(RatePoint, include_extras=True)
    for field in dataclasses.fields(RatePoint):
        annotation, column = get_args(hints[field.name])
        kind, *_ = get_args(annotation) if isinstance(annotation, types.UnionType) else [annotation]
        columns[field.name] = dataclasses.replace(
            column,
            heading=column.heading or field.name,
            kind=kind,
            required=field.default is dataclasses.MISSING,
        )
    return columns


COLUMNS: Mapping[str, Column] = _columns()


def columns_table() -> str:
    """The Markdown table of `COLUMNS` in docs/output_files.md, which scripts/update_docs.py writes there."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for name, column in COLUMNS.items():
        kind = column.kind.__name__ + ("" if column.required else " or empty")
        joint = ": " if column.details.startswith("`") else ". "
        meaning = joint.join(filter(None, (column.meaning, column.details)))
        lines.append(f"| `{name}` | {kind} | {column.unit} | {meaning} |")
    return "\n".join(lines)


def finite(value: float | Float[np.ndarray, ""]) -> float | None:
    """None, an empty cell, for what is not a finite number."""
    return float(value) if math.isfinite(value) else None


def training_costs(n_parameters: int, spent: Mapping[str, Any]) -> dict[str, int | float]:
    """Columns `trained_parameters`, `images_seen` and `train_cpu_hours` of results, those that are known.

    Args:
        n_parameters: trained parameters; a model without any has cost nothing.
        spent: `images_seen` and `train_cpu_seconds`, as in the card beside exported parameters.
    """
    if not n_parameters:
        return {}
    seconds = spent.get("train_cpu_seconds")
    costs = {
        "trained_parameters": n_parameters,
        "images_seen": spent.get("images_seen"),
        "train_cpu_hours": None if seconds is None else seconds / _SECONDS_PER_HOUR,
    }
    return {name: cost for name, cost in costs.items() if cost is not None}


def write_table(
    path: str | os.PathLike[str], fields: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes a CSV file, whole or not at all; floats keep their full precision, None is empty."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, tuple(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_rate_points(
    path: str | os.PathLike[str],
    points: Iterable[RatePoint],
    keep: Callable[[RatePoint], bool] | None = None,
) -> None:
    """Writes `rd.csv`, behind the rows of the file so far for which `keep` is true, if it is given."""
    if keep is not None and as_path(path).exists():
        points = [*filter(keep, read_rate_points(path)), *points]
    write_table(path, COLUMNS, (dataclasses.asdict(point) for point in points))


def read_rate_points(path: str | os.PathLike[str]) -> list[RatePoint]:
    """Reads `rd.csv`; columns that a newer version added at the end are ignored.

    Raises:
        InputError: missing file, missing column, or a cell of the wrong type (row and column named).
    """
    path = as_path(path)
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error
    return [_parse_row(path, number, row) for number, row in enumerate(rows, start=2)]


def read_table(
    path: str | os.PathLike[str],
    *,
    numbers: Sequence[str],
    integers: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Yields columns of a CSV file with a header line, row by row: `numbers`, as floats, and the others.

    Raises:
        InputError: missing file, missing column, or a cell that is no number (line and column named).
    """
    path = as_path(path)
    try:
        with path.open("rb") as stream:
            reader = csv.DictReader(line.decode() for line in stream)
            wanted = (*numbers, *integers, *texts)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}")
            for row in reader:
                values: dict[str, Any] = {name: row[name] for name in texts}
                for names, kind in ((numbers, float), (integers, int)):
                    for name in names:
                        values[name] = _parse_cell(path, reader.line_num, name, row[name], kind)
                yield values
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error


def _parse_row(path: AnyPath, number: int, row: dict[str, str | None]) -> RatePoint:
    values: dict[str, Any] = {}
    for name, column in COLUMNS.items():
        text = row.get(name) or ""
        if text:
            values[name] = _parse_cell(path, number, name, text, column.kind)
            if column.unit == "dB" and _MOST_DECIBELS < abs(values[name]) < math.inf:
                raise InputError(f"{path}, line {number}: {name} is {values[name]} dB")
        elif column.required:
            raise InputError(f"{path}, line {number}: column {name!r} is missing or empty")
    if values["rate_kind"] not in RATE_KINDS:
        raise InputError(
            f"{path}, line {number}: rate_kind is {values['rate_kind']!r}, not one of {RATE_KINDS}"
        )
    if not math.isfinite(values["bpp"]) or values["bpp"] < 0:
        raise InputError(f"{path}, line {number}: bpp is {values['bpp']}, not a finite rate")
    return RatePoint(**values)


def _parse_cell(path: AnyPath, line: int, name: str, text: str | None, kind: type) -> Any:
    """A cell as a value of its type; integers have 64 bits, and no number is NaN."""
    try:
        value = kind(text or "")
        if kind is not str and (math.isnan(value) or (kind is int and abs(value) >= 2**63)):
            raise ValueError
    except (ValueError, OverflowError):
        shown = (text or "")[:_LONGEST_SHOWN]
        raise InputError(
            f"{path}, line {line}: column {name!r} is not a number: {shown!r}"
        ) from None
    return value
