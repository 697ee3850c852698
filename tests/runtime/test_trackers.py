"""Trackers get metrics, config and summary of a run, go on with it, and never stop it.

Small stand-ins for the packages note every call; where the packages are installed, they are tried as well.
"""

import itertools
import json
import logging
import struct
import sys
import types

import numpy as np
import pytest

from diffc_jax.errors import InputError, PreemptedError, UsageError
from diffc_jax.runtime import multihost
from diffc_jax.runtime.trackers import open_trackers
from diffc_jax.runtime.writers import MetricWriter
from diffc_jax.training import loop
from tests.support.quick_training import quick_config, quick_task
from tests.support.refusals import fails, message
from tests.support.run_files import logged

CONFIG = {"seed": 0, "data": {"train": ({"path": "a"}, {"path": "b"})}, "train": {"num_steps": 4}}
FLAT = {"seed": 0, "data.train.0.path": "a", "data.train.1.path": "b", "train.num_steps": 4}


class FakeWandb(types.ModuleType):
    """Notes what is called, of the module and of its only run."""

    def __init__(self):
        super().__init__("wandb")
        self.calls = []

        def note(name):
            return lambda *args, **kwargs: self.calls.append((name, *args, kwargs))

        self.run = types.SimpleNamespace(
            config=types.SimpleNamespace(update=note("config")),
            summary=types.SimpleNamespace(update=note("summary")),
            log=note("log"),
            finish=note("finish"),
        )

    def init(self, **settings):
        self.calls.append(("init", settings))
        return self.run

    def Image(self, pixels):  # noqa: N802
        return "image", pixels.shape


class FakeMLflow(types.ModuleType):
    """A server with the methods of MLflow's client that are used, and a limit of its real one."""

    def __init__(self):
        super().__init__("mlflow")
        self.entities = types.ModuleType("mlflow.entities")
        for kind in ("Param", "Metric", "RunTag"):
            setattr(self.entities, kind, lambda *values: values)
        self.experiments, self.tags, self.calls = {}, {}, []

    def MlflowClient(self):  # noqa: N802
        return self

    def get_experiment_by_name(self, name):
        known = self.experiments.get(name)
        return known and types.SimpleNamespace(experiment_id=known)

    def create_experiment(self, name):
        self.experiments[name] = f"number of {name}"
        return self.experiments[name]

    def create_run(self, experiment_id, run_name):
        self.calls.append(("create_run", experiment_id, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="id of run"))

    def get_run(self, run_id):
        if run_id != "id of run":
            raise RuntimeError(f"Run {run_id} not found\nanywhere")
        return types.SimpleNamespace(data=types.SimpleNamespace(tags=dict(self.tags)))

    def update_run(self, run_id, status):
        self.get_run(run_id)
        self.calls.append(("update_run", run_id, status))

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        assert len(params) <= 100
        self.tags |= dict(tags)
        timeless = [(name, value, step) for name, value, _, step in metrics]
        self.calls.append(("log_batch", run_id, timeless, list(params)))

    def log_dict(self, run_id, values, name):
        self.calls.append(("log_dict", run_id, values, name))

    def log_image(self, run_id, image, name):
        self.calls.append(("log_image", run_id, image.shape, name))

    def set_terminated(self, run_id, status):
        self.calls.append(("set_terminated", run_id, status))


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.fixture
def mlflow(monkeypatch):
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", fake.entities)
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return fake


def report(opened, workdir):
    """One of everything."""
    with MetricWriter(workdir, 0, opened) as writer:
        writer.scalars(2, {"train/loss": 1.5, "train/norm": float("nan")})
        writer.image(2, "samples", np.zeros((4, 6, 3), np.uint8))
        writer.summary(4, {"steps": 4, "model": {"name": "unet"}, "dropout": None})


def test_weights_and_biases_get_everything(wandb, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    report(open_trackers(["wandb"], workdir, CONFIG), workdir)
    name = json.loads((workdir / "trackers.json").read_text())["wandb"]
    settings = {"id": name, "resume": "allow", "project": "diffc_jax", "name": "run"}
    assert wandb.calls == [
        ("init", settings | {"dir": str(workdir)}),
        ("config", FLAT, {"allow_val_change": True}),
        ("log", {"train/loss": 1.5}, {"step": 2}),
        ("log", {"samples": ("image", (4, 6, 3))}, {"step": 2}),
        ("summary", {"final/steps": 4, "final/model.name": "unet", "final/dropout": None}, {}),
        ("finish", {"exit_code": 0}),
    ]


def test_mlflow_gets_everything(mlflow, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    report(open_trackers(["mlflow"], workdir, CONFIG), workdir)
    assert json.loads((workdir / "trackers.json").read_text()) == {"mlflow": "id of run"}
    summary = {"steps": 4, "model.name": "unet", "dropout": None}
    run = "id of run"
    assert mlflow.calls == [
        ("create_run", "number of diffc_jax", "run"),
        ("log_batch", run, [], [(name, str(value)) for name, value in FLAT.items()]),
        ("log_dict", run, FLAT, "config.json"),
        ("log_batch", run, [("train/loss", 1.5, 2)], []),
        ("log_image", run, (4, 6, 3), "samples/00000002.png"),
        ("log_batch", run, [("final/steps", 4.0, 4)], []),
        ("log_dict", run, summary, "summary.json"),
        ("set_terminated", run, "FINISHED"),
    ]


def test_environment_names_the_project(wandb, mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "first")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    mlflow.experiments["theirs"] = "7"
    open_trackers(["wandb", "mlflow"], tmp_path, CONFIG)
    assert {"project": "theirs", "name": "first"}.items() <= wandb.calls[0][1].items()
    assert mlflow.calls[0] == ("create_run", "7", tmp_path.name)
    assert set(json.loads((tmp_path / "trackers.json").read_text())) == {"wandb", "mlflow"}


def test_mlflow_takes_parameters_in_parts(mlflow, tmp_path):
    config = {f"field{number:03}": number for number in range(250)}
    open_trackers(["mlflow"], tmp_path, config)
    sent = [call[3] for call in mlflow.calls if call[0] == "log_batch"]
    assert [len(params) for params in sent] == [100, 100, 50]
    assert dict(itertools.chain(*sent)) == {name: str(value) for name, value in config.items()}


def train(workdir, **fields):
    with multihost.owning(workdir):
        loop.train(quick_task(quick_config(**fields)), workdir)


def of_kind(fake, name):
    return [call[1:] for call in fake.calls if call[0] == name]


def test_a_resumed_run_goes_on_in_the_same_place(wandb, mlflow, tmp_path):
    fields = {"log_every_steps": 2, "checkpoint_every_steps": 4}
    train(tmp_path, num_steps=4, trackers=("wandb", "mlflow"), **fields)
    train(tmp_path, num_steps=6, trackers=("wandb", "mlflow"), **fields)
    first, second = of_kind(wandb, "init")
    assert first == second
    configs = [values for values, _ in of_kind(wandb, "config")]
    assert [config["train.num_steps"] for config in configs] == [4, 6]
    assert configs[0]["train.trackers"] == ["wandb", "mlflow"]
    assert len(of_kind(mlflow, "create_run")) == 1
    assert of_kind(mlflow, "update_run") == [("id of run", "RUNNING")]
    assert of_kind(mlflow, "set_terminated") == 2 * [("id of run", "FINISHED")]
    # The numbers of metrics.jsonl, and no others.
    rows = [
        (row["step"], name, value)
        for row in logged(tmp_path)
        for name, value in row.items()
        if name != "step"
    ]
    assert {step for step, _, _ in rows} == {2, 4, 6}
    metrics = [metric for _, some, _ in of_kind(mlflow, "log_batch") for metric in some]
    assert [
        (step, name, value) for name, value, step in metrics if not name.startswith("final/")
    ] == rows
    sent = [(values, step["step"]) for values, step in of_kind(wandb, "log")]
    assert [
        (step, name, value)
        for values, step in sent
        for name, value in values.items()
        if name != "samples"
    ] == rows
    card = json.loads((tmp_path / "params.json").read_text())
    final = of_kind(wandb, "summary")[-1][0]
    assert final["final/steps"] == card["steps"] == 6
    assert final["final/schedule.gamma_min"] == card["schedule"]["gamma_min"]
    assert ("final/images_seen", 48.0, 6) in metrics


def test_mlflow_has_only_the_last_step_twice_after_a_kill(mlflow, tmp_path):
    for start in (2, 4):  # the second time from a checkpoint before what was logged
        opened = open_trackers(["mlflow"], tmp_path, CONFIG)
        for step in range(start, 9 if start == 2 else 13, 2):
            opened.scalars(step, {"train/loss": float(step)})
    steps = [some[0][2] for _, some, params in of_kind(mlflow, "log_batch") if not params]
    assert steps == [2, 4, 6, 8, 8, 10, 12]


@pytest.mark.parametrize(
    ("error", "exit_code", "status"),
    [
        (PreemptedError("stopped by SIGTERM"), 85, "KILLED"),
        (InputError("the disk is full"), 1, "FAILED"),
        (KeyboardInterrupt(), 1, "FAILED"),
    ],
)
def test_trackers_know_how_a_run_ended(wandb, mlflow, tmp_path, error, exit_code, status):
    opened = open_trackers(["wandb", "mlflow"], tmp_path, CONFIG)
    with pytest.raises(type(error)), MetricWriter(tmp_path, 0, opened):
        raise error
    assert of_kind(wandb, "finish") == [({"exit_code": exit_code},)]
    assert of_kind(mlflow, "set_terminated") == [("id of run", status)]


@pytest.mark.parametrize("method", ["log_batch", "log_dict"])
def test_mlflow_has_no_open_run_that_nobody_knows(mlflow, tmp_path, method, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "17")
    monkeypatch.setattr(mlflow, method, None)
    with pytest.raises(InputError, match="mlflow, refuses: 'NoneType' object is not callable"):
        open_trackers(["mlflow"], tmp_path, CONFIG)
    assert mlflow.calls[0] == ("create_run", "17", tmp_path.name)
    assert of_kind(mlflow, "set_terminated") == [("id of run", "FAILED")]
    assert not (tmp_path / "trackers.json").exists()


def test_training_goes_on_without_a_tracker_that_fails(wandb, mlflow, tmp_path, caplog):
    def gone(*_, **__):
        raise ConnectionError("server\nis gone")

    mlflow.log_image = gone
    with caplog.at_level(logging.WARNING, logger="absl"):
        train(tmp_path, num_steps=4, eval_every_steps=2, trackers=("mlflow", "wandb"))
    assert [text for text in caplog.messages if "tracker" in text] == [
        "train.trackers: mlflow failed (server is gone); training goes on without it"
    ]
    assert not of_kind(mlflow, "set_terminated")
    assert of_kind(wandb, "finish") == [({"exit_code": 0},)]
    assert json.loads((tmp_path / "params.json").read_text())["steps"] == 4


@pytest.mark.usefixtures("mlflow")
def test_a_tracker_that_does_not_begin_is_one_line(wandb, tmp_path):
    (tmp_path / "trackers.json").write_text('{"mlflow": "another"}')
    expected = (
        f"train.trackers: mlflow, which knows this run as another ({tmp_path / 'trackers.json'}), refuses: "
        "Run another not found anywhere; mend that, or leave 'mlflow' out"
    )
    fails(InputError, expected, lambda: open_trackers(["wandb", "mlflow"], tmp_path, CONFIG))
    # What was open is closed, and the run is not lost.
    assert of_kind(wandb, "finish") == [({"exit_code": 1},)]
    assert json.loads((tmp_path / "trackers.json").read_text())["mlflow"] == "another"


def test_a_damaged_file_of_names_is_one_line(wandb, tmp_path):
    (tmp_path / "trackers.json").write_text('{"wandb": 3}')
    text = message(lambda: open_trackers(["wandb"], tmp_path, CONFIG), InputError)
    assert text.startswith(f"{tmp_path / 'trackers.json'}: ")
    assert text.endswith("delete it to begin new runs in the trackers")
    assert not wandb.calls


def test_only_the_first_process_has_trackers(monkeypatch, wandb, tmp_path):
    monkeypatch.setattr(loop.multihost, "is_primary", lambda: False)
    loop.train(quick_task(quick_config(num_steps=4, trackers=("wandb",))), tmp_path)
    assert not wandb.calls
    assert not (tmp_path / "trackers.json").exists()


def test_without_trackers_there_is_no_file(tmp_path):
    (tmp_path / "trackers.json").write_text("left as it is")
    report(open_trackers([], tmp_path, CONFIG), tmp_path)
    assert (tmp_path / "trackers.json").read_text() == "left as it is"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("comet",), "train.trackers: unknown 'comet'; choose one of wandb, mlflow"),
        (("wandb", "wandb"), "train.trackers: ('wandb', 'wandb') must name each once"),
    ],
)
def test_config_names_known_trackers_once(names, text):
    fails(UsageError, text, lambda: quick_config(num_steps=1, trackers=names))


# The packages themselves


def records(path):
    """Those of a run of Weights & Biases on disk: a log in the format of LevelDB's, with a header before."""
    data, place, record = path.read_bytes(), 7, b""
    while place < len(data):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        place += 7
        record += data[place : place + length]
        place += length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    for num_steps in (4, 6):
        train(tmp_path, num_steps=num_steps, log_every_steps=2, trackers=("wandb",))
    run_id = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    paths = sorted((tmp_path / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert len(paths) == 2
    metrics, configs, final, exits = [], [], [], []
    for data in itertools.chain(*map(records, paths)):
        record = wandb_internal_pb2.Record.FromString(data)
        row = {
            item.key or ".".join(item.nested_key): item.value_json for item in record.history.item
        }
        name = "train/images_per_second"
        if name in row:
            metrics.append({"step": record.history.step.num, name: json.loads(row[name])})
        configs += [item for item in record.config.update if item.key == "train.num_steps"]
        final += [item for item in record.summary.update if item.key == "final/steps"]
        exits += [record.exit.exit_code] if record.HasField("exit") else []
    assert metrics == [
        {name: row[name] for name in ("step", "train/images_per_second")}
        for row in logged(tmp_path)
        if "train/images_per_second" in row
    ]
    assert [row["step"] for row in metrics] == [2, 4, 6]
    assert [item.value_json for item in configs] == ["4", "6"]
    assert {item.value_json for item in final} == {"4", "6"}
    assert exits == [0, 0]


def test_mlflow_in_a_database(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'tracked.db'}")
    monkeypatch.chdir(tmp_path)
    for num_steps in (4, 6):
        train(tmp_path / "run", num_steps=num_steps, log_every_steps=2, trackers=("mlflow",))
    run_id = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["train.num_steps"] == "4"
    assert run.data.metrics["final/steps"] == 6
    for name in set(logged(tmp_path / "run")[0]) - {"step"}:
        history = [(one.step, one.value) for one in client.get_metric_history(run_id, name)]
        rows = logged(tmp_path / "run")
        assert history == [(row["step"], row[name]) for row in rows if name in row]
    files = {file.path for file in client.list_artifacts(run_id)}
    assert {"config.json", "summary.json", "samples"} <= files
