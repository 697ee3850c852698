"""Precision, recall, density and coverage: definitions, sets whose values are known, refusals."""

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.metrics import statistics
from diffc_jax.metrics.manifolds import ManifoldReference


def by_definition(images, reference):
    """The four numbers from all distances, without blocks or squares."""

    def distances(a, b):
        return np.linalg.norm(a[:, None] - b, axis=2)

    def radii(z, k):
        return np.sort(distances(z, z), axis=1)[:, k]  # the nearest is the image itself

    across = distances(images, reference)
    counted = across <= radii(reference, 5)
    return {
        "precision": (across <= radii(reference, 3)).any(1).mean(),
        "recall": (across <= radii(images, 3)[:, None]).any(0).mean(),
        "density": counted.sum() / (5 * len(images)),
        "coverage": counted.any(0).mean(),
    }


@pytest.mark.parametrize("block", [7, 4096])
def test_values_are_those_of_the_definitions(monkeypatch, block):
    monkeypatch.setattr(statistics, "_BLOCK", block)
    generator = np.random.default_rng(0)
    reference = 100.0 + generator.normal(size=(60, 3))
    images = 100.2 + 0.8 * generator.normal(size=(50, 3))
    found = vars(ManifoldReference(reference).overlap(images))
    for name, value in by_definition(images, reference).items():
        assert found[name].value == pytest.approx(value, rel=1e-12)
        assert 0 < value < 2
    precision = found["precision"].value
    binomial = np.sqrt(precision * (1 - precision) / 49)
    assert found["precision"].stderr == pytest.approx(binomial, rel=1e-9)


def test_values_do_not_depend_on_the_origin():
    """Squares of distances from an origin that is far away would leave no digits for neighbours."""
    generator = np.random.default_rng(0)
    reference, images = generator.normal(size=(60, 3)), 0.8 * generator.normal(size=(50, 3))
    near = ManifoldReference(reference).overlap(images)
    far = ManifoldReference(reference + 1e8).overlap(images + 1e8)
    for name, estimate in vars(near).items():
        assert vars(far)[name].value == estimate.value


def test_a_set_and_itself():
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    found = ManifoldReference(x).overlap(x)
    assert found.precision.value == found.recall.value == found.coverage.value == 1.0
    # Each ball holds its centre and, by definition, its five nearest neighbours.
    assert found.density.value == pytest.approx(6 / 5)


def test_independent_sets_of_one_source():
    """Naeem et al.: expected density 1, expected coverage about 1 - 2^-5."""
    generator = np.random.default_rng(1)
    found = ManifoldReference(generator.normal(size=(2000, 2))).overlap(
        generator.normal(size=(2000, 2))
    )
    assert found.density.value == pytest.approx(1.0, abs=0.05)
    assert found.coverage.value == pytest.approx(1 - 2**-5, abs=0.02)


def test_lost_variety_is_low_recall_and_noise_is_low_precision():
    generator = np.random.default_rng(2)
    reference = ManifoldReference(generator.normal(size=(500, 8)))
    narrow = reference.overlap(0.3 * generator.normal(size=(500, 8)))
    wide = reference.overlap(3.0 * generator.normal(size=(500, 8)))
    assert narrow.precision.value > 0.95 > 0.3 > narrow.recall.value
    assert wide.precision.value < 0.3 < 0.95 < wide.recall.value
    far = reference.overlap(100.0 + generator.normal(size=(500, 8)))
    assert [estimate.value for estimate in vars(far).values()] == [0.0] * 4


def test_refusals():
    with pytest.raises(InputError) as error:
        ManifoldReference(np.zeros((5, 2)))
    assert str(error.value) == (
        "precision and recall: the reference set has 5 images and needs at least 6"
    )
    reference = ManifoldReference(np.eye(6))
    with pytest.raises(InputError) as error:
        reference.overlap(np.eye(6)[:5])
    assert str(error.value) == (
        "precision and recall: the image set has 5 images and needs at least 6"
    )
    with pytest.raises(InputError) as error:
        reference.overlap(np.zeros((6, 2)))
    assert str(error.value) == (
        "precision and recall: the images have 2 features, the reference 6; use the same feature "
        "network for both"
    )
