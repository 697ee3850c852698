"""rd.csv: written, read, replaced, and refused where it is wrong."""

import dataclasses
import math
import pathlib
import re

import pytest

from diffc_jax.errors import InputError
from diffc_jax.evaluation import result_files
from diffc_jax.evaluation.results import (
    COLUMNS,
    RatePoint,
    read_rate_points,
    training_costs,
    write_rate_points,
    write_table,
)
from scripts import update_docs

FLOW = RatePoint(
    method="diffc",
    model="unet",
    decoder="kappa=1.5",
    rate_kind="bound",
    level=1 / 3,
    gamma=-0.1,
    bpp=0.1 + 0.2,
    bpp_kl=math.pi,
    psnr=math.inf,
    n_images=50,
    n_steps=25,
    seed=0,
    dataset='odd, "name"',
    split="eval",
    checkpoint="step 3",
)
JPEG = RatePoint(method="jpeg", rate_kind="file", bpp=1.0, n_images=50, dataset="photos")


def test_columns_are_the_contract():
    contract = (
        "method,model,decoder,rate_kind,level,gamma,bpp,bpp_kl,bpp_headerless,psnr,psnr_mean,mse,fid,"
        "fid_features,lpips,n_images,n_steps,seed,dataset,split,checkpoint"
    )
    assert ",".join(COLUMNS).startswith(contract)


def test_types_of_columns_are_those_of_the_fields():
    kinds = {name: column.kind for name, column in COLUMNS.items()}
    assert {kind.__name__ for kind in kinds.values()} == {"str", "int", "float"}
    assert kinds["model"] is kinds["fid_reference"] is str
    assert kinds["n_steps"] is kinds["images_seen"] is int
    assert kinds["bpp"] is kinds["train_cpu_hours"] is float
    required = {name for name, column in COLUMNS.items() if column.required}
    assert required == {"method", "rate_kind", "bpp", "n_images", "dataset"}


def test_cpu_hours_beside_an_accelerator_are_no_cost():
    spent = {"images_seen": 8, "train_cpu_seconds": 7200.0}
    costs = {"trained_parameters": 3, "images_seen": 8}
    assert training_costs(3, spent) == costs | {"train_cpu_hours": 2.0}
    assert training_costs(3, spent | {"train_accelerator": "1 x TPU v5e"}) == costs
    assert training_costs(0, spent) == {}


def test_rates_and_psnrs_have_units():
    for name, column in COLUMNS.items():
        unit = {"bpp": "bits per pixel", "psnr": "dB"}.get(name.split("_")[0], column.unit)
        assert column.unit == unit, name


def test_docs_have_the_table_of_the_columns():
    text = update_docs.OUTPUT_FILES.read_text(encoding="utf-8")
    assert text == update_docs.with_columns_table(text), "run python scripts/update_docs.py"


def test_round_trip_keeps_every_bit(tmp_path):
    path = tmp_path / "new" / "rd.csv"
    write_rate_points(path, [FLOW, JPEG])
    assert read_rate_points(path) == [FLOW, JPEG]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    write_rate_points(path, [])
    assert read_rate_points(path) == []


def test_new_columns_at_the_end_are_ignored(tmp_path):
    path = tmp_path / "rd.csv"
    write_rate_points(path, [JPEG])
    header, row = path.read_text().splitlines()
    path.write_text(f"{header},new\n{row},7\n")
    assert read_rate_points(path) == [JPEG]


def test_replace(tmp_path):
    path = tmp_path / "rd.csv"
    write_rate_points(path, [FLOW, JPEG], lambda point: False)
    better = dataclasses.replace(FLOW, bpp=0.2)
    write_rate_points(path, [better], lambda point: point.method != "diffc")
    assert read_rate_points(path) == [JPEG, better]
    assert [p.name for p in tmp_path.iterdir()] == ["rd.csv"]


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("bpp", "", "column 'bpp' is missing or empty"),
        ("bpp", "much", "column 'bpp' is not a number: 'much'"),
        ("psnr", "-1e6", "psnr is -1000000.0 dB"),
        ("bpp", "inf", "bpp is inf, not a finite rate"),
        ("psnr", "nan", "column 'psnr' is not a number: 'nan'"),
        ("seed", "9" * 20, f"column 'seed' is not a number: '{'9' * 20}'"),
        ("bpp", "-1", "bpp is -1.0, not a finite rate"),
        ("n_images", "5.5", "column 'n_images' is not a number: '5.5'"),
        ("rate_kind", "guess", "rate_kind is 'guess', not one of ('bound', 'file')"),
    ],
)
def test_bad_cells_are_named(field, text, message, tmp_path):
    path = tmp_path / "rd.csv"
    cells = {name: "" for name in COLUMNS} | {
        "method": "jpeg",
        "rate_kind": "file",
        "bpp": "1",
        "n_images": "2",
        "dataset": "photos",
        field: text,
    }
    write_rate_points(path, [JPEG])
    with path.open("a") as stream:
        stream.write(",".join(cells.values()) + "\n")
    with pytest.raises(InputError) as caught:
        read_rate_points(path)
    assert str(caught.value) == f"{path}, line 3: {message}"


def test_missing_file_and_column(tmp_path):
    path = tmp_path / "rd.csv"
    with pytest.raises(InputError) as caught:
        read_rate_points(path)
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory)"
    path.write_text("method,rate_kind,bpp,n_images\njpeg,file,1,2\n")
    with pytest.raises(InputError) as caught:
        read_rate_points(path)
    assert str(caught.value) == f"{path}, line 2: column 'dataset' is missing or empty"


def test_tables_are_utf8_whatever_the_locale(tmp_path, monkeypatch):
    opened, path = [], tmp_path / "table.csv"
    real = pathlib.Path.open

    def recording(self, mode="r", buffering=-1, encoding=None, *rest, **more):
        opened.append((mode, encoding))
        return real(self, mode, buffering, encoding, *rest, **more)

    monkeypatch.setattr(pathlib.Path, "open", recording)
    write_table(path, ("name",), [{"name": "Straße"}])
    assert ("w", "utf-8") in opened
    monkeypatch.undo()
    assert path.read_bytes() == "name\nStraße\n".encode()


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "rd.csv"
    write_rate_points(path, [JPEG])

    def points():
        yield FLOW
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_rate_points(path, points())
    assert read_rate_points(path) == [JPEG]
    assert [p.name for p in tmp_path.iterdir()] == ["rd.csv"]


def test_binary_file_is_named(tmp_path):
    path = tmp_path / "rd.csv"
    path.write_bytes(b"method,bpp\n\xff\xfe\x00")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: is not a CSV file "):
        read_rate_points(path)


def test_all_files_about_pixels_go_with_the_images():
    """All but those that say what a run was, or have rows of several sets."""
    names = {
        value
        for name, value in vars(result_files).items()
        if name.isupper() and isinstance(value, str)
    }
    kept = {"rd.csv", "images.json", "config.json", "environment.json", "samples_{}.png"}
    assert {*result_files.OF_IMAGES} == names - kept
