"""Networks: sizes, start values, conditioning, training behaviour, and their options."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.models import gaussian
from diffc_jax.models.layers import depth_to_space, sinusoidal_embedding, space_to_depth
from diffc_jax.models.preconditioning import grid_posterior, wiener_view
from diffc_jax.models.unet import unet_model
from diffc_jax.models.vdm import fourier_features, vdm_model

SHAPE = (16, 16, 3)
GAMMAS = jnp.array([-12.5, -6.0, 0.0, 4.0])

FACTORIES = {"vdm": vdm_model, "unet": unet_model}
SMALL = {
    "vdm": {"image_shape": SHAPE, "blocks": 1, "width": 16, "groups": 4},
    "unet": {"image_shape": SHAPE, "widths": (16, 32), "blocks": (1, 1)},
}


def build(name, **changes):
    """The small model, compiled."""
    model = FACTORIES[name](**{**SMALL[name], **changes})
    return dataclasses.replace(
        model,
        init=jax.jit(model.init),
        eps_hat=jax.jit(model.eps_hat),
        train_eps_hat=jax.jit(model.train_eps_hat),
    )


@pytest.fixture(scope="module")
def statistics():
    i = np.arange(16)
    decay = 1.0 / (1.0 + i[:, None, None] ** 2 + i[None, :, None] ** 2)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    return {
        "mean": jnp.array([0.1, 0.0, -0.1]),
        "rotation": jnp.asarray(rotation, jnp.float32),
        "variances": jnp.asarray(decay * np.array([20.0, 2.0, 0.5]), jnp.float32),
    }


@pytest.fixture(scope="module")
def batch(statistics):
    """Pixels of the Gaussian, rounded to 8 bits; their noise; the noisy images."""
    rng = np.random.default_rng(1)
    components = rng.standard_normal((4, *SHAPE)) * np.sqrt(statistics["variances"])
    x = gaussian.from_components(jnp.asarray(components, jnp.float32), statistics["rotation"])
    x = x + statistics["mean"].reshape(1, 1, 1, 3)
    x = process.pixels_to_unit(process.unit_to_pixels(0.3 * x))
    eps = jnp.asarray(rng.standard_normal(x.shape), jnp.float32)
    return x, eps, process.diffuse(x, eps, GAMMAS)


def random_variables(model, statistics, scale=0.2):
    """Variables far from the zero initialisation; no time spent on compiling `init`."""
    rng = np.random.default_rng(3)
    variables = jax.eval_shape(model.init, jax.random.key(0), statistics)
    params = jax.tree.map(
        lambda p: jnp.asarray(
            rng.standard_normal(p.shape) * scale / np.sqrt(max(p.size / p.shape[-1], 1.0)), p.dtype
        ),
        variables["params"],
    )
    return {"params": params, "fixed": statistics}


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_vdm_has_the_parameters_of_the_paper():
    model = vdm_model()
    variables = jax.eval_shape(lambda key: model.init(key, None), jax.random.key(0))
    assert count(variables) == 237_602_819


@pytest.mark.parametrize("name", FACTORIES)
def test_shape_and_dtype(name, statistics, batch):
    for dtype in ("float32", "bfloat16"):
        model = build(name, dtype=dtype)
        variables = random_variables(model, statistics)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype("f4")}
        eps_hat = model.eps_hat(variables, batch[2], GAMMAS)
        assert eps_hat.shape == batch[2].shape
        assert eps_hat.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(eps_hat))


def test_vdm_starts_from_z(batch):
    model = build("vdm")
    eps_hat = model.eps_hat(model.init(jax.random.key(0), None), batch[2], GAMMAS)
    np.testing.assert_array_equal(eps_hat, batch[2])


def test_unet_starts_from_the_wiener_filter_on_the_grid(statistics, batch):
    _, eps, z = batch
    model = build("unet")
    variables = model.init(jax.random.key(0), statistics)
    eps_hat = model.eps_hat(variables, z, GAMMAS)
    wiener = gaussian.eps_hat(variables, z, GAMMAS)
    # Beyond gamma = -8 the grid is invisible; at -12.5 it takes a third of the error.
    np.testing.assert_allclose(eps_hat[1:], wiener[1:], atol=2e-3)
    assert jnp.mean((eps_hat - eps)[0] ** 2) < 0.7 * jnp.mean((wiener - eps)[0] ** 2)


@pytest.mark.parametrize("gamma", [-13.3, -11.5, -10.0, -8.0])
def test_grid_posterior_is_the_mean_over_256_values(gamma):
    rng = np.random.default_rng(2)
    shape = (1, 8, 8, 3)
    x = process.pixels_to_unit(jnp.asarray(rng.integers(60, 200, shape)))
    gamma = jnp.array([gamma])
    alpha, sigma = float(process.alpha(gamma)[0]), float(process.sigma(gamma)[0])
    z = process.diffuse(x, jnp.asarray(rng.standard_normal(shape), jnp.float32), gamma)
    eps = jnp.asarray(0.3 * rng.standard_normal(shape), jnp.float32)
    variance = jnp.asarray(rng.uniform(0.3, 1.0, shape), jnp.float32)
    found = grid_posterior(eps, variance, z, gamma)

    values = (2.0 * np.arange(256) + 1.0) / 256.0 - 1.0
    mean = (np.asarray(z, np.float64) - sigma * np.asarray(eps)) / alpha
    spread = (sigma / alpha) ** 2 * np.asarray(variance, np.float64)
    log_weight = -0.5 * (mean[..., None] - values) ** 2 / spread[..., None]
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    x_hat = (weight * values).sum(-1) / weight.sum(-1)
    np.testing.assert_allclose(found, (np.asarray(z) - alpha * x_hat) / sigma, atol=2e-3)


def test_features_have_unit_variance(statistics):
    rng = np.random.default_rng(4)
    gamma = jnp.linspace(-12.0, 4.0, 64)
    components = rng.standard_normal((64, *SHAPE)) * np.sqrt(statistics["variances"])
    x = gaussian.from_components(jnp.asarray(components, jnp.float32), statistics["rotation"])
    x = x + statistics["mean"].reshape(1, 1, 1, 3)
    eps = jnp.asarray(rng.standard_normal(x.shape), jnp.float32)
    features = wiener_view(statistics, process.diffuse(x, eps, gamma), gamma).features()
    assert features.shape == (64, 16, 16, 6)
    deviation = features.std((1, 2, 3))
    np.testing.assert_allclose(deviation, np.ones(64), atol=0.12)


@pytest.mark.parametrize("name", FACTORIES)
def test_training_lowers_the_loss_and_uses_gamma(name, statistics, batch):
    x, eps, _ = batch
    model = build(name, dropout=0.0)
    variables = model.init(jax.random.key(0), statistics)
    fixed = {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.adam(3e-3)

    def loss_of(params):
        z = process.diffuse(x, eps, GAMMAS)
        return jnp.mean((model.eps_hat({"params": params, **fixed}, z, GAMMAS) - eps) ** 2)

    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss

    params, state, losses = variables["params"], optimizer.init(variables["params"]), []
    for _ in range(60):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]

    # Without the embedding's parameters the network no longer knows the level.
    blind = jax.tree_util.tree_map_with_path(
        lambda path, p: p * ("GammaEmbedding" not in jax.tree_util.keystr(path)), params
    )
    z = process.diffuse(x, eps, GAMMAS)
    informed, uninformed = (
        model.eps_hat({"params": p, **fixed}, z, GAMMAS) for p in (params, blind)
    )
    assert jnp.max(jnp.abs(informed - uninformed)) > 1e-3


@pytest.mark.parametrize("name", FACTORIES)
def test_dropout_acts_in_training_only(name, statistics, batch):
    z = batch[2]
    model = build(name, dropout=0.5)
    variables = random_variables(model, statistics)
    quiet = build(name, dropout=0.0)
    np.testing.assert_array_equal(
        model.eps_hat(variables, z, GAMMAS), quiet.eps_hat(variables, z, GAMMAS)
    )
    one, same, other = (
        model.train_eps_hat(variables, z, GAMMAS, jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert jnp.max(jnp.abs(one - other)) > 1e-3


@pytest.mark.parametrize("name", FACTORIES)
def test_remat_changes_no_value(name, statistics, batch):
    z = batch[2]
    values = []
    for remat in (False, True):
        model = build(name, remat=remat, dropout=0.2)
        variables = random_variables(model, statistics)
        fixed = {k: v for k, v in variables.items() if k != "params"}

        def loss_of(params, model=model, fixed=fixed):
            eps_hat = model.train_eps_hat({"params": params, **fixed}, z, GAMMAS, jax.random.key(5))
            return jnp.mean(eps_hat**2)

        values.append(jax.jit(jax.value_and_grad(loss_of))(variables["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *values)


@pytest.mark.parametrize("name", FACTORIES)
def test_bfloat16_is_close_to_float32(name, statistics, batch):
    z = batch[2]
    exact, rounded = (build(name, dtype=dtype) for dtype in ("float32", "bfloat16"))
    variables = random_variables(exact, statistics)
    a, b = (m.eps_hat(variables, z, GAMMAS) for m in (exact, rounded))
    assert jnp.sqrt(jnp.mean((a - b) ** 2)) < 0.03 * jnp.sqrt(jnp.mean(a**2))
    assert jnp.max(jnp.abs(a - b)) > 0.0


@pytest.mark.parametrize("name", FACTORIES)
def test_an_image_does_not_depend_on_its_batch(name, statistics, batch):
    z = batch[2]
    model = build(name)
    variables = random_variables(model, statistics)
    together = model.eps_hat(variables, z, GAMMAS)
    alone = jnp.concatenate(
        [model.eps_hat(variables, z[i : i + 1], GAMMAS[i : i + 1]) for i in range(4)]
    )
    np.testing.assert_allclose(together, alone, atol=2e-4)


def test_space_to_depth_keeps_blocks_and_inverts():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    deep = space_to_depth(x, 2)
    assert deep.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(deep[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(depth_to_space(deep, 2), x)


def test_fourier_features_have_the_period_of_the_pixel_grid():
    x = process.pixels_to_unit(jnp.arange(256)).reshape(1, 16, 16, 1)
    features = fourier_features(x, (7,))
    assert features.shape == (1, 16, 16, 3)
    np.testing.assert_array_equal(features[..., :1], x)
    np.testing.assert_allclose(features[..., 1:], features[:, :1, :1, 1:] + 0 * x, atol=1e-3)


def test_sinusoids_tell_levels_apart():
    embedding = sinusoidal_embedding(jnp.linspace(0.0, 1.0, 1001), 32)
    assert embedding.shape == (1001, 32)
    steps = jnp.linalg.norm(embedding[1:] - embedding[:-1], axis=-1)
    assert jnp.all(steps > 0.3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "vdm",
            {"width": 18},
            "model.width: 18 is not a multiple of 4, the number of groups (model.groups)",
        ),
        (
            "vdm",
            {"width": 2, "groups": 1},
            "model.width: 2 must be at least 4",
        ),
        (
            "vdm",
            {"width": 15, "groups": 5},
            "model.width: 15 is not a multiple of 2, for as many sines as cosines of gamma",
        ),
        ("vdm", {"blocks": 0}, "model.blocks: 0 must be at least 1"),
        ("vdm", {"dropout": 1.0}, "model.dropout: 1.0 is not in [0, 1)"),
        (
            "vdm",
            {"dtype": "float16"},
            "model.dtype: unknown 'float16'; choose one of float32, bfloat16",
        ),
        (
            "vdm",
            {"gamma_range": (5.0, -13.0)},
            "model.gamma_range: (5.0, -13.0) must be two increasing numbers",
        ),
        (
            "unet",
            {"widths": (16, 30)},
            "model.widths: 30 is not a multiple of 4, the number of heads (model.heads)",
        ),
        (
            "unet",
            {"blocks": (1,)},
            "model.blocks: (1,) must have one entry for each of widths=(16, 32)",
        ),
        (
            "unet",
            {"image_shape": (16, 18, 3)},
            "data.image_size: 18 is not a multiple of 4, "
            "patches of model.patch=2 halved 1 times by model.widths",
        ),
        ("unet", {"dropout": -0.1}, "model.dropout: -0.1 is not in [0, 1)"),
    ],
)
def test_bad_fields_are_named(name, changes, message):
    with pytest.raises(UsageError) as error:
        build(name, **changes)
    assert str(error.value) == message


@pytest.mark.parametrize("size", [None, 8])
def test_statistics_of_other_images_are_refused(size):
    shape = None if size is None else (size, size, 3)
    wrong = None if size is None else {"variances": np.ones(shape)}
    with pytest.raises(UsageError) as error:
        unet_model(**SMALL["unet"]).init(jax.random.key(0), wrong)
    message = f"statistics: unet needs variances of shape (16, 16, 3), got {shape}"
    assert str(error.value) == message
