"""What a step is said to cost is what it is: counted by hand, and by XLA itself."""

import dataclasses

import jax
import pytest
from ml_collections import ConfigDict

from diffc_jax.config import base_config
from diffc_jax.errors import UsageError
from diffc_jax.runtime.collectives import Collective, read_collectives
from diffc_jax.training import cost
from diffc_jax.training.diffusion_task import build_diffusion_task
from diffc_jax.training.experiment import build_experiment
from tests.support.processes import run_program

CONFIG_FILE = """
from ml_collections import ConfigDict
from diffc_jax.config import base_config

def get_config():
    config = base_config()
    config.data.image_size = 8
    config.model = ConfigDict({"name": "vdm", "blocks": 1, "width": 16, "groups": 4})
    config.train.batch_size = 8
    config.train.num_steps = 1000
    return config
"""


def vdm_config(fsdp=4, parts=1, **model):
    config = base_config()
    config.data.image_size = 16
    config.mesh.fsdp = fsdp
    fields = {"name": "vdm", "blocks": 2, "width": 32, "groups": 8, "dropout": 0.0}
    config.model = ConfigDict(fields | model)
    config.train.batch_size = 64
    config.train.accumulation_steps = parts
    return config


@pytest.fixture(scope="module")
def whole():
    return cost.measure_step(build_diffusion_task(vdm_config()))


def test_state_of_each_device(whole):
    assert whole.mesh == {"data": 2, "fsdp": 4}
    state = build_experiment(vdm_config()).state_template()
    leaves = jax.tree.leaves(state.params)
    assert whole.parameters == sum(leaf.size for leaf in leaves)
    held = sum(4 * leaf.size // (4 if any(leaf.sharding.spec) else 1) for leaf in leaves)
    assert whole.state["parameters"] == whole.state["average of the parameters"] == held
    # Two moments, and the counters of Adam and of the schedule.
    assert whole.state["optimiser"] == 2 * held + 8
    assert held < 0.4 * 4 * whole.parameters
    assert whole.peak >= sum(whole.state.values()) + whole.temporary
    # The new state takes the place of the old one.
    assert whole.peak - whole.temporary < 1.1 * sum(whole.state.values())


def test_arithmetic_is_that_of_the_layers(whole):
    # Forward: a product of 9 x inputs x outputs a pixel for each convolution. Backward: twice as much.
    def block(inputs):
        return 9 * inputs * 32 + 9 * 32 * 32 + (inputs * 32 if inputs != 32 else 0)

    layers = 9 * 15 * 32 + 4 * block(32) + 3 * block(64) + 9 * 32 * 3
    attention = 4 * 32 * 32 + 2 * 256 * 32
    forward = 2 * 256 * (layers + attention)
    # The rest: layers of the noise level, and no gradient for the image.
    assert 64 * 3 * forward < whole.flops * 1.01
    assert whole.flops == pytest.approx(64 * 3 * forward, rel=0.05)


def test_one_cpu_counts_the_arithmetic_of_accelerators(whole, monkeypatch):
    task = build_diffusion_task(vdm_config())
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert cost.measure_step(task).flops == whole.flops


def test_parameters_are_gathered_once_and_activations_stay_where_they_are(whole):
    found = {(c.kind, c.group): c for c in whole.collectives}
    assert {kind for kind, _ in found} == {"all-gather", "all-reduce"}
    state = build_experiment(vdm_config()).state_template()
    split = [leaf for leaf in jax.tree.leaves(state.params) if any(leaf.sharding.spec)]
    gathered = found["all-gather", 4]
    assert gathered.count <= len(split)
    assert gathered.size == 4 * sum(leaf.size for leaf in split)
    reduced = sum(c.size for c in whole.collectives if c.kind == "all-reduce")
    # Gradients once over fsdp and their parts once over data, and some scalars.
    assert reduced == pytest.approx(4 * whole.parameters * 1.25, rel=0.1)


def test_accumulation_saves_memory_and_gathers_no_more(whole):
    parts = cost.measure_step(build_diffusion_task(vdm_config(parts=4)))
    assert parts.flops == pytest.approx(whole.flops, rel=0.01)
    assert parts.temporary < 0.7 * whole.temporary
    gathered = [[c for c in step.collectives if c.kind == "all-gather"] for step in (parts, whole)]
    assert gathered[0] == gathered[1]


def test_rematerialisation_saves_memory_for_arithmetic(whole):
    again = cost.measure_step(build_diffusion_task(vdm_config(remat=True)))
    assert again.temporary < 0.8 * whole.temporary
    assert 1.05 * whole.flops < again.flops < 1.4 * whole.flops


def test_report_estimates_a_range_of_days():
    step = cost.StepCost(
        mesh={"data": 2, "fsdp": 8},
        batch_size=32,
        parameters=1000,
        flops=16 * 989e12 * 0.25,
        state={"parameters": 500_000_000},
        temporary=70_000_000_000,
        peak=90_000_000_000,
        collectives=[Collective("all-reduce", 16, 3, 4_000_000_000)],
        compile_seconds=1.0,
    )
    lines = cost.report_cost(step, num_steps=86_400, accelerator="h100").splitlines()
    assert lines[:4] == [
        "mesh                      data 2 x fsdp 8 = 16 devices (simulated), batch 32",
        "trained parameters        1,000",
        "arithmetic                3956 TFLOP a step, 123.6 TFLOP an image",
        "bytes of each device",
    ]
    estimate = lines[lines.index("compiled in 1 s") + 1 :]
    assert estimate == [
        "estimate for 16 x h100, from datasheets, not measured",
        "  DOES NOT FIT in 80 GB",
        "  arithmetic at peak          250.0 ms",
        "  memory                       53.7 ms  (every byte written and read once)",
        "  network                     150.0 ms  (all groups at the slowest link)",
        "  step                        250.0 ms if all three overlap, 775.0 ms one after the other at 40 %"
        " of the peak",
        "  86,400 steps: 0.2 to 0.8 days",
    ]
    node = dataclasses.replace(step, mesh={"data": 1, "fsdp": 8})
    assert (
        "  network                      16.7 ms  (all groups at the slowest link)"
        in cost.report_cost(node, accelerator="h100").splitlines()
    )


PROGRAM = """HloModule jit_step, is_scheduled=true

%inner (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = f32[8]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %t = (s32[], f32[8]) tuple(%i, %r)
}

%outer (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  ROOT %w = (s32[]) while(%t), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %g = (bf16[4,2]{1,0}, pred[3]) all-gather(%a, %b), replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}
  %s = f32[2]{0} reduce-scatter(%a), replica_groups=[2,4]<=[8], to_apply=%add
  %w = (s32[], f32[8]) while(%t), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %d = f32[] all-reduce(%a), to_apply=%add
}
"""


def test_collectives_of_loops_count_as_often_as_they_run():
    found = read_collectives(PROGRAM, devices=8)
    assert found == [
        Collective("all-reduce", 2, 15, 15 * 32),
        Collective("all-reduce", 8, 1, 4),
        Collective("all-gather", 4, 1, 16 + 3),
        Collective("reduce-scatter", 4, 1, 4 * 8),
    ]
    assert [c.sent for c in found] == [15 * 32, 7.0, 0.75 * 19, 24.0]


def test_model_without_steps_is_refused():
    with pytest.raises(UsageError) as caught:
        cost.measure_step(build_diffusion_task(base_config()))
    assert str(caught.value) == "model.name: gaussian has no steps of training, so --cost has none"


def test_command(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(CONFIG_FILE)

    def run(*flags):
        return run_program(
            *("experiments/train.py", f"--config={config}", f"--workdir={tmp_path / 'run'}"), *flags
        )

    done = run(
        *("--dry_run", "--cost", "--cost_devices=4", "--config.mesh.fsdp=2"),
        "--accelerator=tpu_v5e",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "mesh                      data 2 x fsdp 2 = 4 devices (simulated)"
    )
    assert "estimate for 4 x tpu_v5e" in done.stdout
    assert "  1,000 steps: " in done.stdout
    assert not (tmp_path / "run").exists()

    refused = run("--dry_run", "--accelerator=h100")
    assert (refused.returncode, refused.stderr) == (
        2,
        "train.py: error: --accelerator: needs --dry_run --cost\n",
    )
    refused = run("--cost")
    assert (refused.returncode, refused.stderr) == (
        2,
        "train.py: error: --cost: needs --dry_run; it compiles and does not train\n",
    )
