"""How many times as fast one checkout is as another, in the commands that people run.

    python benchmarks/compare.py OLD NEW
    python benchmarks/compare.py OLD NEW --cases=evaluate,decompress --rounds=5

OLD and NEW are folders of this repository at two commits. Each case is a command of experiments/ that both
have, with the weights of imagenet64_small, and runs with a small and with a large job. From the two times
follow that of an item and that of everything else, the start of the program and its compilation. The
checkouts take turns. Prints medians of both, the median of the ratios old/new of the rounds with their range,
and the load. Times are those that processors worked (`--clock=cpu`), which other programs change little, or
that passed (`wall`).
"""

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import PIL.Image
from absl import app, flags
from shared import photographs

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each job of each checkout.", lower_bound=1)
_CASES = flags.DEFINE_list("cases", [], "Which; all if empty.")
_CLOCK = flags.DEFINE_enum("clock", "cpu", ["cpu", "wall"], "Which seconds.")
_SIDE = 64


class Case(NamedTuple):
    """A command whose work can be chosen.

    Attributes:
        item: what is counted.
        script: of experiments/.
        flags: {work} stands for an empty folder, {n} for the size, {images} for a folder of so many pictures
            and {files} for one of the files that the same checkout made of them.
        sizes: of the small and of the large job, in items.
    """

    item: str
    script: str
    flags: tuple[str, ...]
    sizes: tuple[int, int]


# A network that old and new checkouts have.
_WEIGHTS = "weights/imagenet64_small.safetensors"
_MODEL = f"--model={_WEIGHTS}"
_NETWORK = (
    "--config=configs/quickstart.py",
    "--config.model.widths=(48,128,256)",
    "--config.model.blocks=(1,1,2)",
    "--workdir={work}",
)
_EVALUATE = (
    *_NETWORK,
    f"--config.eval.params={_WEIGHTS}",
    "--config.eval.max_images={n}",
    "--config.eval.batch_size=8",
    "--config.eval.num_levels=16",
    "--config.eval.grid_images=0",
)
CASES: Mapping[str, Case] = {
    "evaluate": Case(
        "image: sweep of 16 levels, three decoders, no files",
        "evaluate.py",
        (*_EVALUATE, "--config.eval.codec_decoders=()"),
        (8, 24),
    ),
    "evaluate_files": Case(
        "image: the same with files",
        "evaluate.py",
        _EVALUATE,
        (8, 24),
    ),
    "compress": Case(
        "64x64 image at 1 bpp",
        "compress.py",
        (_MODEL, "--input={images}/*.png", "--output={work}/files", "--bpp=1"),
        (8, 40),
    ),
    "decompress": Case(
        "64x64 image at 1 bpp, flow",
        "decompress.py",
        (_MODEL, "--input={files}/*.diffc", "--output={work}/images"),
        (8, 40),
    ),
    "train": Case(
        "step of 16 images",
        "train.py",
        (
            *_NETWORK,
            "--config.train.num_steps={n}",
            "--config.train.eval_images=8",
            "--config.train.checkpoint_every_steps={n}",
            "--config.train.eval_every_steps={n}",
        ),
        (4, 24),
    ),
}


def run(checkout: pathlib.Path, script: str, arguments: Sequence[str]) -> float:
    """Seconds that a command of a checkout takes."""
    # Programs that are kept from one job to the next would make the large one too fast.
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    start = _now()
    done = subprocess.run(
        [sys.executable, f"experiments/{script}", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: {script} {' '.join(arguments)}:\n{done.stderr[-2000:]}")
    return _now() - start


def _now() -> float:
    """Seconds of the clock; that of processors counts what finished child processes worked."""
    if _CLOCK.value == "wall":
        return time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_images(folder: pathlib.Path, count: int) -> None:
    """Crops of the built-in photographs."""
    folder.mkdir()
    for number, pixels in enumerate(photographs("eval", _SIDE, count)):
        PIL.Image.fromarray(pixels).save(folder / f"{number:03}.png")


def seconds_of(case: Case, checkout: pathlib.Path, root: pathlib.Path) -> tuple[float, float]:
    """Seconds of an item, and of the rest of the command."""
    seconds = []
    for n in case.sizes:
        images, files = root / f"images-{n}", root / f"files-{n}"
        if not images.exists():
            write_images(images, n)
        if "{files}" in "".join(case.flags) and not files.exists():
            made = (_MODEL, f"--input={images}/*.png", f"--output={files}", "--bpp=1")
            run(checkout, "compress.py", made)
        with tempfile.TemporaryDirectory(dir=root) as work:
            values = {"work": work, "n": n, "images": images, "files": files}
            seconds.append(
                run(checkout, case.script, [flag.format(**values) for flag in case.flags])
            )
    small, large = seconds
    item = (large - small) / (case.sizes[1] - case.sizes[0])
    return item, small - case.sizes[0] * item


def compare(
    case: Case, checkouts: tuple[pathlib.Path, ...], roots: tuple[pathlib.Path, ...]
) -> str:
    """The row of the table from `old` on."""
    rounds = []
    for number in range(_ROUNDS.value):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        found = {which: seconds_of(case, checkouts[which], roots[which]) for which in order}
        rounds.append((*found[0], *found[1]))
    old, old_rest, new, new_rest = map(statistics.median, zip(*rounds, strict=True))
    ratios = [before / after for before, _, after, _ in rounds]
    return (
        f"{old:.3f} | {new:.3f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {old_rest:.1f} | {new_rest:.1f}"
    )


def main(argv):
    """Prints the table."""
    if len(argv) != 3:
        raise app.UsageError("two folders are needed: OLD NEW")
    checkouts = tuple(pathlib.Path(name).resolve() for name in argv[1:])
    for checkout in checkouts:
        if not (checkout / "experiments" / "evaluate.py").is_file():
            raise app.UsageError(f"{checkout} is no checkout of this repository")
    unknown = set(_CASES.value) - CASES.keys()
    if unknown:
        raise app.UsageError(f"--cases={sorted(unknown)[0]}: not one of {', '.join(CASES)}")
    columns = (
        "case",
        "item",
        "old, s",
        "new, s",
        "old/new",
        "start, old, s",
        "start, new, s",
        "load",
    )
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    with tempfile.TemporaryDirectory() as old_root, tempfile.TemporaryDirectory() as new_root:
        roots = pathlib.Path(old_root), pathlib.Path(new_root)
        for name in _CASES.value or CASES:
            case = CASES[name]
            row = compare(case, checkouts, roots)
            print(f"| {name} | {case.item} | {row} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
