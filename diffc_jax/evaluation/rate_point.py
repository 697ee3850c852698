"""A rate point, one tidy row of `rd.csv`: names, types, units and meanings of its columns, in one place.

Readers, the report and the table in docs/output_files.md derive theirs from `COLUMNS`.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Annotated, get_args, get_type_hints

# `method` of the rows that `evaluate.py` writes: bounds of the sweep, and files of the same model.
DIFFC, DIFFC_CODEC = "diffc", "diffc_codec"
DIFFC_METHODS = (DIFFC, DIFFC_CODEC)
# `method` of the files of trained baselines, which is also their config.model.name.
HIFIC, HYPERPRIOR = "hific", "hyperprior"


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
            details="Over all pairs of at most 10,000 images, empty below 20; up to version 0.1 over pairs "
            "in subsets",
        ),
    ] = None
    kid_stderr: Annotated[
        float | None, Column("standard error of kid over the images", heading="± kernel")
    ] = None
    fid_reference: Annotated[
        str | None,
        Column(
            "images behind fid, kid, precision, recall, density and coverage",
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
            details="Of process 0, compilation and evaluation included. Empty for training on accelerators",
        ),
    ] = None
    fid_stderr: Annotated[
        float | None,
        Column(
            "standard error of fid over the images",
            heading="± Fréchet",
            details="The bias at this number of images is no part of it",
        ),
    ] = None
    fid_originals: Annotated[
        float | None,
        Column(
            "Fréchet distance to the evaluated images themselves",
            heading="Fréchet to originals",
            details="That is fid, unless there is `config.data.reference`. It rewards whoever is close to "
            "these images",
        ),
    ] = None
    fid_originals_stderr: Annotated[
        float | None,
        Column("standard error of fid_originals", heading="± Fréchet to originals"),
    ] = None
    kid_originals: Annotated[
        float | None,
        Column("kernel distance to the evaluated images", heading="kernel to originals"),
    ] = None
    kid_originals_stderr: Annotated[
        float | None, Column("standard error of kid_originals", heading="± kernel to originals")
    ] = None
    fid_minus_mean: Annotated[
        float | None,
        Column(
            "fid minus that of the posterior mean of the same latents",
            heading="Fréchet over D",
            details="Negative where the decoder is the more realistic one. The error of the difference is "
            "much smaller than those of the two",
        ),
    ] = None
    fid_minus_mean_stderr: Annotated[
        float | None, Column("standard error of fid_minus_mean", heading="± Fréchet over D")
    ] = None
    kid_minus_mean: Annotated[
        float | None,
        Column("kid minus that of the posterior mean of the same latents", heading="kernel over D"),
    ] = None
    kid_minus_mean_stderr: Annotated[
        float | None, Column("standard error of kid_minus_mean", heading="± kernel over D")
    ] = None
    precision: Annotated[
        float | None,
        Column(
            "fraction of the reconstructions in the manifold of the reference",
            details="With the 3 nearest neighbours, of at most 10,000 images, like the next three columns "
            "([more](#reading-the-numbers))",
        ),
    ] = None
    precision_stderr: Annotated[
        float | None, Column("standard error of precision", heading="± precision")
    ] = None
    recall: Annotated[
        float | None, Column("fraction of the reference in the manifold of the reconstructions")
    ] = None
    recall_stderr: Annotated[
        float | None, Column("standard error of recall", heading="± recall")
    ] = None
    density: Annotated[
        float | None,
        Column(
            "mean number of balls of reference images around a reconstruction, over 5",
            details="Balls reach to the 5th nearest neighbour. It may exceed 1",
        ),
    ] = None
    density_stderr: Annotated[
        float | None, Column("standard error of density", heading="± density")
    ] = None
    coverage: Annotated[
        float | None,
        Column("fraction of the balls of reference images with a reconstruction in them"),
    ] = None
    coverage_stderr: Annotated[
        float | None, Column("standard error of coverage", heading="± coverage")
    ] = None
    auc: Annotated[
        float | None,
        Column(
            "area under the ROC curve of a classifier that tells reconstructions from originals",
            heading="AUC",
            details="0.5 if it cannot, 1 if it always can. A logistic regression on features, for images "
            "that it was not trained on; empty below 20 images",
        ),
    ] = None
    auc_stderr: Annotated[
        float | None,
        Column("standard error of auc for the classifiers that were trained", heading="± AUC"),
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
