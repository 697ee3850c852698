"""Attention and its gradient, against the library's and against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.models.attention import attend

SHAPE = (3, 24, 2, 8)  # images, positions, heads, channels


def inputs(scale=1.0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    return [(scale * jax.random.normal(key, SHAPE)).astype(dtype) for key in keys]


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_attention_and_gradient_are_those_of_the_library(scale):
    *qkv, grad = inputs(scale)
    found, pull = jax.vjp(attend, *qkv)
    expected, expected_pull = jax.vjp(jax.nn.dot_product_attention, *qkv)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)
    for ours, theirs in zip(pull(grad), expected_pull(grad), strict=True):
        largest = float(jnp.abs(theirs).max())
        assert largest > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * largest)


def test_scores_beyond_the_range_of_exp_are_fine():
    query, key, value, _ = inputs()
    result = attend(1e4 * query, key, value)
    best = jnp.argmax(jnp.einsum("btnd,bsnd->bnts", query, key), axis=-1)
    expected = jnp.take_along_axis(value, best.swapaxes(1, 2)[..., None], axis=1)
    np.testing.assert_allclose(result, expected, atol=1e-3)


def test_bfloat16_keeps_its_type_and_about_its_precision():
    *qkv, grad = inputs(dtype=jnp.bfloat16)
    exact, exact_pull = jax.vjp(attend, *(x.astype(jnp.float32) for x in qkv))
    found, pull = jax.vjp(attend, *qkv)
    pairs = [(found, exact), *zip(pull(grad), exact_pull(grad.astype(jnp.float32)), strict=True)]
    for ours, theirs in pairs:
        assert ours.dtype == jnp.bfloat16
        error = jnp.linalg.norm(ours.astype(jnp.float32) - theirs) / jnp.linalg.norm(theirs)
        assert 0 < float(error) < 0.01
