"""The network of guided-diffusion against outputs of the project's own code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.imagenet256_converted import get_config
from diffc_jax.conversion.openai import params_from_torch
from diffc_jax.errors import UsageError
from diffc_jax.models import build_model
from diffc_jax.models.discrete_time import index_gammas
from diffc_jax.models.guided_diffusion import guided_diffusion_model
from tests.support.improved_diffusion import SIDE, SMALL, random_state_dict, torch_shapes
from tests.support.refusals import fails

TIMES = (2, 613)
# Of its UNetModel at commit 22e0df8 with torch 2.13.0, for the old and the new order of its attention.
STORED = {
    False: (
        *(-0.641516, -0.535096, -1.528269, -1.228615, -0.945234, -0.113186, -0.458040, -1.317710),
        *(-0.785705, -0.250645, -1.480927, -1.789128, -1.062757, -1.058940, -0.947636, -1.129039),
    ),
    True: (
        *(-0.492173, -0.329872, -1.435312, -0.866329, -0.504488, 0.066373, -0.182063, -1.472530),
        *(-0.885744, -0.185669, -1.807117, -1.929414, -1.178290, -1.035960, -0.635117, -0.843412),
    ),
}


def template(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]


@pytest.mark.parametrize("heads_last", STORED)
def test_eps_hat_is_that_of_the_project(heads_last):
    model = guided_diffusion_model(
        (SIDE, SIDE, 3), head_channels=16, heads_last=heads_last, **SMALL
    )
    state_dict = random_state_dict(torch_shapes(side=SIDE, resampling_blocks=True, **SMALL))
    params = params_from_torch(state_dict, template(model))
    theirs = index_gammas("linear", 1000, 1e-4, 0.02)[list(TIMES)]
    # sigma / alpha is larger by 256/255 for their pixels.
    gamma = theirs - 2 * np.log(256 / 255)
    scale = np.sqrt((1 + np.exp(-theirs)) / (1 + np.exp(-gamma)))
    images = np.random.default_rng(1).standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)
    z = images * scale.astype(np.float32).reshape(2, 1, 1, 1)
    found = jax.jit(model.eps_hat)({"params": params}, z, jnp.asarray(gamma, jnp.float32))
    np.testing.assert_allclose(
        found[:, 3::8, 5::8, ::2].ravel(), STORED[heads_last], rtol=0, atol=1e-4
    )


def test_config_has_the_parameters_of_the_checkpoint():
    leaves = jax.tree.leaves(template(build_model(get_config().model.to_dict(), (256, 256, 3))))
    assert sum(leaf.size for leaf in leaves) == 552_814_086


def test_heads_divide_the_channels():
    fails(
        UsageError,
        "model.width: 32 is not a multiple of 24, the channels of a head",
        lambda: guided_diffusion_model((SIDE, SIDE, 3), head_channels=24, **SMALL),
    )


def test_attention_is_at_heights_that_levels_have():
    fails(
        UsageError,
        "model.attention: no level is 4 high; they are 16, 8",
        lambda: guided_diffusion_model(
            (SIDE, SIDE, 3), head_channels=16, **{**SMALL, "attention": (8, 4)}
        ),
    )
