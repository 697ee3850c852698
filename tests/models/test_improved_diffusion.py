"""The network of improved-diffusion against its specification, written down once more in plain layers."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.imagenet64_converted import get_config
from diffc_jax.conversion.openai import params_from_torch
from diffc_jax.errors import UsageError
from diffc_jax.models import build_model
from diffc_jax.models.discrete_time import to_their_pixels
from diffc_jax.models.improved_diffusion import (
    ImprovedDiffusionUNet,
    improved_diffusion_model,
    network_time,
)
from tests.support.improved_diffusion import (
    HEADS,
    SIDE,
    SMALL,
    program,
    random_state_dict,
    run_in_torch,
    torch_shapes,
    write_pt,
)

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="parity of the U-Net needs the package torch"
)

IMAGENET64 = {"width": 128, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (16, 8)}


@pytest.fixture(scope="module")
def state_dict():
    return random_state_dict(torch_shapes(side=SIDE, **SMALL))


@pytest.fixture(scope="module")
def params(state_dict):
    return params_from_torch(
        state_dict, template(improved_diffusion_model((SIDE, SIDE, 3), **SMALL))
    )


def template(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]


def test_imagenet64_has_the_parameters_of_the_checkpoints():
    shapes = torch_shapes(side=64, **IMAGENET64)
    assert sum(map(math.prod, shapes.values())) == 121_063_942
    leaves = jax.tree.leaves(template(build_model(get_config().model.to_dict(), (64, 64, 3))))
    assert sum(leaf.size for leaf in leaves) == 121_063_942


def images_and_times():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)
    return y, np.array([2.75, 613.5], np.float32)


@pytest.fixture(scope="module")
def outputs(params):
    network = ImprovedDiffusionUNet(outputs=6, heads=HEADS, dtype=jnp.float32, **SMALL)
    return np.asarray(jax.jit(network.apply)({"params": params}, *images_and_times()))


@needs_torch
def test_outputs_are_those_of_the_specification_in_torch(state_dict, outputs):
    expected = run_in_torch(program(side=SIDE, **SMALL), state_dict, *images_and_times())
    assert 0.3 < expected.std() < 3.0
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)


# Some outputs of two images as `run_in_torch` computed them with torch 2.13.0.
TORCH_OUTPUTS = np.array(
    [
        *(0.761518, 0.185212, 0.335125, -1.448054, 0.357054, 0.047849, 0.181549, -0.356517),
        *(-1.514566, -0.498646, 0.187901, -0.722803, -0.803815, -1.405829, -0.400684, -2.051734),
    ]
)


def test_outputs_as_torch_computed_them(outputs):
    np.testing.assert_allclose(
        outputs[:, 3::8, 5::8, ::5].ravel(), TORCH_OUTPUTS, rtol=0, atol=1e-4
    )


@needs_torch
def test_torch_outputs_are_current(state_dict):
    found = run_in_torch(program(side=SIDE, **SMALL), state_dict, *images_and_times())
    np.testing.assert_allclose(found[:, 3::8, 5::8, ::5].ravel(), TORCH_OUTPUTS, rtol=0, atol=1e-5)


@needs_torch
def test_torch_reads_the_archive_of_these_tests(state_dict, tmp_path):
    import torch

    ours = write_pt(tmp_path / "ours.pt", state_dict)
    loaded = torch.load(ours, weights_only=True)
    assert list(loaded) == list(state_dict)
    assert all(np.array_equal(loaded[name], value) for name, value in state_dict.items())


def test_time_is_that_of_every_index_of_the_discrete_schedule():
    """Betas from decreases of a squared cosine, capped; noise levels from their running product."""
    steps = 4000
    angles = (np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2
    betas = np.minimum(1 - np.cos(angles[1:]) ** 2 / np.cos(angles[:-1]) ** 2, 0.999)
    assert (betas == 0.999).sum() == 1
    signal = np.cumprod(1 - betas)
    gamma = np.log1p(-signal) - np.log(signal)
    np.testing.assert_allclose(gamma[[0, -2, -1]], [-11.5264, 15.7007, 22.6085], atol=1e-4)
    time = np.asarray(network_time(jnp.asarray(gamma, jnp.float32)))
    expected = np.arange(steps) / 4
    np.testing.assert_allclose(time[:-1], expected[:-1], rtol=0, atol=5e-4)
    np.testing.assert_allclose(time[-1], expected[-1] - 0.008, rtol=0, atol=5e-4)


def test_time_stays_within_the_indices():
    time = network_time(jnp.array([-40.0, -11.54, -11.5, 40.0]))
    np.testing.assert_array_equal(time[jnp.array([0, 1, 3])], [0.0, 0.0, 999.75])
    assert 0.0 < time[2] < 0.25
    _, least = to_their_pixels(
        jnp.zeros((1, SIDE, SIDE, 3)), jnp.array([get_config().schedule.gamma_min])
    )
    assert 0.0 < network_time(least)[0] < 0.1


def test_eps_hat_is_the_first_half_of_the_outputs(params, outputs):
    """The model at the z and gamma that become the image and the time of `outputs`."""
    y, time = images_and_times()
    tau = (time.astype(np.float64) + 0.25) / 1000
    angles = (np.array([*tau, 0.0]) + 0.008) / 1.008 * np.pi / 2
    signal = np.cos(angles[:2]) ** 2 / np.cos(angles[2]) ** 2
    ratio = (1 - signal) / signal * (255 / 256) ** 2
    scale = np.sqrt(ratio / (1 + ratio) / (1 - signal))
    z = (y * scale[:, None, None, None]).astype(np.float32)
    model = improved_diffusion_model((SIDE, SIDE, 3), **SMALL)
    gamma = jnp.asarray(np.log(ratio), jnp.float32)
    eps = jax.jit(model.eps_hat)({"params": params}, jnp.asarray(z), gamma)
    np.testing.assert_allclose(eps, outputs[..., :3], rtol=0, atol=1e-3)


def test_bfloat16_is_close_to_float32(params, outputs):
    network = ImprovedDiffusionUNet(outputs=6, heads=HEADS, dtype=jnp.bfloat16, **SMALL)
    rounded = jax.jit(network.apply)({"params": params}, *images_and_times())
    assert rounded.dtype == jnp.float32
    assert 0.0 < jnp.std(rounded - outputs) < 0.03 * jnp.std(outputs)


def test_it_starts_from_zero():
    model = improved_diffusion_model((SIDE, SIDE, 3), **SMALL)
    head = jax.jit(lambda key: model.init(key, None)["params"]["out.2"])(jax.random.key(0))
    assert not any(jnp.any(leaf) for leaf in head.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48}, "width: 48 is not a multiple of 32, the number of groups of the norms"),
        ({"heads": 5}, "width: 32 is not a multiple of 5, the number of heads (model.heads)"),
        ({"multipliers": ()}, "multipliers: 0 must be at least 1"),
        (
            {"multipliers": (1,) * 6},
            "image_size: 16 is not a multiple of 32, halved 5 times by the levels",
        ),
        ({"attention": (8, 4)}, "attention: no level is 4 high; they are 16, 8"),
        ({"dtype": "half"}, "dtype: unknown 'half'; choose one of float32, bfloat16"),
    ],
)
def test_bad_fields_are_named(changes, message):
    with pytest.raises(UsageError) as error:
        improved_diffusion_model((SIDE, SIDE, 3), **{**SMALL, **changes})
    group = "data" if message.startswith("image_size") else "model"
    assert str(error.value) == f"{group}.{message}"
