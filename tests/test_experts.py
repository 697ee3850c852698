"""Two U-Nets as one denoiser: each image gets its own expert, and no other expert runs for it alone."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

from diffc_jax.codec.image_encoder import Target
from diffc_jax.compression.compress import compress
from diffc_jax.compression.decompress import decompress
from diffc_jax.config import base_config, shrink_to_smoke, validate
from diffc_jax.conversion.experts import join_experts
from diffc_jax.errors import DiffcError, UsageError
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.models import base, build_model, experts
from diffc_jax.results import read_rate_points
from diffc_jax.trainees import train
from diffc_jax.training.codec_models import load_codec
from diffc_jax.training.experiment import build_experiment
from diffc_jax.training.export import export_params
from diffc_jax.training.run_config import claim_workdir
from diffc_jax.training.sharding import make_mesh, put_batch
from diffc_jax.training.state import model_variables
from tests.processes import run_program

SIDE = 8
SHAPE = (SIDE, SIDE, 3)
SPLIT = -1.5
FIELDS = {
    "fine": {"widths": (8,), "blocks": (1,), "heads": 2, "dropout": 0.5},
    "noisy": {"widths": (4, 8), "blocks": (1, 1), "heads": 1, "dropout": 0.25},
}
MODEL = {"name": "unet_experts", "split_gamma": SPLIT, **FIELDS}
SCHEDULE = {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0}
GAMMAS = {
    "fine": jnp.array([-12.0, -7.0, -2.0, SPLIT]),
    "noisy": jnp.array([-1.0, 0.0, 2.0, 4.0]),
    "mixed": jnp.array([-7.0, 2.0, SPLIT, -1.0]),
}
Z = jnp.asarray(np.random.default_rng(1).standard_normal((4, *SHAPE)), jnp.float32)
DROPOUT_KEY = jax.random.key(5)


def build(config):
    """The model, compiled."""
    model = build_model(config, SHAPE)
    return dataclasses.replace(
        model, eps_hat=jax.jit(model.eps_hat), train_eps_hat=jax.jit(model.train_eps_hat)
    )


BOTH = build(MODEL)
ALONE = {side: build({"name": "unet", **fields}) for side, fields in FIELDS.items()}


def make_statistics(scale):
    frequency = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2)[..., np.newaxis]
    return {
        "mean": jnp.full(3, 0.1 * scale),
        "rotation": jnp.eye(3),
        "variances": jnp.asarray(scale / (1 + frequency) * np.ones(3), jnp.float32),
    }


def random_half(side):
    """Variables of one network alone, none at its initial value."""
    statistics = make_statistics({"fine": 4.0, "noisy": 8.0}[side])
    shapes = jax.eval_shape(ALONE[side].init, jax.random.key(0), statistics)
    rng = np.random.default_rng(list(FIELDS).index(side))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.standard_normal(leaf.shape) * 0.3 / np.sqrt(leaf.size / leaf.shape[-1]), leaf.dtype
        ),
        shapes["params"],
    )
    return {"params": params, "fixed": statistics}


HALVES = {side: random_half(side) for side in FIELDS}
VARIABLES = {
    name: {side: half[name] for side, half in HALVES.items()} for name in ("params", "fixed")
}


# The denoiser


@pytest.mark.parametrize("side", FIELDS)
def test_each_side_is_its_network_alone(side):
    gamma, alone = GAMMAS[side], ALONE[side]
    found = BOTH.eps_hat(VARIABLES, Z, gamma)
    np.testing.assert_array_equal(found, alone.eps_hat(HALVES[side], Z, gamma))
    dropped = BOTH.train_eps_hat(VARIABLES, Z, gamma, DROPOUT_KEY)
    np.testing.assert_array_equal(dropped, alone.train_eps_hat(HALVES[side], Z, gamma, DROPOUT_KEY))
    assert jnp.max(jnp.abs(dropped - found)) > 1e-5


def test_the_split_itself_is_fine():
    above = np.nextafter(np.float32(SPLIT), np.float32(0.0))
    gamma = jnp.array([SPLIT, above, SPLIT, above])
    fine, noisy = (ALONE[side].eps_hat(HALVES[side], Z, gamma) for side in FIELDS)
    found = BOTH.eps_hat(VARIABLES, Z, gamma)
    np.testing.assert_array_equal(found[::2], fine[::2])
    np.testing.assert_array_equal(found[1::2], noisy[1::2])
    assert jnp.max(jnp.abs(fine - noisy)) > 1e-2


def test_an_image_does_not_depend_on_its_batch():
    gamma = GAMMAS["mixed"]
    together = BOTH.eps_hat(VARIABLES, Z, gamma)
    for i in range(4):
        alone = BOTH.eps_hat(VARIABLES, Z[i : i + 1], gamma[i : i + 1])
        np.testing.assert_allclose(together[i : i + 1], alone, atol=2e-5)
        # The same place among images that are all fine, all noisy.
        for side in FIELDS:
            others = jnp.where(jnp.arange(4) == i, gamma, GAMMAS[side])
            np.testing.assert_array_equal(together[i], BOTH.eps_hat(VARIABLES, Z, others)[i])


def test_a_batch_may_be_split_over_devices():
    mesh, gamma = make_mesh(), GAMMAS["mixed"]
    assert mesh.size == 8
    placed = put_batch(mesh, {"z": np.repeat(Z, 2, axis=0), "gamma": np.repeat(gamma, 2)})
    found = BOTH.eps_hat(VARIABLES, placed["z"], placed["gamma"])
    expected = np.repeat(BOTH.eps_hat(VARIABLES, Z, gamma), 2, axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-5)


# Which experts run: with simple ones, which compile at once


def one_by_one(eps_hat, variables, z, gamma):
    """As the codec decodes tiles: batches of one, side by side."""
    return jax.vmap(lambda z, gamma: eps_hat(variables, z[None], gamma[None])[0])(z, gamma)


def in_pairs(eps_hat, variables, z, gamma):
    pairs = z.reshape(2, 2, *SHAPE), gamma.reshape(2, 2)
    found = jax.vmap(lambda z, gamma: one_by_one(eps_hat, variables, z, gamma))(*pairs)
    return found.reshape(z.shape)


def whole(eps_hat, *inputs):
    return eps_hat(*inputs)


@pytest.mark.parametrize("view", [whole, one_by_one, in_pairs])
def test_experts_run_and_get_gradients_where_they_are_needed(view, monkeypatch):
    ran = set()

    def simple_unet(image_shape, number):
        del image_shape

        def eps_hat(variables, z, gamma, dropout_key=None):
            del gamma, dropout_key
            jax.debug.callback(lambda: ran.add(number))
            return variables["params"] * z

        return base.Model("simple", lambda key, statistics: {}, eps_hat, eps_hat)

    monkeypatch.setattr(experts, "unet_model", simple_unet)
    model = experts.experts_model(SHAPE, SPLIT, fine={"number": 0}, noisy={"number": 1})
    variables = {"params": {"fine": 2.0, "noisy": 3.0}}

    @jax.jit
    def run(gamma):
        def total(variables):
            eps_hat = view(model.eps_hat, variables, Z, gamma)
            return jnp.sum(eps_hat), eps_hat

        return jax.grad(total, has_aux=True)(variables)

    for side, needed in {"fine": {0}, "noisy": {1}, "mixed": {0, 1}}.items():
        ran.clear()
        gradient, eps_hat = jax.block_until_ready(run(GAMMAS[side]))
        jax.effects_barrier()
        assert ran == needed
        is_noisy = (GAMMAS[side] > SPLIT).reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(eps_hat, jnp.where(is_noisy, 3.0, 2.0) * Z)
        for expert, is_its in {"fine": ~is_noisy, "noisy": is_noisy}.items():
            np.testing.assert_allclose(
                gradient["params"][expert], jnp.sum(is_its * Z), rtol=1e-4, atol=1e-4
            )


# Fields


def test_init_gives_each_expert_its_own_start():
    same = {"name": "unet_experts", "split_gamma": 0.0} | {side: FIELDS["fine"] for side in FIELDS}
    statistics = make_statistics(1.0)
    model = build_model(same, SHAPE)
    assert model.name == "unet_experts"
    variables = jax.jit(model.init)(jax.random.key(0), statistics)
    stems = [variables["params"][side]["stem"]["kernel"] for side in FIELDS]
    assert stems[0].shape == stems[1].shape
    assert jnp.any(stems[0] != stems[1])
    for side in FIELDS:
        jax.tree.map(np.testing.assert_array_equal, variables["fixed"][side], statistics)
    with pytest.raises(
        UsageError, match=r"statistics: unet needs variances of shape \(16, 16, 3\)"
    ):
        build_model(same, (16, 16, 3)).init(jax.random.key(0), statistics)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fine": {"width": 8}},
            "model.fine.width: unet has no such field; it has blocks, dropout, dtype, gamma_range,"
            " heads, patch, remat, widths",
        ),
        (
            {"noisy": {"widths": (8, 30), "blocks": (1, 1)}},
            "model.noisy.widths: 30 is not a multiple of 4, the number of heads (model.noisy.heads)",
        ),
        ({"fine": 3}, "model.fine: 3 is not a group of fields of unet"),
        ({"fine": None}, "model.fine: is missing; unet_experts needs it"),
        (
            {"fine": {"gamma_range": (-13.3, -2.0)}},
            "model.split_gamma: -1.5 is not in model.fine.gamma_range = (-13.3, -2.0)",
        ),
        (
            {"noisy": {"gamma_range": (-1.0, 5.0)}},
            "model.split_gamma: -1.5 is not in model.noisy.gamma_range = (-1.0, 5.0)",
        ),
        (
            {"coarse": {}},
            "model.coarse: unet_experts has no such field; it has fine, noisy, split_gamma",
        ),
    ],
)
def test_bad_fields_are_named(changes, message):
    # A group of fields is given as a whole; None takes it away.
    config = {name: value for name, value in (MODEL | changes).items() if value is not None}
    with pytest.raises(UsageError) as error:
        build_model(config, SHAPE)
    assert str(error.value) == message


def experts_config():
    config = base_config()
    config.data.image_size = SIDE
    config.model = ConfigDict(MODEL)
    return config


@pytest.mark.parametrize("split", [-13.3, 5.0])
def test_the_split_is_inside_the_schedule(split):
    config = experts_config()
    validate(config)
    config.model.split_gamma = split
    with pytest.raises(UsageError) as error:
        validate(config)
    assert str(error.value) == (
        f"model.split_gamma: {split} is not inside (-13.3, 5.0), the range of the schedule"
    )


def test_a_run_may_go_on_with_remat(tmp_path):
    config = experts_config()
    config.model.fine.remat = config.model.noisy.remat = False
    claim_workdir(config, tmp_path)
    config.model.fine.remat = config.model.noisy.remat = True
    claim_workdir(config, tmp_path)
    config.model.noisy.widths = (8, 8)
    with pytest.raises(UsageError, match=r"model\.noisy\.widths was \[4, 8\], is \[8, 8\]"):
        claim_workdir(config, tmp_path)


# Joined files


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
        "train_cpu_seconds": 3600.0 * number,
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
        for variables in (evaluated, load_codec(path, 1).variables):
            for side in FIELDS if path == joined else ("fine",):
                gamma = GAMMAS[side]
                alone = load_codec(halves[side], 1).variables
                np.testing.assert_array_equal(
                    BOTH.eps_hat(variables, Z, gamma), ALONE[side].eps_hat(alone, Z, gamma)
                )
    assert packed.stat().st_size < joined.stat().st_size


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
            "NOISY: 'fixed/variances' has shape (8, 8, 3), the model needs (16, 16, 3)",
        ),
        (
            {"schedule": SCHEDULE | {"gamma_max": 6.0}},
            "NOISY: has schedule {'name': 'linear', 'gamma_min': -13.3, 'gamma_max': 6.0}, not "
            "{'gamma_max': 5.0, 'gamma_min': -13.3, 'name': 'linear'} like FINE",
        ),
        (
            {"model": {"name": "gaussian"}},
            "NOISY: 'params/model/GammaEmbedding_0/Dense_0/bias' has shape (256,), the model needs None",
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


def test_what_cannot_be_joined_is_named(halves, tmp_path):
    assert refusal(halves, 5.0) == (
        "--split_gamma: 5.0 is not inside (-13.3, 5.0), the range of the schedule"
    )
    change_card(halves["noisy"], model={"name": "unet", **FIELDS["noisy"], "gamma_range": [-1, 5]})
    assert refusal(halves) == "model.split_gamma: -1.5 is not in model.noisy.gamma_range = (-1, 5)"
    output = tmp_path / "joined.npz"
    assert refusal(halves, name=output.name) == f"--output {output}: must end in .safetensors"
    halves["noisy"].unlink()
    assert refusal(halves) == "NOISY: cannot be read (No such file or directory)"


# The jobs of the programs


def test_trains_evaluates_and_compresses(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    config = base_config()
    with config.unlocked():
        config.model = ConfigDict(
            {
                "name": "unet_experts",
                "split_gamma": -1.0,
                "fine": {"widths": (8,), "blocks": (1,), "heads": 2},
                "noisy": {"patch": 4, "widths": (8, 8), "blocks": (1, 1), "heads": 2},
            }
        )
    shrink_to_smoke(config)
    config.eval.decoders, config.eval.codec_decoders = ("flow",), ()
    validate(config)
    workdir = tmp_path / "run"
    train(config, workdir)
    evaluate(config, workdir)
    points = read_rate_points(workdir / "eval" / "rd.csv")
    assert {(point.model, point.decoder) for point in points} == {("unet_experts", "flow")}

    coarse = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    PIL.Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)).save(tmp_path / "a.png")
    names = [str(tmp_path / name) for name in ("a.png", "a.diffc", "b.png")]
    compress(workdir, names[:1], names[1], Target(packets=2), memory=4, seed=0, batch_size=1)
    decompress(workdir, names[1:2], names[2], decoder="flow", n_steps=2, at_bpp=None, batch_size=1)
    with PIL.Image.open(names[2]) as decoded:
        assert decoded.size == (16, 16)
