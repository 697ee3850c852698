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
    shapes = jax.eval_shape(lambda key: model.init(key, None)["params"], jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape, np.float32), shapes)
    z = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
    gamma = jnp.asarray([-8.0, 2.0])
    expected = jax.jit(one_after_the_other)(params, z, gamma)
    found = jax.jit(model.eps_hat)({"params": params}, z, gamma)
    np.testing.assert_allclose(
        found, expected, rtol=1e-3, atol=1e-3 * float(jnp.abs(expected).max())
    )
    assert float(jnp.abs(expected - z).max()) > 0.1


@pytest.mark.parametrize("remat", [False, True])
def test_blocks_of_a_loop_drop_different_activations(remat):
    """The same block in two places among blocks that hand on their input does the same, but for its mask."""
    model = vdm_model(
        (8, 8, 3), blocks=BLOCKS, width=WIDTH, groups=GROUPS, dropout=0.5, remat=remat
    )
    z = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    gamma = jnp.asarray([-8.0, 2.0])
    idle = jax.jit(lambda key: model.init(key, None)["params"])(jax.random.key(0))
    idle["head"]["kernel"] = jax.random.normal(jax.random.key(2), idle["head"]["kernel"].shape)
    for i in range(BLOCKS + 1):
        idle[f"up_{i}"]["Dense_1"]["kernel"] = jnp.eye(2 * WIDTH, WIDTH)  # without the skip
    eps_hat, train_eps_hat = jax.jit(model.eps_hat), jax.jit(model.train_eps_hat)

    for here, there in (("down_0", "down_2"), ("up_0", "up_2")):
        kernel = jax.random.normal(jax.random.key(3), idle[here]["Conv_1"]["kernel"].shape)
        active = idle[here] | {"Conv_1": idle[here]["Conv_1"] | {"kernel": kernel}}
        placed = [{"params": idle | {name: active}} for name in (here, there)]
        whole = [eps_hat(variables, z, gamma) for variables in placed]
        np.testing.assert_allclose(whole[0], whole[1], rtol=1e-4, atol=1e-4)
        first, same = (train_eps_hat(placed[0], z, gamma, jax.random.key(4)) for _ in range(2))
        np.testing.assert_array_equal(first, same)
        elsewhere = train_eps_hat(placed[1], z, gamma, jax.random.key(4))
        other_key = train_eps_hat(placed[0], z, gamma, jax.random.key(5))
        for other in (whole[0], elsewhere, other_key):
            assert float(jnp.abs(first - other).max()) > 0.1
