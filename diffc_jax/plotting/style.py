"""Which line every method gets: one style per group, safe for colour-blind readers and for print.

Colours are those of Okabe and Ito. Hue tells decoders of DiffC apart, a dark shade with long dashes and
hollow markers is real files of the same decoder, purple is trained codecs, grey and dashes are classical
ones, thin pale lines are numbers that others published, and markers differ within each group, so that no two
lines rely on colour alone.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.colors import to_hex, to_rgb

from diffc_jax.diffusion.decoders import DECODERS, Decoder, find_decoder
from diffc_jax.evaluation.rate_point import DIFFC_CODEC, DIFFC_METHODS
from diffc_jax.evaluation.results import PUBLISHED_PREFIX, RatePoint

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
CAPTION_GREY = "0.35"
DASHED, DOTTED, MIXED = (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2))

RC: Mapping[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "0.25",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
}
# One font in each file: embedding a second one takes longer than drawing.
ONE_FONT = dict(RC) | {"axes.titleweight": "normal"}

# Members of families of decoders, and decoders that are not registered here, take these in turn.
_OTHER_DECODERS = ((PURPLE, "D"), (ORANGE, "P"), (SKY, "v"), (BLACK, "h"))

# Models whose exact denoiser is known: fitted distributions that every network should beat.
GAUSSIAN_BASELINES = ("gaussian",)
_FILES_DASHES, _FILES_SHADE = (0, (7, 1.3)), 0.55

# Greys with a tint, dashes, open markers: (label, colour, dashes, marker).
CODECS: Mapping[tuple[str, str | None], tuple[str, str, Any, str]] = {
    ("jpeg", "4:2:0"): ("JPEG 4:2:0", "#8A8A8A", (0, (1.2, 1.2)), "v"),
    ("jpeg", "4:4:4"): ("JPEG 4:4:4", "#6E6E6E", (0, (3, 1.2)), "^"),
    ("webp", None): ("WebP", "#97713F", (0, (6, 1.5)), "P"),
    ("jpeg2000", None): ("JPEG 2000", "#5A6C9A", (0, (4, 1.2, 1, 1.2)), "d"),
    ("avif", None): ("AVIF", "#1F1F1F", (0, (8, 1.5)), "X"),
    ("jpegxl", None): ("JPEG XL", "#3F7F5F", (0, (10, 1.5, 1, 1.5)), "D"),
    ("hevc", None): ("HEVC intra (x265)", "#6B3E6B", (0, (5, 1, 5, 1, 1, 1)), "s"),
    ("dithered_pcm", None): ("Dithered PCM", "#B08D57", (0, (1, 2.4)), "o"),
}
# Trained codecs, one network for each point: (label, colour, marker).
NEURAL: Mapping[str, tuple[str, str, str]] = {
    "hific": ("HiFiC, ours", "#A3195B", "*"),
    "hyperprior": ("Hyper-prior, ours", "#6A3D9A", "p"),
}
_OTHER_CODECS: Sequence[tuple[str, Any, str]] = (
    ("#7E5A7A", (0, (6, 1.2, 1, 1.2, 1, 1.2)), "h"),
    ("#4F7A6A", (0, (2, 1, 5, 1)), "p"),
    ("#A08060", (0, (1.2, 1.2, 4, 1.2)), "*"),
)

# Methods of diffc_jax/baselines/published: (label, colour, marker).
PUBLISHED: Mapping[str, tuple[str, str, str]] = {
    "diffc-f": ("DiffC-F (VDM, T = 20)", VERMILION, "o"),
    "diffc-a": ("DiffC-A (VDM, T = 20)", BLUE, "s"),
    "diffc-d": ("DiffC-D (VDM, T = 20)", GREEN, "^"),
    "diffc-d-1000": ("DiffC-D (VDM, T = 1000)", GREEN, "v"),
    "uqdm-f": ("UQDM, flow", ORANGE, "D"),
    "uqdm-a": ("UQDM, ancestral", ORANGE, "P"),
    "uqdm-d": ("UQDM, denoised", ORANGE, "X"),
    "hific": ("HiFiC", PURPLE, "*"),
    "cdc-p0": ("CDC, p = 0", SKY, "<"),
    "cdc-p0.9": ("CDC, p = 0.9", SKY, ">"),
    "ctc": ("CTC", SKY, "h"),
    "balle2018": ("Ballé 2018", PURPLE, "p"),
    "minnen2020": ("Minnen 2020", PURPLE, "d"),
    "jpeg": ("JPEG", "#7A7A7A", "1"),
    "jpeg2000": ("JPEG 2000", "#5A6C9A", "x"),
    "bpg": ("BPG", "#1F1F1F", "+"),
}
_OTHER_PUBLISHED = (BLACK, "8")
_KNOWN_CODECS = {method for method, _ in CODECS}
_RATE_KINDS = {"bound": "upper bound", "file": "file bytes"}


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: its points in order of rate, its legend entry and how it looks.

    Attributes:
        group: heading in the legend, one or two lines.
        label: entry under the heading.
        points: in order of rate.
        line: keyword arguments of a matplotlib line.
    """

    group: str
    label: str
    points: tuple[RatePoint, ...]
    line: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPoint(RatePoint):
    """A rate point of one of several runs that have its line.

    Attributes:
        run: a name that no other run has.
        settings: in which it differs from the others, for labels.
    """

    run: str
    settings: str | None = None


def run_of(point: RatePoint) -> str | None:
    """The run of a `RunPoint`."""
    return point.run if isinstance(point, RunPoint) else None


def series_of(points: Sequence[RatePoint]) -> list[Series]:
    """Sorts points into lines, and lines into groups: networks, Gaussian baselines, codecs, others.

    Points of one method, model, decoder and kind of rate share a line unless they differ in run,
    checkpoint, T, seed or images; then each gets its own, and the label says what differs: settings of the
    runs, or their names where nothing else does.
    """
    lines: dict[tuple[Line, _Circumstances], list[RatePoint]] = {}
    for point in points:
        lines.setdefault((line_of(point), _circumstances(point)), []).append(point)
    runs = list(dict.fromkeys(map(run_of, points)))
    scene = _Scene.of(points)
    series = []
    for identity in sorted({identity for identity, _ in lines}, key=scene.rank):
        variants = sorted(
            (c for i, c in lines if i == identity),
            key=lambda c: (runs.index(c[0][1]), [(value is not None, value) for _, value in c[1:]]),
        )
        for repeat, (circumstances, label) in enumerate(
            zip(variants, _labels(_label(identity), variants), strict=True)
        ):
            series.append(
                Series(
                    group=_group(identity),
                    label=label,
                    points=tuple(sorted(lines[identity, circumstances], key=lambda p: p.bpp)),
                    line=scene.line(identity) | _repeated(repeat),
                )
            )
    return series


def _labels(name: str, variants: Sequence["_Circumstances"]) -> list[str]:
    """`name` of a line, for each of its variants with the circumstances that differ."""
    differing = [len(set(column)) > 1 for column in zip(*variants, strict=True)]
    differing[0] = False  # the run, which says less than what differs in it
    labels = []
    for circumstances in variants:
        remarks = (
            f"{what} {value}".strip()
            for what, value in itertools.compress(circumstances, differing)
            if value is not None
        )
        labels.append(", ".join((name, *remarks)))
    runs = [circumstances[0][1] for circumstances in variants]
    return [
        f"{label}, {run}" if run and labels.count(label) > 1 else label
        for label, run in zip(labels, runs, strict=True)
    ]


class Line(NamedTuple):
    """What the points of a line have in common, whatever the run; `dataset` is of published points."""

    method: str
    model: str | None
    decoder: str | None
    rate_kind: str
    dataset: str | None  # published points are never on the images of a run

    @property
    def published_name(self) -> str:
        """The method without the mark of published ones."""
        return self.method.removeprefix(PUBLISHED_PREFIX)

    @property
    def is_diffc(self) -> bool:
        """Whether it is of a denoiser, by bounds or by files."""
        return self.method in DIFFC_METHODS

    @property
    def is_files(self) -> bool:
        """Whether it is of the files of DiffC."""
        return self.method == DIFFC_CODEC

    @property
    def is_network(self) -> bool:
        """Whether it is of a trained denoiser."""
        return self.is_diffc and self.model not in GAUSSIAN_BASELINES

    @property
    def codec(self) -> tuple[str, str | None]:
        """A key of `CODECS`, if it is a known codec."""
        return self.method, self.model


def is_published(point: RatePoint) -> bool:
    """Whether others measured the point."""
    return point.method.startswith(PUBLISHED_PREFIX)


def line_of(point: RatePoint) -> Line:
    """The line of a point."""
    dataset = point.dataset if is_published(point) else None
    return Line(point.method, point.model, point.decoder, point.rate_kind, dataset)


_Circumstances = tuple[tuple[str, Any], ...]


def _circumstances(point: RatePoint) -> _Circumstances:
    settings = point.settings if isinstance(point, RunPoint) else None
    return (
        ("run", run_of(point)),
        ("", settings),
        ("checkpoint", point.checkpoint),
        ("T", point.n_rate_steps),
        ("seed", point.seed),
        ("on", " ".join(filter(None, (point.dataset, point.split)))),
        ("images", point.n_images),
    )


@dataclasses.dataclass(frozen=True)
class _Scene:
    """What one figure shows, in drawing order: networks, decoders, codecs and others' data sets."""

    networks: tuple[str | None, ...]
    decoders: tuple[str | None, ...]
    codecs: tuple[tuple[str, str | None], ...]
    neural: tuple[tuple[str, str | None], ...]
    datasets: tuple[str, ...]

    @classmethod
    def of(cls, points: Sequence[RatePoint]) -> "_Scene":
        present = {line_of(point) for point in points}
        known_codecs, known_decoders = list(CODECS), [one.name for one in _single_decoders()]
        codecs = {i.codec for i in present if not (i.is_diffc or i.method in NEURAL or i.dataset)}
        decoders = {i.decoder for i in present if i.is_diffc} - set(known_decoders)
        return cls(
            networks=tuple(sorted({i.model for i in present if i.is_network}, key=str)),
            decoders=(*known_decoders, *sorted(decoders, key=str)),
            codecs=(*known_codecs, *sorted(codecs - set(known_codecs), key=str)),
            neural=tuple(sorted({i.codec for i in present if i.method in NEURAL}, key=str)),
            datasets=tuple(sorted({i.dataset for i in present if i.dataset})),
        )

    def rank(self, identity: Line) -> tuple[int, int, int, str]:
        if identity.dataset:
            names = [*PUBLISHED, identity.published_name]
            group = 2 * self.datasets.index(identity.dataset) + (identity.rate_kind == "file")
            return 5, group, names.index(identity.published_name), str(identity)
        if identity.method in NEURAL:
            return 2, 0, list(NEURAL).index(identity.method), str(identity)
        if not identity.is_diffc:
            group = 3 if identity.method in _KNOWN_CODECS else 4
            is_bound = int(identity.rate_kind == "bound")
            return group, is_bound, self.codecs.index(identity.codec), str(identity)
        decoder = self.decoders.index(identity.decoder)
        if not identity.is_network:
            group = 2 * GAUSSIAN_BASELINES.index(identity.model or "") + identity.is_files
            return 1, group, decoder, str(identity)
        group = 2 * self.networks.index(identity.model) + identity.is_files
        return 0, group, decoder, str(identity)

    def line(self, identity: Line) -> dict[str, Any]:
        if identity.dataset:
            return self._published_line(identity) | _repeated(self.datasets.index(identity.dataset))
        if identity.method in NEURAL:
            _, color, marker = NEURAL[identity.method]
            same = [codec for codec in self.neural if codec[0] == identity.method]
            line = {"color": color, "marker": marker, "linestyle": "-"}
            line |= _repeated(same.index(identity.codec))
            return line | {"linewidth": 1.3, "markersize": 4.5, "zorder": 2.5}
        return self._diffc_line(identity) if identity.is_diffc else self._codec_line(identity)

    def _diffc_line(self, identity: Line) -> dict[str, Any]:
        position = self.decoders.index(identity.decoder)
        looks = [*((one.color, one.marker) for one in _single_decoders()), *_OTHER_DECODERS]
        turn, position = divmod(position, len(looks))
        color, marker = looks[position]
        line: dict[str, Any] = {"color": color, "marker": marker, "linestyle": "-"}
        if identity.is_files:
            red, green, blue = (_FILES_SHADE * value for value in to_rgb(color))
            dark = to_hex((red, green, blue)).upper()
            line |= {"color": dark, "linestyle": _FILES_DASHES, "markerfacecolor": "white"}
        if not identity.is_network:
            line |= {"linewidth": 0.9, "markersize": 2.2, "alpha": 0.5, "zorder": 2.2}
            return line | _repeated(turn)
        line |= {"linewidth": 1.6, "markersize": 4.2, "zorder": 3}
        pair, second = divmod(self.networks.index(identity.model), 2)
        if second:
            line |= {"linewidth": 1.2, "markerfacecolor": "white"}
        return line | _repeated(turn + pair)

    def _codec_line(self, identity: Line) -> dict[str, Any]:
        if identity.codec in CODECS:
            _, color, dashes, marker = CODECS[identity.codec]
        else:
            position = self.codecs.index(identity.codec) - len(CODECS)
            color, dashes, marker = _OTHER_CODECS[position % len(_OTHER_CODECS)]
        return {
            "color": color,
            "linestyle": dashes,
            "marker": marker,
            "markersize": 3.8,
            "markerfacecolor": "white",
            "markeredgewidth": 0.8,
            "linewidth": 1.1,
            "zorder": 2,
        }

    def _published_line(self, identity: Line) -> dict[str, Any]:
        _, color, marker = PUBLISHED.get(identity.published_name, ("", *_OTHER_PUBLISHED))
        return {
            "color": color,
            "marker": marker,
            "linestyle": "-",
            "linewidth": 0.7,
            "markersize": 3.0,
            "markeredgewidth": 0.7,
            "alpha": 0.6,
            "zorder": 1.9,
        }


def _single_decoders() -> list[Decoder]:
    """Decoders that have a colour of their own, in the order of legends."""
    return [decoder for decoder in DECODERS.values() if not decoder.symbol]


def _repeated(repeat: int) -> dict[str, Any]:
    """A second, third, ... line of the same identity: one, two, ... dots between its dashes."""
    if not repeat:
        return {}
    return {"linestyle": (0, (8, 1.5, *(1.5, 1.5) * repeat)), "markerfacecolor": "white"}


def _group(identity: Line) -> str:
    kind = _RATE_KINDS[identity.rate_kind]
    if identity.dataset:
        return f"Published ({kind})\non {identity.dataset}"
    if identity.method in NEURAL:
        return f"Trained codecs ({kind})"
    if not identity.is_diffc:
        return f"{'Codecs' if identity.method in _KNOWN_CODECS else 'Other methods'} ({kind})"
    return f"{', '.join(filter(None, ('DiffC', identity.model)))} ({kind})"


def _label(identity: Line) -> str:
    if identity.is_files:
        return files_label(identity.decoder or "DiffC")
    if identity.is_diffc:
        return decoder_label(identity.decoder or "DiffC")
    if identity.published_name in PUBLISHED and identity.dataset:
        return PUBLISHED[identity.published_name][0]
    name = codec_label(identity.published_name, identity.model)
    return " ".join(filter(None, (name, identity.decoder)))


def codec_label(method: str, model: str | None) -> str:
    """What figures call a codec, or another method, of the results."""
    if (method, model) in CODECS:
        return CODECS[method, model][0]
    if method in NEURAL:
        return ", ".join(filter(None, (NEURAL[method][0], model)))
    return " ".join(filter(None, (method, model)))


def decoder_label(decoder: str) -> str:
    """What figures call a decoder of the results."""
    known = find_decoder(decoder)
    return known.label if known else decoder


def files_label(decoder: str) -> str:
    """What figures call the codec's files that this decoder decodes."""
    return f"{decoder_label(decoder).split(' (')[0]} files"
