"""The blocks of the VDM network run as a loop; the result is that of the blocks one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.models.layers import GAMMA_RANGE, GammaEmbedding, SelfAttention, normalised_gamma
from diffc_jax.models.vdm import ResidualBlock, fourier_features, vdm_model

BLOCKS, WIDTH, GROUPS = 3, 8, 4


def one_after_the_other(params, z, gamma):
    """The network as a list of layers, without loops."""

    def layer(module, name, *inputs):
        return module.apply({"params": params[name]}, *inputs)

    def block(x, name):
        return layer(ResidualBlock(WIDTH, GROUPS, 0.0, jnp.float32), name, x, embedding, False)

    def convolve(x, name):
        kernel = jax.lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return kernel + params[name]["bias"].reshape(1, 1, 1, -1)

    def normalise(x, name):
        grouped = x.reshape(*x.shape[:3], GROUPS, -1)
        mean = grouped.mean((1, 2, 4), keepdims=True)
        deviation = jnp.sqrt(grouped.var((1, 2, 4), keepdims=True) + 1e-6)
        y = ((grouped - mean) / deviation).reshape(x.shape)
        return y * params[name]["scale"].reshape(1, 1, 1, -1) + params[name]["bias"].reshape(
            1, 1, 1, -1
        )

    embedding = layer(
        GammaEmbedding(WIDTH, 4 * WIDTH), "GammaEmbedding_0", normalised_gamma(gamma, GAMMA_RANGE)
    )
    x = convolve(fourier_features(z, (6, 7)), "stem")
    skips = [x]
    for i in range(BLOCKS):
        x = block(x, f"down_{i}")
        skips.append(x)
    x = block(x, "middle_0")
    x = x + layer(SelfAttention(heads=1), "SelfAttention_0", normalise(x, "GroupNorm_0"))
    x = block(x, "middle_1")
    for i in range(BLOCKS + 1):
        x = block(jnp.concatenate([x, skips.pop()], axis=-1), f"up_{i}")
    return z + convolve(jax.nn.swish(normalise(x, "GroupNorm_1")), "head")


@pytest.mark.parametrize("remat", [False, True])
def test_loop_is_the_blocks_one_after_the_other(remat):
    model = vdm_model((8, 8, 3), blocks=BLOCKS, width=WIDTH, groups=GROUPS, remat=remat)
    params = model.init(jax.random.key(0), None)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = jax.tree.unflatten(
        tree, [0.3 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )
    z = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
    gamma = jnp.asarray([-8.0, 2.0])
    expected = jax.jit(one_after_the_other)(params, z, gamma)
    found = jax.jit(model.eps_hat)({"params": params}, z, gamma)
    np.testing.assert_allclose(
        found, expected, rtol=1e-3, atol=1e-3 * float(jnp.abs(expected).max())
    )
    assert float(jnp.abs(expected - z).max()) > 0.1

    # Dropout draws other masks in every block, the same for the same key.
    train_eps_hat = jax.jit(model.train_eps_hat)
    train = [
        train_eps_hat({"params": params}, z, gamma, jax.random.key(seed)) for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(train[0], train[1])
    assert float(jnp.abs(train[0] - train[2]).max()) > 1e-3
