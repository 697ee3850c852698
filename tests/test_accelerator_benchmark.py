"""The benchmark for accelerators, at its smallest and on a CPU: what it finds, and what it cannot."""

import importlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from diffc_jax.training import cost
from tests.support.processes import ROOT, environment

TINY = ("--small", "--max_seconds=600")


def run(*flags, **variables):
    return subprocess.run(
        [sys.executable, "benchmarks/accelerator.py", *map(str, flags)],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )


def sibling(name, monkeypatch):
    """A module that programs in benchmarks/ find beside them."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    done = run("--small", f"--write_files={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"files: {folder}/codec_files.zip\n"
    return folder


@pytest.fixture(scope="module")
def measured(written, tmp_path_factory):
    output = tmp_path_factory.mktemp("measured")
    done = run(*TINY, f"--read_files={written}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    return json.loads((output / "accelerator.json").read_text()), done.stdout


def rows(measured, section):
    return measured[0]["sections"][section]["rows"]


def test_every_section_is_measured_and_printed(measured):
    result, printed = measured
    assert list(result["sections"]) == [
        *("closed_forms", "codec", "codec_exchange", "forward"),
        *("memory", "products", "sweep", "training"),
    ]
    assert result["device_kind"] == "cpu"
    assert result["small"]
    assert result["environment"]["packages"]["jax"] == result["jax_version"]
    for name, section in result["sections"].items():
        assert section["failed"] == {}
        assert section["skipped"] == []
        assert section["rows"], name
        assert section["seconds"] > 0
        for row in section["rows"]:
            assert row["device_kind"] == "cpu"
            assert row["jax_version"] == result["jax_version"]
            numbers = [value for value in row.values() if isinstance(value, float)]
            assert np.isfinite(numbers).all()
        columns = [key for key in section["rows"][0] if key not in ("device_kind", "jax_version")]
        title = printed.index(f"### {name} (")
        for text in (columns[0], columns[-1]):
            assert text.replace("_", " ") in printed[title:]


def test_sweep_is_at_the_closed_forms(measured):
    found = rows(measured, "closed_forms")
    assert [row["quantity"] for row in found] == [
        *("rate", "distortion, ancestral", "distortion, flow", "distortion, mean")
    ]
    for row in found:
        assert 0 < row["its_standard_error"] < 0.1
        assert abs(row["largest_relative_deviation"]) < 4 * row["its_standard_error"]
        assert row["largest_deviation_in_standard_errors"] < 4


def test_float32_products_are_float32_on_a_cpu(measured):
    for row in rows(measured, "products"):
        assert 1e-8 < row["relative_rms_error"] < 1e-6


def test_files_of_the_same_machine_are_decoded_to_the_same_images(measured):
    others, own = rows(measured, "codec_exchange")[:2], rows(measured, "codec_exchange")[2:]
    assert [row["bits_per_pixel"] for row in others] == [8.0, 12.0]
    assert [row["files_that_are_the_same_elsewhere"] for row in own] == [2, 2]
    for row in others + own:
        assert 20 < row["psnr_there_db"] < 60
        assert row["largest_psnr_change_db"] == row["largest_pixel_difference"] == 0
        assert row["images_drifted"] == 0


def test_speeds_fit_each_other(measured):
    for section in ("training", "forward"):
        (row,) = rows(measured, section)
        per_second = row["images_per_second"] * row["gflop_per_image"] / 1e3
        assert row["tflop_per_second"] == pytest.approx(per_second)
        assert row["compile_seconds"] > 0
    (step,), (forward,) = rows(measured, "training"), rows(measured, "forward")
    assert step["share_of_bfloat16_peak"] is None  # of a CPU there is no datasheet
    assert 2 < step["gflop_per_image"] / forward["gflop_per_image"] < 3.1
    assert [(row["task"], row["batch"]) for row in rows(measured, "codec")] == [
        *(("encode", 1), ("decode", 1), ("encode", 4), ("decode", 4))
    ]
    for row in rows(measured, "codec"):
        assert 7 < row["bits_per_pixel"] <= 8


def test_memory_is_what_cost_predicts(measured):
    (row,) = rows(measured, "memory")
    assert row["planned_over_predicted"] == pytest.approx(1.0, abs=0.1)
    assert row["measured_peak_bytes"] is None
    assert row["measured_peak_from"] == "device reports no peak"  # CPUs do not count


@pytest.mark.parametrize(
    ("before", "after", "source"),
    [
        (None, None, "device reports no peak"),
        (10, 20, "steps"),
        (20, 20, "compiling or earlier jobs"),
    ],
)
def test_peak_that_a_step_did_not_raise_is_kept_and_named(before, after, source, monkeypatch):
    assert sibling("accelerator_networks", monkeypatch).peak_from(before, after) == source


def test_one_section_fails_and_the_rest_goes_on(tmp_path):
    """Only the name of the package of photographs is there."""
    (tmp_path / "skimage").mkdir()
    (tmp_path / "skimage" / "__init__.py").touch()
    output = tmp_path / "output"
    flags = ("--sections=training,products", f"--output={output}")
    done = run(*TINY, *flags, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1
    assert "- failed: unet tiny, float32: InputError: " in done.stdout
    sections = json.loads((output / "accelerator.json").read_text())["sections"]
    assert "astronaut.png: cannot be read" in sections["training"]["failed"]["unet tiny, float32"]
    assert len(sections["products"]["rows"]) == 2


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (
            ["--sections=speed"],
            2,
            "--sections: unknown 'speed'; choose one of closed_forms, products, codec_exchange, training, "
            "memory, sweep, codec, forward",
        ),
        (
            ["--write_files=W", "--read_files=R"],
            2,
            "--write_files: writes files and measures nothing; leave the other flags out",
        ),
        (
            ["--read_files=nowhere"],
            1,
            "--read_files: nowhere/codec_files.zip is no archive of --write_files ([Errno 2] No such file or "
            "directory: 'nowhere/codec_files.zip')",
        ),
    ],
)
def test_wrong_flags_are_one_line(flags, code, message):
    done = run("--small", *flags)
    assert (done.returncode, done.stderr) == (code, f"accelerator.py: error: {message}\n")


def test_differences_between_images(monkeypatch):
    codec = sibling("accelerator_codec", monkeypatch)
    originals = np.full((2, 4, 4, 3), 100, np.uint8)
    there, here = originals + np.uint8(2), originals + np.uint8(2)
    here[1] -= 1  # half the error: 20 log10(2) dB more
    found = codec.differences(originals, there, here)
    assert found["images"] == 2
    assert found["largest_pixel_difference"] == 1
    assert found["largest_psnr_change_db"] == pytest.approx(20 * np.log10(2))
    assert found["mean_psnr_change_db"] == pytest.approx(10 * np.log10(2))
    assert found["psnr_there_db"] == pytest.approx(20 * np.log10(255 / 2))
    # What is lost counts as what is gained.
    lost = codec.differences(originals, here, there)["largest_psnr_change_db"]
    assert lost == pytest.approx(-20 * np.log10(2))


def test_jobs_stay_within_their_time(monkeypatch):
    jobs = sibling("accelerator_jobs", monkeypatch)

    def job(section, name, expected, row):
        return jobs.Job(section, name, expected, lambda: [row])

    told = []
    sections = jobs.run_jobs(
        [
            job("slow", "guessed", 100.0, {"images": 1}),
            job("quick", "first", 10.0, {"images": 2}),
            # The first took no time at all, and the guess no longer counts.
            job("quick", "second", 100.0, {"images": 3}),
            job("quick", "wrong", 1.0, {"psnr_db": float("nan")}),
        ],
        50.0,
        time.monotonic(),
        lambda sections: told.append(len(sections["quick"].rows)),
    )
    assert sections["slow"].skipped == ["guessed"]
    assert sections["quick"].rows == [{"images": 2}, {"images": 3}]
    assert sections["quick"].failed == {"wrong": "ArithmeticError: psnr_db is nan"}
    assert told == [0, 1, 2, 2]


def test_tables_are_markdown(monkeypatch):
    jobs = sibling("accelerator_jobs", monkeypatch)
    section = jobs.Section(
        rows=[{"dtype": "float32", "images_per_second": 12345.6}, {"peak": None, "dtype": "a"}],
        seconds=61.2,
        failed={"b": "ValueError: no"},
        skipped=["c"],
    )
    assert jobs.report({"training": section}).splitlines() == [
        "### training (61 s)",
        "",
        "| dtype | images per second | peak |",
        "| --- | --- | --- |",
        "| float32 | 12346 | - |",
        "| a | - | - |",
        "",
        "- failed: b: ValueError: no",
        "- skipped, no time left: c",
    ]


def test_devices_are_known_by_what_jax_calls_them():
    assert cost.accelerator_of("NVIDIA H100 80GB HBM3") == "h100"
    assert cost.accelerator_of("TPU v5 lite") == "tpu_v5e"
    # The card for PCIe is slower, and not in the table.
    assert cost.accelerator_of("NVIDIA H100 PCIe") is None
