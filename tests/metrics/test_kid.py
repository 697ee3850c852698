"""The kernel distance: sums over pairs, known Gaussians, no bias, and standard errors that are true."""

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.metrics import kid, statistics
from diffc_jax.metrics.kid import KernelReference


def kernel(u, v):
    return (u @ v / len(u) + 1) ** 3


def mean_of_pairs(x, y, *, different):
    pairs = ((i, j) for i in range(len(x)) for j in range(len(y)) if not different or i != j)
    return np.mean([kernel(x[i], y[j]) for i, j in pairs])


def by_pairs(x, y, *, paired):
    within = sum(mean_of_pairs(z, z, different=True) for z in (x, y))
    return within - 2 * mean_of_pairs(x, y, different=paired)


def test_squared_mmd_is_the_sum_over_pairs():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(5, 3)), generator.normal(size=(4, 3)) + 0.3
    assert kid.squared_mmd(x, y) == pytest.approx(by_pairs(x, y, paired=False), rel=1e-12)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("block", [7, 4096])
def test_value_and_jackknife_are_those_of_sums_over_pairs(monkeypatch, paired, block):
    """With every image left out in turn: the definition of the jackknife."""
    monkeypatch.setattr(statistics, "_BLOCK", block)
    generator = np.random.default_rng(1)
    y = generator.normal(size=(20 if paired else 22, 3))
    x = 0.5 * y[:20] + generator.normal(size=(20, 3))
    found = KernelReference(y, paired=paired).distance(x)
    assert found.value == pytest.approx(by_pairs(x, y, paired=paired), rel=1e-10)

    def spread(values):
        return (len(values) - 1) * np.mean(np.square(values - np.mean(values)))

    def without(z, i):
        return np.delete(z, i, axis=0)

    if paired:
        pairs = [by_pairs(without(x, i), without(y, i), paired=True) for i in range(20)]
        variance = spread(pairs)
    else:
        images = [by_pairs(without(x, i), y, paired=False) for i in range(20)]
        references = [by_pairs(x, without(y, j), paired=False) for j in range(22)]
        variance = spread(images) + spread(references)
    assert found.stderr == pytest.approx(np.sqrt(variance), rel=1e-9)


def expected_kernel(a, b):
    """E (x.y / d + 1)^3 of x ~ N(a, I) and y ~ N(b, I)."""
    d, ab, aa, bb = len(a), a @ b, a @ a, b @ b
    square, cube = ab**2 + aa + bb + d, ab**3 + 3 * ab * (aa + bb + d + 2)
    return 1 + 3 * ab / d + 3 * square / d**2 + cube / d**3


SHIFT, ZERO = np.full(6, 0.5), np.zeros(6)
SHIFTED = expected_kernel(SHIFT, SHIFT) + expected_kernel(ZERO, ZERO)
SHIFTED -= 2 * expected_kernel(SHIFT, ZERO)


@pytest.mark.parametrize("paired", [False, True])
def test_known_gaussians_lie_in_the_intervals_as_often_as_they_should(paired):
    """95 % intervals of sets of 100, whose images are independent or have much in common with theirs."""
    generator = np.random.default_rng(2)
    found = []
    for _ in range(300):
        y, noise = generator.normal(size=(2, 100, 6))
        x = (0.8 * y + 0.6 * noise if paired else noise) + SHIFT
        found.append(KernelReference(y, paired=paired).distance(x))
    values = np.array([one.value for one in found])
    errors = np.array([one.stderr for one in found])
    assert abs(values.mean() - SHIFTED) < 4 * values.std() / np.sqrt(300)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.12)
    inside = np.mean(np.abs(values - SHIFTED) < 1.96 * errors)
    assert 0.91 <= inside <= 0.985  # three binomial errors


def test_bootstrapped_pairs_would_be_biased():
    """Why there is no bootstrap: repeated images look like a distance."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 60, 5))
    value = kid.squared_mmd(x, y)
    again = [
        kid.squared_mmd(x[generator.integers(0, 60, 60)], y[generator.integers(0, 60, 60)])
        for _ in range(200)
    ]
    assert np.mean(again) - value > 4 * np.std(again) / np.sqrt(200)


@pytest.mark.parametrize("paired", [False, True])
def test_two_sets_of_one_source(paired):
    """No bias, of either sign, and an error that is rather too large: by up to the root of two."""
    generator = np.random.default_rng(1)
    found = [
        KernelReference(y, paired=paired).distance(x)
        for x, y in (generator.normal(size=(2, 60, 5)) for _ in range(300))
    ]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(300)
    assert 0.3 < np.mean(values < 0) < 0.75
    assert 0.95 < np.sqrt(np.mean([one.stderr**2 for one in found])) / values.std() < 1.6


def test_paired_images_have_the_smaller_error():
    generator = np.random.default_rng(4)
    y = generator.normal(size=(500, 8))
    x = 0.9 * y + 0.1 * generator.normal(size=(500, 8)) + 0.5
    pairs, sets = (KernelReference(y, paired=paired).distance(x) for paired in (True, False))
    assert pairs.stderr < 0.5 * sets.stderr
    assert abs(pairs.value - sets.value) < 4 * sets.stderr


def test_distance_to_itself():
    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    found = KernelReference(x, paired=True).distance(x)
    assert abs(found.value) < 1e-12
    assert found.stderr < 1e-12


def test_differences_have_the_error_of_their_own():
    """Two sets against one reference: what the reference adds to both falls out."""
    generator = np.random.default_rng(5)
    y, x = generator.normal(size=(100, 3)), generator.normal(size=(80, 3)) + 1.0
    reference = KernelReference(y)
    first, second = reference.distance(x), reference.distance(x + 0.01)
    difference = first - second
    assert difference.value == first.value - second.value
    assert difference.stderr < 0.1 * first.stderr
    assert (first - first).stderr == 0.0


def test_refusals():
    with pytest.raises(InputError) as error:
        KernelReference(np.zeros((19, 2)))
    assert str(error.value) == "KID: needs at least 20 images in both sets, and one has 19"
    with pytest.raises(InputError) as error:
        KernelReference(np.zeros((20, 2))).distance(np.zeros((19, 2)))
    assert str(error.value) == "KID: needs at least 20 images in both sets, and one has 19"
    with pytest.raises(InputError) as error:
        KernelReference(np.zeros((20, 3))).distance(np.zeros((20, 2)))
    assert str(error.value) == (
        "KID: the images have 2 features, the reference 3; use the same feature network for both"
    )
    for images, references in ((21, 20), (20, 21)):
        with pytest.raises(InputError) as error:
            KernelReference(np.zeros((references, 3)), paired=True).distance(np.zeros((images, 3)))
        assert (
            str(error.value) == f"KID: {images} images cannot be pairs with {references} references"
        )
