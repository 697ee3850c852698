"""LPIPS against the PyTorch package, side by side (extra `[parity]`)."""

import importlib.util

import jax
import numpy as np
import pytest

from diffc_jax.metrics.features.numpy_pickles import read_numpy_pickle
from diffc_jax.metrics.lpips import ALEX_WEIGHTS, VGG_WEIGHTS, lpips_alex, lpips_vgg
from tests.support.torch_peers import import_torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lpips") is None,
    reason="parity of LPIPS needs the packages torch, torchvision and lpips",
)


def packaged(net, weights, backbone):
    """The package's network with its own heads, and the backbone of the file that we read."""
    torch = import_torch()
    import lpips

    network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    layers = read_numpy_pickle(weights.locate())[backbone]
    convolutions = [layer for layer in network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(layers) == len(convolutions)
    with torch.no_grad():
        for index, convolution in enumerate(convolutions):
            kernel, bias = (np.array(layers[f"Conv_{index}"][part]) for part in ("kernel", "bias"))
            convolution.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
            convolution.bias.copy_(torch.from_numpy(bias))
    return network


@pytest.mark.parametrize(
    ("net", "ours", "weights", "backbone"),
    [
        ("alex", lpips_alex, ALEX_WEIGHTS, "AlexNet_0"),
        ("vgg", lpips_vgg, VGG_WEIGHTS, "VGG16_0"),
    ],
)
def test_distances_and_gradients_are_those_of_the_package(net, ours, weights, backbone):
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 4, 64, 64, 3)).astype(np.float32)
    torch, theirs = import_torch(), packaged(net, weights, backbone)
    left, right = (torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) for images in (x, y))
    left.requires_grad_()
    expected = theirs(left, right)
    expected.sum().backward()
    metric = ours()

    def total(x, y):
        distances = metric.distance(metric.variables, x, y)
        return distances.sum(), distances

    gradient, distances = jax.grad(total, has_aux=True)(x, y)
    np.testing.assert_allclose(distances, expected.detach().numpy().ravel(), rtol=1e-5)
    their_gradient = left.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, their_gradient, atol=1e-5 * np.abs(their_gradient).max())
