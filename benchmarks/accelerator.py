"""What this project does on a GPU or TPU, in one run of under four minutes: correctness, speed, memory.

    python benchmarks/accelerator.py --output=DIR

Needs JAX, Flax, Optax, Orbax and the packages that hold the built-in photographs. Prints a table in Markdown
for each section and writes DIR/accelerator.json, again after each job. A job that fails is reported, the rest
goes on, and the exit code is 1. Where time runs out (--max_seconds) the least important jobs are left out.
On CPUs everything is shrunk, and the numbers say only that the program works.

    closed_forms    rate and distortions of the sweep, with the exact Gaussian denoiser, against the formulas
    products        error of a float32 product of matrices: what TF32 or passes in bfloat16 do to it
    codec_exchange  files of another machine decoded here, files of this machine decoded by its CPU
    training        images/s of whole training steps, and the share of the datasheet's peak
    memory          peak of a training step on the device against what train.py --dry_run --cost predicts
    sweep, codec    seconds an image of an evaluation, of encoding and of decoding, with the shipped network
    forward         images/s of the denoisers alone

Speeds are medians over rounds of calls on data that lie on the device; compiling is counted apart. Training
and forward passes use all devices, the rest one. For the exchange with another machine, begin there:

    python benchmarks/accelerator.py --write_files=THERE
    python benchmarks/accelerator.py --read_files=THERE --output=HERE                # on the accelerator
    python benchmarks/accelerator.py --read_files=HERE --sections=codec_exchange     # there again
"""

import datetime
import pathlib
import sys
import time
from typing import Any

import accelerator_codec
import accelerator_networks
import accelerator_sweep
import jax
from absl import flags
from accelerator_codec import CodecSections
from accelerator_jobs import Job, Section, report, run_jobs
from accelerator_networks import Networks

from diffc_jax import cli
from diffc_jax.errors import UsageError
from diffc_jax.runtime import files
from diffc_jax.runtime.environment import write_environment

SECTIONS = (
    *("closed_forms", "products", "codec_exchange", "training", "memory"),
    *("sweep", "codec", "forward"),
)
_RESULT = "accelerator.json"

_OUTPUT = flags.DEFINE_string("output", "runs/accelerator", "Folder of the results.")
_SECTIONS = flags.DEFINE_list("sections", [], f"Only these, of {', '.join(SECTIONS)}.")
_MAX_SECONDS = flags.DEFINE_float(
    "max_seconds", 220.0, "Jobs that would end later than this are skipped.", lower_bound=1.0
)
_SMALL = flags.DEFINE_bool(
    "small",
    None,
    "Tiny networks and small images; by default on CPUs, except with the flags of files.",
)
_WRITE_FILES = flags.DEFINE_string("write_files", "", "Only write codec files to this folder.")
_READ_FILES = flags.DEFINE_string("read_files", "", "Folder with another machine's codec files.")


def make_jobs(networks: Networks, codec: CodecSections, small: bool) -> list[Job]:
    """All jobs, the most important ones first."""
    pairs = [(name, dtype) for name, one in networks.networks.items() for dtype in one.dtypes]
    base = [pair for pair in pairs if pair[0] == pairs[0][0]]
    others = [pair for pair in pairs if pair not in base]
    sweep_size = accelerator_sweep.SMALL if small else accelerator_sweep.FULL
    return [
        *accelerator_sweep.closed_form_jobs(sweep_size),
        *codec.jobs_of_others_files(),
        *(networks.training_job(*pair) for pair in base),
        networks.memory_job(*base[0]),
        *codec.jobs_of_own_files(),
        *codec.speed_jobs(),
        accelerator_sweep.speed_job(codec.network, small),
        *(networks.forward_job(*pair) for pair in base),
        *codec.jobs_at_highest_precision(),
        *(make(*pair) for pair in others for make in (networks.training_job, networks.forward_job)),
    ]


def main() -> None:
    begin = time.monotonic()
    for name in _SECTIONS.value:
        if name not in SECTIONS:
            raise UsageError(
                f"unknown {name!r}; choose one of {', '.join(SECTIONS)}", field="--sections"
            )
    if _WRITE_FILES.value and (_READ_FILES.value or _SECTIONS.value):
        raise UsageError(
            "writes files and measures nothing; leave the other flags out", field="--write_files"
        )
    small = _SMALL.value
    if small is None:
        exchange = _WRITE_FILES.value or _READ_FILES.value
        small = jax.default_backend() == "cpu" and not exchange
    codec_size = accelerator_codec.SMALL if small else accelerator_codec.FULL
    if _WRITE_FILES.value:
        CodecSections(codec_size, None, cli.prepare_workdir(_WRITE_FILES.value)).write_files()
        return
    elsewhere = None
    if _READ_FILES.value:
        elsewhere = accelerator_codec.read_files(pathlib.Path(_READ_FILES.value))
    output = cli.prepare_workdir(_OUTPUT.value)
    networks = Networks(accelerator_networks.SMALL if small else accelerator_networks.FULL)
    jobs = make_jobs(networks, CodecSections(codec_size, elsewhere, output), small)
    chosen = [job for job in jobs if job.section in (_SECTIONS.value or SECTIONS)]

    write_environment(output)
    device = jax.devices()[0]
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device_kind": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "jax_version": jax.__version__,
        "float32_products": jax.config.jax_default_matmul_precision or "JAX's own",
        "small": small,
        "max_seconds": _MAX_SECONDS.value,
        "environment": files.read_json(output / "environment.json"),
    }
    print(_title(about), flush=True)

    def write(sections: dict[str, Section]) -> None:
        same = {"device_kind": device.device_kind, "jax_version": jax.__version__}
        found = {name: section.as_dict() for name, section in sections.items()}
        for section in found.values():
            section["rows"] = [same | row for row in section["rows"]]
        result = about | {"seconds": time.monotonic() - begin, "sections": found}
        files.write_json(output / _RESULT, result)

    sections = run_jobs(chosen, _MAX_SECONDS.value, begin, write)
    print(
        f"\n## {_title(about)}\n\n{report(sections)}\n\n{time.monotonic() - begin:.0f} s; {output / _RESULT}"
    )
    if any(section.failed for section in sections.values()):
        sys.exit(1)


def _title(about: dict[str, Any]) -> str:
    title = (
        f"{about['device_kind']} x {about['devices']}, JAX {about['jax_version']}, {about['date']}"
    )
    if commit := about["environment"]["commit"]:
        title += f", commit {commit}"
    return title + (", shrunk: numbers say only that the program works" if about["small"] else "")


if __name__ == "__main__":
    cli.run(main)
