"""The network of diffusers against the library itself (extra `[parity]`)."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.diffusers_converted import get_config
from diffc_jax.errors import UsageError
from diffc_jax.models import build_model
from diffc_jax.models.diffusers_unet import diffusers_unet_model
from diffc_jax.models.discrete_time import index_gammas
from diffc_jax.runtime.torch_layout import from_state_dict, torch_shapes
from tests.support.diffusers import FIELDS, SIDE, UNETS
from tests.support.improved_diffusion import random_state_dict

needs_diffusers = pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None, reason="parity needs the package diffusers"
)
TIMES = (2, 613)
# Some outputs of `library` with diffusers 0.42.1 and torch 2.13.0.
STORED = {
    "ddpm": (
        *(-0.456351, 0.127057, -0.548381, 0.076880, -0.658035, 0.798823, -1.137133, 0.044187),
        *(-0.706241, -0.338659, 0.162570, 0.074397, -1.503547, 0.791533, -1.145813, 0.411875),
    ),
    "tutorial": (
        *(-0.381225, 0.120865, -0.852660, -0.498141, -0.414332, 0.054313, 0.500593, 0.784988),
        *(-1.117375, 0.130552, -0.860492, -0.801107, -1.110030, -0.164736, -0.659104, 0.029478),
    ),
}


def template(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]


def shapes(kind):
    found = torch_shapes(template(diffusers_unet_model((SIDE, SIDE, 3), **FIELDS[kind])))
    return {name: found[name] for name in sorted(found)}


def images():
    return np.random.default_rng(1).standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)


@functools.cache
def eps_hat(kind):
    """Our model's answer where its network sees `images` at TIMES."""
    model = diffusers_unet_model((SIDE, SIDE, 3), **FIELDS[kind])
    params = from_state_dict(random_state_dict(shapes(kind)), template(model))
    theirs = index_gammas("linear", 1000, 1e-4, 0.02)[list(TIMES)]
    # sigma / alpha is larger by 256/255 for their pixels.
    gamma = theirs - 2 * np.log(256 / 255)
    scale = np.sqrt((1 + np.exp(-theirs)) / (1 + np.exp(-gamma)))
    z = images() * scale.astype(np.float32).reshape(2, 1, 1, 1)
    gamma = jnp.asarray(gamma, jnp.float32)
    return jax.jit(model.eps_hat)({"params": params}, z, gamma)


def library(kind):
    """What the library makes of `images` at TIMES, with the same weights."""
    import torch
    from diffusers import UNet2DModel

    network = UNet2DModel(**UNETS[kind])
    weights = random_state_dict(shapes(kind))
    network.load_state_dict({name: torch.from_numpy(one) for name, one in weights.items()})
    channel_first = torch.from_numpy(np.ascontiguousarray(images().transpose(0, 3, 1, 2)))
    with torch.no_grad():
        found = network.eval()(channel_first, torch.tensor(TIMES)).sample
    return found.numpy().transpose(0, 2, 3, 1)[..., :3]


def some(outputs):
    return np.asarray(outputs)[:, 3::8, 5::8, ::2].ravel()


@needs_diffusers
@pytest.mark.parametrize("kind", UNETS)
def test_eps_hat_is_the_output_of_the_library(kind):
    expected = library(kind)
    assert 0.3 < expected.std() < 3.0
    np.testing.assert_allclose(eps_hat(kind), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(some(expected), STORED[kind], rtol=0, atol=1e-5)


@needs_diffusers
@pytest.mark.parametrize(
    ("betas", "name"),
    [("linear", "linear"), ("squaredcos_cap_v2", "cosine"), ("sigmoid", "sigmoid")],
)
def test_noise_levels_are_those_of_the_scheduler(betas, name):
    from diffusers import DDPMScheduler

    signal = DDPMScheduler(beta_schedule=betas).alphas_cumprod.double().numpy()
    gammas = index_gammas(name, 1000, 1e-4, 0.02)
    np.testing.assert_allclose(gammas, np.log1p(-signal) - np.log(signal), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", UNETS)
def test_eps_hat_as_the_library_computed_it(kind):
    np.testing.assert_allclose(some(eps_hat(kind)), STORED[kind], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("argument", "size", "count"), [("", 32, 35_746_307), ("256", 256, 113_673_219)]
)
def test_configs_have_the_parameters_of_the_checkpoints(argument, size, count):
    config = get_config(argument)
    assert config.data.image_size == size
    leaves = jax.tree.leaves(template(build_model(config.model.to_dict(), (size, size, 3))))
    assert sum(leaf.size for leaf in leaves) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (32, 48)}, "widths: 48 is not a multiple of 32, the number of groups"),
        ({"head_channels": 24}, "widths: 32 is not a multiple of 24, the channels of a head"),
        ({"widths": ()}, "widths: 0 must be at least 1"),
        ({"widths": (32,) * 6}, "image_size: 16 is not a multiple of 32, halved 5 times"),
        ({"attention": (8, 4)}, "attention: no level is 4 high; they are 16, 8"),
        ({"epsilon": 0.0}, "epsilon: 0.0 is not inside (0, 1)"),
        ({"prediction": "noise"}, "prediction: unknown 'noise'; choose one of eps, v, x"),
        ({"betas": "laplace"}, "betas: unknown 'laplace'; choose one of linear,"),
    ],
)
def test_bad_fields_are_named(changes, message):
    with pytest.raises(UsageError) as error:
        diffusers_unet_model((SIDE, SIDE, 3), **{**FIELDS["ddpm"], **changes})
    group = "data" if message.startswith("image_size") else "model"
    assert str(error.value).startswith(f"{group}.{message}")
