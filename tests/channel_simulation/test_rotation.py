"""The random rotation: it can be undone, is the one of the reference, and spreads energy evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.channel_simulation.rotation import rotate, unrotate
from tests.support import reference_trellis as reference


def keys_of(number, first=0):
    return jnp.stack([jnp.full(number, 5), jnp.arange(first, first + number)], 1).astype(jnp.uint32)


@pytest.mark.parametrize("size", [1, 5, 16, 1000, 12288])
def test_rotation_keeps_inner_products_and_can_be_undone(size):
    vectors = jax.random.normal(jax.random.key(0), (3, size))
    keys = jnp.repeat(keys_of(1), 3, axis=0)
    rotated = rotate(keys, vectors)
    np.testing.assert_allclose(unrotate(keys, rotated), vectors, atol=3e-6)
    np.testing.assert_allclose(
        np.float64(rotated) @ np.float64(rotated).T,
        np.float64(vectors) @ np.float64(vectors).T,
        rtol=1e-5,
        atol=1e-3,
    )


@pytest.mark.parametrize("size", [1, 16, 100, 1000])
def test_inverse_is_that_of_the_reference(size):
    vectors = jax.random.normal(jax.random.key(1), (2, size))
    keys = keys_of(2)
    for key, vector, found in zip(keys, vectors, unrotate(keys, vectors), strict=True):
        expected = reference.unrotate(np.asarray(key), np.float64(vector))
        np.testing.assert_allclose(found, expected, atol=3e-6)


def test_map_depends_on_the_key():
    matrices = [rotate(jnp.repeat(keys_of(1, i), 100, axis=0), jnp.eye(100)) for i in range(2)]
    for matrix in matrices:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(100), atol=1e-6)
    assert not np.any(np.all(matrices[0] == matrices[1], axis=1))


@pytest.mark.parametrize("size", [1000, 12288])
def test_rotation_does_not_depend_on_the_batch(size):
    vectors = jax.random.normal(jax.random.key(0), (5, size))
    together = rotate(keys_of(5), vectors)
    for i in range(5):
        alone = rotate(keys_of(1, i), vectors[i : i + 1])[0]
        np.testing.assert_array_equal(alone, together[i])


def test_small_integers_are_unrotated_without_rounding():
    """At the size of an image: hence the sample of a path is the same in any order of additions."""
    labels = np.random.default_rng(0).integers(-64, 65, 12288)
    expected = reference.unrotate(np.array([5, 0], np.uint32), labels / 16)
    found = np.float64(unrotate(keys_of(1), jnp.asarray(labels / 16, jnp.float32)[None])[0])
    np.testing.assert_array_equal(found * 2**16, np.rint(expected * 2**16))


@pytest.mark.parametrize("size", [1000, 12288])
@pytest.mark.parametrize("kind", ["one coordinate", "last coordinate", "decaying", "constant"])
def test_rotation_spreads_energy_evenly(kind, size):
    """Nearly as evenly as a random direction, whose parts of n dimensions vary by sqrt(2 / n)."""
    parts, number = 8, 64
    vectors = np.ones((number, size))
    if kind == "one coordinate":
        vectors = np.eye(number, size)
    elif kind == "last coordinate":
        vectors = np.eye(1, size, size - 1).repeat(number, axis=0)
    elif kind == "decaying":
        vectors = (
            np.random.default_rng(0).normal(size=(number, size)) * np.arange(1, size + 1) ** -0.6
        )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rotated = np.asarray(rotate(keys_of(number), jnp.asarray(vectors, jnp.float32)))
    energy = parts * np.square(rotated).reshape(number, parts, -1).sum(axis=2)
    expected = np.sqrt(2 * parts / size * (1 - 1 / parts))
    assert np.std(energy) < 1.75 * expected
    np.testing.assert_allclose(energy.mean(axis=0), 1, atol=1.1 * expected)
    assert np.mean((rotated * np.sqrt(size)) ** 4) == pytest.approx(3, abs=0.15)
