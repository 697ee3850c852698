"""Kills compress, decompress, evaluate and plot at random moments and runs them again; nothing may differ.

    python benchmarks/command_kills.py --kills=20

Each command works on small images and on a Gaussian fitted to them. Half of its runs end with SIGKILL, half
with SIGTERM, at a random moment of the time that it takes undisturbed. Then it runs again, to its end, and
what it leaves is compared with what a run leaves that nobody disturbed: names, and bytes. Files with times in
them, which differ between two undisturbed runs, are listed and compared by name only. Temporary files and
locks are leftovers. At last, --pairs times, a second process starts in the folder of an evaluation at work:
the first one has to end as if it were alone. Exit code 0: no difference and no leftover.
"""

import collections
import filecmp
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np
import PIL.Image
from absl import app, flags, logging

_KILLS = flags.DEFINE_integer(
    "kills", 20, "Runs of each command that are ended early.", lower_bound=0
)
_PAIRS = flags.DEFINE_integer("pairs", 20, "Evaluations with a second process.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments and the signals.")
_COMMANDS = flags.DEFINE_list("commands", ["compress", "decompress", "evaluate", "plot"], "Which.")

_ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = "--config=configs/gaussian_floor.py:smoke"
_N_IMAGES, _SIDE = 6, 24


class Command:
    """A program of experiments/ that works in the folder `now`, whose path is always the same.

    Attributes:
        name: of the program.
        straight: what a run leaves that nobody disturbed.
        varying: names of files that differ between two such runs.
        seconds: that such a run takes.
    """

    def __init__(
        self,
        name: str,
        root: pathlib.Path,
        arguments: list[str],
        begin: Callable[[pathlib.Path], object],
    ):
        """`begin` fills the folder that a run starts from."""
        self.name, self._root, self._arguments, self._begin = name, root, arguments, begin
        self.now, self.straight = root / name / "now", root / name / "straight"
        start = time.monotonic()
        self.run_alone()
        self.seconds = time.monotonic() - start
        self.now.rename(self.straight)
        self.run_alone()
        self.varying = self.differences(())

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the program, as often as it is called, in the folder as it is."""
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(self._root / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu", **cache}
        command = [sys.executable, f"experiments/{self.name}.py", *self._arguments]
        with (self._root / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=log, stdout=log)

    def begin(self) -> None:
        """Makes the folder that a run starts from."""
        shutil.rmtree(self.now, ignore_errors=True)
        self.now.mkdir(parents=True)
        self._begin(self.now)

    def run_alone(self) -> None:
        """Runs the program from its beginning to its end."""
        self.begin()
        self.finish(self.start())

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for an end, which has to be a good one."""
        if process.wait():
            text = (self._root / f"{self.name}.log").read_text()
            raise RuntimeError(f"{self.name} ended with {process.returncode}:\n{text[-2000:]}")

    def differences(self, ignored: collections.abc.Container[str]) -> list[str]:
        """Files that are not in both folders, or not the same and not ignored."""
        names = [_files(folder) for folder in (self.straight, self.now)]
        common = names[0] & names[1]
        changed = {
            name
            for name in common
            if name not in ignored
            and not filecmp.cmp(self.straight / name, self.now / name, shallow=False)
        }
        return sorted((names[0] ^ names[1]) | changed)


def _files(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def end_runs(command: Command, moments: random.Random) -> bool:
    """Ends runs of a command early; whether all was well after the next one."""
    ends: collections.Counter[str] = collections.Counter()
    well = True
    for run in range(_KILLS.value):
        command.begin()
        process = command.start()
        time.sleep(moments.random() * command.seconds)
        sign = (signal.SIGKILL, signal.SIGTERM)[run % 2]
        process.send_signal(sign)
        code = process.wait()
        ends[f"{sign.name}: {code}"] += 1
        before = sorted(_files(command.now) - _files(command.straight))
        command.finish(command.start())
        wrong = command.differences(command.varying)
        well = well and not wrong
        logging.info(
            "%s, run %d: %s within %.1f s; it left %s, and the next run %s",
            *(
                command.name,
                run + 1,
                sign.name,
                command.seconds,
                before or "nothing",
                wrong or "nothing",
            ),
        )
    print(f"{command.name}: {_KILLS.value} runs, {dict(ends)}; all equal: {well}", flush=True)
    print(
        f"  {len(_files(command.straight))} files, compared by name: {command.varying}", flush=True
    )
    return well


def run_pairs(command: Command, moments: random.Random) -> bool:
    """Starts a second process while one is at work; whether the first ended as if it were alone."""
    ends: collections.Counter[int] = collections.Counter()
    well = True
    for pair in range(_PAIRS.value):
        command.begin()
        first = command.start()
        time.sleep(moments.random() * command.seconds)
        second = command.start()
        command.finish(first)
        ends[second.wait()] += 1
        wrong = command.differences(command.varying)
        well = well and not wrong
        logging.info("pair %d: the second ended with %d; %s", pair + 1, second.returncode, wrong)
    print(
        f"pairs: {_PAIRS.value}, exit codes of the second {dict(ends)}; all equal: {well}",
        flush=True,
    )
    return well


def _commands(root: pathlib.Path) -> Mapping[str, Callable[[], Command]]:
    """How to make each command; those that need another one's results take them from where it left them."""
    images, model, files = root / "images", root / "model", root / "files"
    evaluated = root / "evaluated"

    def nothing(_: pathlib.Path) -> None: ...

    def copied(folder: pathlib.Path) -> Callable[[pathlib.Path], object]:
        return lambda now: shutil.copytree(folder, now, dirs_exist_ok=True)

    def now(name: str) -> str:
        return str(root / name / "now")

    coding = [f"--model={model}", "--batch_size=4"]
    return {
        "compress": lambda: Command(
            "compress",
            root,
            [f"--input={images}", f"--output={now('compress')}", "--bpp=1", *coding],
            nothing,
        ),
        "decompress": lambda: Command(
            "decompress",
            root,
            [f"--input={files}", f"--output={now('decompress')}", *coding],
            nothing,
        ),
        "evaluate": lambda: Command(
            "evaluate", root, [_CONFIG, f"--workdir={now('evaluate')}"], copied(model)
        ),
        "plot": lambda: Command(
            "plot", root, [f"--inputs={evaluated}", f"--output={now('plot')}"], nothing
        ),
    }


def _make_inputs(root: pathlib.Path) -> None:
    """Images, a fitted Gaussian, compressed images and an evaluation."""
    generator = np.random.default_rng(0)
    (root / "images").mkdir()
    for number in range(_N_IMAGES):
        coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
        image = PIL.Image.fromarray(coarse).resize((_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC)
        image.save(root / "images" / f"{number}.png")
    for program, arguments in (
        ("train", (_CONFIG, f"--workdir={root}/model")),
        (
            "compress",
            (
                f"--input={root}/images",
                f"--output={root}/files",
                f"--model={root}/model",
                "--bpp=1",
            ),
        ),
    ):
        subprocess.run(
            [sys.executable, f"experiments/{program}.py", *arguments], cwd=_ROOT, check=True
        )
    shutil.copytree(root / "model", root / "evaluated")
    evaluate = ("experiments/evaluate.py", _CONFIG, f"--workdir={root}/evaluated")
    subprocess.run([sys.executable, *evaluate], cwd=_ROOT, check=True)


def main(argv: list[str]) -> None:
    """Runs undisturbed, then disturbed, and compares."""
    del argv
    logging.set_verbosity(logging.INFO)
    moments = random.Random(_SEED.value)
    os.environ["PYTHONPATH"] = str(_ROOT)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        _make_inputs(root)
        make = _commands(root)
        results = []
        for name in _COMMANDS.value:
            command = make[name]()
            results.append(end_runs(command, moments))
            if name == "evaluate":
                results.append(run_pairs(command, moments))
    if not all(results):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
