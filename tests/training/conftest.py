"""A batch of images for tests of single updates."""

import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def pixels():
    """16 images of 2x2 pixels."""
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (16, 2, 2, 3)), jnp.uint8)
