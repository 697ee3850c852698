"""Scaled dot-product attention (Vaswani et al. 2017) as products of matrices, heads before positions.

`jax.nn.dot_product_attention` transposes the matrix of weights on CPUs, which takes twice as long. Its
gradient keeps that matrix, too, where this one computes it again (Dao et al. 2022): positions^2 numbers less.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


def attend(
    query: Float[Array, "b t n d"], key: Float[Array, "b t n d"], value: Float[Array, "b t n d"]
) -> Float[Array, "b t n d"]:
    """softmax(query key^T / sqrt(d)) value for t positions and n heads, in the type of `value`.

    The softmax is float32.
    """
    return _attend(*(x.swapaxes(1, 2) for x in (query, key, value))).swapaxes(1, 2)


@jax.custom_vjp
def _attend(query: Array, key: Array, value: Array) -> Array:
    return _forward(query, key, value)[0]


def _scores(query: Array, key: Array) -> Float32[Array, "*n t t"]:
    product = jnp.matmul(query, key.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    return product / math.sqrt(query.shape[-1])


def _forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = _scores(query, key)
    greatest = scores.max(-1, keepdims=True)
    unnormalised = jnp.exp(scores - greatest)
    total = unnormalised.sum(-1, keepdims=True)
    mixed = jnp.matmul(unnormalised.astype(value.dtype), value, preferred_element_type=jnp.float32)
    mixed = (mixed / total).astype(value.dtype)
    return mixed, (query, key, value, mixed, greatest + jnp.log(total))


def _backward(saved: tuple[Array, ...], grad: Array) -> tuple[Array, Array, Array]:
    query, key, value, mixed, log_total = saved
    weights = jnp.exp(_scores(query, key) - log_total)
    of_weights = jnp.matmul(grad, value.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    # The gradient of a softmax is orthogonal to it.
    mean = jnp.sum(grad.astype(jnp.float32) * mixed.astype(jnp.float32), -1, keepdims=True)
    of_scores = weights * (of_weights - mean) / math.sqrt(query.shape[-1])
    of_scores, weights = of_scores.astype(query.dtype), weights.astype(query.dtype)
    return (
        jnp.matmul(of_scores, key),
        jnp.matmul(of_scores.swapaxes(-1, -2), query),
        jnp.matmul(weights.swapaxes(-1, -2), grad),
    )


_attend.defvjp(_forward, _backward)
