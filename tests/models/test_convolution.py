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


@pytest.mark.parametrize("shape", [(4, 4, 6, 2), (2, 16, 20, 33), (3, 6, 8, 40), (5, 12, 4, 7)])
def test_gradients_are_those_of_autodiff(shape):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (3, 3, shape[3], 34))
    grad = jax.random.normal(keys[2], (*shape[:3], 34))
    expected = jax.vjp(plain, x, kernel)[1](grad)
    found = jax.vjp(convolution.winograd, x, kernel)[1](grad)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def layers(features=40, **options):
    """Ours, Flax's, variables that both take, and an input."""
    ours = convolution.Conv(features, **options)
    x = jax.random.normal(jax.random.key(0), (2, 8, 16, 32))
    return ours, nn.Conv(features, (3, 3), **options), ours.init(jax.random.key(1), x), x


@pytest.mark.parametrize("options", [{}, {"kernel_init": nn.initializers.ones}])
def test_the_layer_starts_as_that_of_flax(options):
    _, theirs, variables, x = layers(**options)
    jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(jax.random.key(1), x))


def with_bias(variables):
    kernel = variables["params"]["kernel"]
    return {"params": {"kernel": kernel, "bias": jnp.arange(kernel.shape[-1]) / 10}}


@pytest.mark.usefixtures("one_device")
def test_one_cpu_takes_winograds_convolution():
    ours, theirs, variables, x = layers()
    found, expected = (layer.apply(with_bias(variables), x) for layer in (ours, theirs))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.any(found != expected)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("options", [{"features": 31}, {"dtype": jnp.bfloat16}])
def test_few_channels_and_half_precision_are_xlas(options):
    ours, theirs, variables, x = layers(**options)
    found, expected = (layer.apply(with_bias(variables), x) for layer in (ours, theirs))
    np.testing.assert_array_equal(found, expected)


def test_several_devices_leave_it_to_xla():
    assert jax.device_count() == 8
    ours, theirs, variables, x = layers()
    found, expected = (layer.apply(with_bias(variables), x) for layer in (ours, theirs))
    np.testing.assert_array_equal(found, expected)
    assert convolution.transformed_kernels(ours, variables["params"], x) == {}


@pytest.mark.usefixtures("one_device")
def test_kept_kernels_give_the_same_result():
    ours, _, variables, x = layers()
    kernels = convolution.transformed_kernels(ours, variables["params"], x[:1])
    kept = {**variables, convolution.KERNELS: kernels}
    np.testing.assert_allclose(ours.apply(kept, x), ours.apply(variables, x), atol=2e-6)
    doubled = {**kept, convolution.KERNELS: jax.tree.map(lambda k: 2 * k, kernels)}
    np.testing.assert_array_equal(ours.apply(doubled, x), 2 * ours.apply(kept, x))


@pytest.mark.parametrize(("n_devices", "is_winograds"), [(1, True), (8, False)])
def test_one_cpu_takes_winograds_gradient(n_devices, is_winograds, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: n_devices)
    calls = []
    gradient = convolution.kernel_gradient
    monkeypatch.setattr(
        convolution, "kernel_gradient", lambda *a: calls.append(a[0].shape) or gradient(*a)
    )
    ours, _, variables, x = layers()
    jax.grad(lambda v: ours.apply(v, x).sum())(variables)
    assert calls == ([x.shape] if is_winograds else [])
