"""Two U-Nets as one denoiser: each image gets its own expert, and no other expert runs for it alone."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.image_encoder import Target
from diffc_jax.commands import train
from diffc_jax.config import base_config, shrink_to_smoke, validate
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.results import read_rate_points
from diffc_jax.models import base, build_model, experts
from diffc_jax.runtime.run_config import claim_workdir
from diffc_jax.runtime.sharding import make_mesh, put_batch
from tests.support.expert_pair import (
    ALONE,
    BOTH,
    FIELDS,
    GAMMAS,
    HALVES,
    MODEL,
    SHAPE,
    SPLIT,
    VARIABLES,
    Z,
    experts_config,
    make_statistics,
)

DROPOUT_KEY = jax.random.key(5)


# The denoiser


def near(found, expected):
    """Programs that are compiled apart round differently, in the last digit."""
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("side", FIELDS)
def test_each_side_is_its_network_alone(side):
    gamma, alone = GAMMAS[side], ALONE[side]
    found = BOTH.eps_hat(VARIABLES, Z, gamma)
    near(found, alone.eps_hat(HALVES[side], Z, gamma))
    dropped = BOTH.train_eps_hat(VARIABLES, Z, gamma, DROPOUT_KEY)
    near(dropped, alone.train_eps_hat(HALVES[side], Z, gamma, DROPOUT_KEY))
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
    compress(workdir, names[:1], names[1], Target(packets=2), memory=8, seed=0, batch_size=1)
    decompress(workdir, names[1:2], names[2], decoder="flow", n_steps=2, at_bpp=None, batch_size=1)
    with PIL.Image.open(names[2]) as decoded:
        assert decoded.size == (16, 16)
