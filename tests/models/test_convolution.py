"""The convolution of networks against XLA's, and its gradients against autodiff."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.models import convolution


def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)


# Few and many images at once, in chunks that divide them and in one for each.
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (6, 32, 32, 64), (7, 16, 32, 128), (1, 1, 1, 3)])
def test_gradients_are_those_of_autodiff(shape):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (3, 3, shape[3], 4))
    grad = jax.random.normal(keys[2], (*shape[:3], 4))
    expected = jax.vjp(plain, x, kernel)[1](grad)
    found = jax.vjp(convolution._conv, x, kernel)[1](grad)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2},
        {"kernel_size": (1, 1)},
        {"padding": "VALID"},
        {"kernel_dilation": 2},
        {"feature_group_count": 2},
    ],
)
def test_layers_of_any_kind_are_those_of_flax(options):
    options = {"features": 4, "kernel_size": (3, 3)} | options
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 2))
    layer = nn.Conv(**options, conv_general_dilated=convolution.conv)
    variables = layer.init(jax.random.key(1), x)
    expected = nn.Conv(**options).apply(variables, x)
    np.testing.assert_array_equal(layer.apply(variables, x), expected)


def counted(monkeypatch):
    calls = []
    gradient = convolution.kernel_gradient
    monkeypatch.setattr(
        convolution, "kernel_gradient", lambda *a: calls.append(a[0].shape) or gradient(*a)
    )
    layer = nn.Conv(4, (3, 3), conv_general_dilated=convolution.conv)
    x = jnp.ones((2, 6, 6, 2))
    variables = layer.init(jax.random.key(1), x)
    jax.grad(lambda v: layer.apply(v, x).sum())(variables)
    return calls


@pytest.mark.usefixtures("one_device")
def test_one_cpu_takes_the_fast_gradient(monkeypatch):
    assert counted(monkeypatch) == [(2, 6, 6, 2)]


def test_several_devices_leave_it_to_xla(monkeypatch):
    assert jax.device_count() == 8
    assert counted(monkeypatch) == []


def test_sums_of_bfloat16_are_float32():
    keys = jax.random.split(jax.random.key(0), 2)
    x, grad = (jax.random.normal(key, (64, 32, 32, 16), jnp.bfloat16) + 1 for key in keys)
    found = convolution.kernel_gradient(x, grad)
    exact = convolution.kernel_gradient(*(a.astype(jnp.float32) for a in (x, grad)))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2**-8)
