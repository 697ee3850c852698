"""A stand-in for the feature networks of Fréchet distances, which have tests of their own and take time."""

import jax.numpy as jnp
import numpy as np

from diffc_jax.metrics.features.extract import FeatureNetwork


def small_network(side: int, dimension: int) -> FeatureNetwork:
    """Random features of images of `side` pixels, in cells of 4; it has the default network's name."""
    cells = side // 4
    weights = np.random.default_rng(1).normal(size=(cells * cells * 3, dimension))

    def apply(variables, images):
        unit = images.astype(jnp.float32) / 255
        pooled = unit.reshape(len(images), cells, 4, cells, 4, 3).mean((2, 4))
        return jnp.tanh(pooled.reshape(len(images), -1) @ variables["weights"] / 4)

    variables = {"weights": weights.astype(np.float32)}
    return FeatureNetwork("efficientnet_lite0", dimension, apply, variables)
