"""Two trained networks in one file: the same predictions, and one line for halves that do not fit."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.codec.loading import load_codec
from diffc_jax.conversion import experts
from diffc_jax.conversion.experts import join_experts
from diffc_jax.errors import DiffcError, UsageError
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.models import model_variables
from diffc_jax.runtime.export import export_params
from diffc_jax.training.experiment import build_experiment
from tests.support.expert_pair import (
    ALONE,
    BOTH,
    FIELDS,
    GAMMAS,
    HALVES,
    MODEL,
    SCHEDULE,
    SIDE,
    SPLIT,
    Z,
    experts_config,
)
from tests.support.processes import run_program


def export_half(side, path, schedule="linear", **schedule_params):
    """A network with its card as training leaves them, the fine one in half precision."""
    params, number = HALVES[side]["params"], 1 + list(FIELDS).index(side)
    if side == "fine":
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)
    tree = {
        "params": {"model": params, "schedule": schedule_params},
        "fixed": HALVES[side]["fixed"],
    }
    card = {
        "model": {"name": "unet", **FIELDS[side]},
        "schedule": SCHEDULE | {"name": schedule},
        "image_size": SIDE,
        "steps": number,
        "images_seen": 10 * number,
        "trained_parameters": 100 * number,
        "train_cpu_seconds": 3600.0 * number,
        "train_seconds": None if side == "fine" else 60.0,
    }
    export_params(path, tree, card)


@pytest.fixture
def halves(tmp_path):
    """Files of both networks."""
    paths = {side: tmp_path / f"{side}.safetensors" for side in FIELDS}
    for side, path in paths.items():
        export_half(side, path)
    return paths


def test_joined_networks_are_the_two(halves, tmp_path):
    joined, packed = tmp_path / "new" / "joined.safetensors", tmp_path / "packed.safetensors"
    flags = [f"--{side}={path}" for side, path in halves.items()]
    done = run_program(
        "scripts/join_experts.py", *flags, f"--split_gamma={SPLIT}", f"--output={joined}"
    )
    assert (done.returncode, done.stdout) == (0, f"{joined}: {joined.stat().st_size} bytes\n")
    card = json.loads(joined.with_suffix(".json").read_text())
    assert card["model"] == json.loads(json.dumps(MODEL))
    assert (card["images_seen"], card["train_cpu_seconds"]) == (30, 10800.0)
    assert card["trained_parameters"] == 300
    assert "train_seconds" not in card  # one of the two does not know it
    assert card["joined_from"]["noisy"]["card"]["steps"] == 2
    assert card["joined_from"]["noisy"]["file"] == "noisy.safetensors"

    done = run_program("scripts/pack_weights.py", f"--input={joined}", f"--output={packed}")
    assert done.returncode == 0, done.stderr
    config = experts_config()
    for path in (joined, packed):
        config.eval.params = str(path)
        trained = load_trained(build_experiment(config), tmp_path)
        assert (trained.costs["images_seen"], trained.costs["train_cpu_hours"]) == (30, 3.0)
        evaluated = model_variables(trained.state.ema, trained.state.fixed)
        for variables in (evaluated, load_codec(path, 1).programs.variables):
            for side in FIELDS if path == joined else ("fine",):
                gamma = GAMMAS[side]
                alone = load_codec(halves[side], 1).programs.variables
                np.testing.assert_allclose(
                    BOTH.eps_hat(variables, Z, gamma),
                    ALONE[side].eps_hat(alone, Z, gamma),
                    rtol=2e-6,
                    atol=2e-7,
                )
    assert packed.stat().st_size < joined.stat().st_size

    done = run_program(
        "scripts/pack_weights.py", f"--input={joined}", f"--output={packed}", "--dtype=bfloat16"
    )
    assert done.returncode == 0, done.stderr
    model = json.loads(packed.with_suffix(".json").read_text())["model"]
    assert [model[side]["dtype"] for side in FIELDS] == ["bfloat16", "bfloat16"]
    load_codec(packed, 1)


def refusal(halves, split_gamma=SPLIT, name="joined.safetensors"):
    output = halves["fine"].with_name(name)
    with pytest.raises(DiffcError) as error:
        join_experts(**halves, split_gamma=split_gamma, output=output)
    assert not output.exists()
    message = str(error.value)
    for side, path in halves.items():
        message = message.replace(str(path), side.upper())
    return message


def change_card(path, **fields):
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"image_size": 16},
            "NOISY: does not hold the model that is needed: 1 tensors have another shape, the first is"
            " 'fixed/variances' ((8, 8, 3) instead of (16, 16, 3))",
        ),
        (
            {"schedule": SCHEDULE | {"gamma_max": 6.0}},
            "NOISY: has schedule {'name': 'linear', 'gamma_min': -13.3, 'gamma_max': 6.0}, not "
            "{'gamma_max': 5.0, 'gamma_min': -13.3, 'name': 'linear'} like FINE",
        ),
        (
            {"model": {"name": "gaussian"}},
            "NOISY: does not hold the model that is needed: 40 tensors are unexpected, the first is"
            " 'params/model/GammaEmbedding_0/Dense_0/bias'",
        ),
    ],
)
def test_halves_of_other_kinds_are_refused(halves, fields, message):
    change_card(halves["noisy"], **fields)
    assert refusal(halves) == message


def test_halves_of_other_learned_schedules_are_refused(halves):
    for side, path in halves.items():
        start = np.float32(-13.0 if side == "fine" else -12.0)
        export_half(side, path, "learned_linear", start=start, range=np.float32(18.0))
    assert refusal(halves) == "NOISY: has another 'params/schedule/start' than FINE"


def test_neither_of_the_two_is_replaced(halves):
    before = {path: path.read_bytes() for path in halves["fine"].parent.iterdir()}
    for path in halves.values():
        with pytest.raises(UsageError) as error:
            join_experts(**halves, split_gamma=SPLIT, output=path.parent / "x" / ".." / path.name)
        assert str(error.value).endswith(
            f": would replace {path}, one of the two; name another file"
        )
    assert {path: path.read_bytes() for path in halves["fine"].parent.iterdir()} == before


def test_what_cannot_be_joined_is_named(halves, tmp_path):
    assert refusal(halves, 5.0) == (
        "--split_gamma: 5.0 is not inside (-13.3, 5.0), the range of the schedule"
    )
    change_card(halves["noisy"], model={"name": "unet", **FIELDS["noisy"], "gamma_range": [-1, 5]})
    assert refusal(halves) == "model.split_gamma: -1.5 is not in model.noisy.gamma_range = (-1, 5)"
    output = tmp_path / "joined.npz"
    assert refusal(halves, name=output.name) == f"--output {output}: must end in .safetensors"
    halves["noisy"].unlink()
    assert refusal(halves) == "NOISY: there is no noisy.safetensors"


def test_a_joined_card_names_the_accelerators():
    cards = [{"train_accelerator": "1 x A"}, {}, {"train_accelerator": "2 x B"}]
    assert experts._accelerators(cards) == {"train_accelerator": "1 x A, 2 x B"}
    assert experts._accelerators([{}]) == {}
