"""Distances between sets of features: closed forms, other implementations, invariances, refusals."""

import logging

import numpy as np
import pytest
import scipy.linalg

from diffc_jax.errors import InputError
from diffc_jax.metrics import kid
from diffc_jax.metrics.frechet import FrechetReference, frechet_distance
from diffc_jax.metrics.statistics import RunningCovariance


def gaussian(mean, covariance, count=1001):
    return RunningCovariance(
        count, np.asarray(mean, float), np.asarray(covariance, float) * (count - 1)
    )


def rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def random_covariance(d, seed, rank=None):
    factor = np.random.default_rng(seed).normal(size=(d, rank or d))
    return factor @ factor.T / d


def test_commuting_gaussians():
    """Shared axes: |difference of means|^2 + sum of (difference of standard deviations)^2."""
    axes = rotation(6, 0)
    a, b = np.array([4.0, 1, 9, 0.25, 1e-2, 100]), np.array([1.0, 1, 16, 0.16, 1e-3, 81])
    mean = np.arange(6.0)
    found = frechet_distance(
        gaussian(mean, axes * a @ axes.T), gaussian(0 * mean, axes * b @ axes.T)
    )
    assert found == pytest.approx(55 + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-12)


def test_scalar_samples():
    a, b = np.array([[1.0], [3.0]]), np.array([[0.0], [5.0], [10.0]])
    expected = (2 - 5) ** 2 + (np.sqrt(2) - 5) ** 2
    assert frechet_distance(RunningCovariance.of(a), RunningCovariance.of(b)) == pytest.approx(
        expected, rel=1e-12
    )


def test_general_covariances_against_a_matrix_square_root():
    for seed in range(3):
        a, b = random_covariance(20, seed), random_covariance(20, seed + 10)
        product_root = scipy.linalg.sqrtm(a @ b)
        expected = 20 * 0.25 + np.trace(a + b) - 2 * np.trace(product_root.real)
        one, other = gaussian(np.full(20, 0.5), a), gaussian(np.zeros(20), b)
        assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
        assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-9)


def test_many_weak_directions():
    """Features of networks have spectra like this; square roots of rounded eigenvalues would add up."""
    axes, spread = rotation(200, 2), np.logspace(3, -10, 200)
    found = frechet_distance(
        gaussian(np.zeros(200), axes * spread @ axes.T),
        gaussian(np.zeros(200), axes * (1.1 * spread) @ axes.T),
    )
    assert found == pytest.approx(spread.sum() * np.square(np.sqrt(1.1) - 1), rel=1e-9)


def test_fewer_vectors_than_dimensions():
    axes = rotation(50, 1)
    a, b = np.zeros(50), np.zeros(50)
    a[:10], b[5:20] = np.arange(1, 11), np.arange(1, 16)
    expected = np.square(np.sqrt(a) - np.sqrt(b)).sum()
    found = frechet_distance(
        gaussian(np.zeros(50), axes * a @ axes.T), gaussian(np.zeros(50), axes * b @ axes.T)
    )
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rank", [5, 60])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_distance_to_itself(rank, scale):
    covariance = scale * random_covariance(60, 0, rank)
    a = gaussian(np.ones(60), covariance)
    assert abs(frechet_distance(a, a)) < 1e-12 * np.trace(covariance)


def test_identical_vectors():
    still = RunningCovariance.of(np.ones((5, 3)))
    assert frechet_distance(still, still) == 0
    moving = RunningCovariance.of(np.random.default_rng(0).normal(size=(5, 3)))
    expected = np.square(moving.mean - 1).sum() + np.trace(moving.covariance())
    assert frechet_distance(still, moving) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(moving, still) == pytest.approx(expected, rel=1e-12)


def test_any_order_and_any_batches():
    generator = np.random.default_rng(0)
    # Far from zero, where sums of squares in one pass would lose everything in single precision.
    features = (1e3 + generator.normal(size=(300, 8))).astype(np.float32)
    reference = RunningCovariance.of(1e3 + generator.normal(size=(400, 8)))
    exact = features.astype(np.float64)
    expected = frechet_distance(
        RunningCovariance(300, exact.mean(0), np.cov(exact.T, ddof=0) * 300), reference
    )
    for order in (np.arange(300), generator.permutation(300)):
        for cuts in ([], [1], [100, 200], list(range(7, 300, 7))):
            parts = [RunningCovariance.of(part) for part in np.split(features[order], cuts)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            assert total.count == 300
            assert frechet_distance(total, reference) == pytest.approx(expected, rel=1e-9)


def test_distance_to_a_reference(caplog):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(30, 4)), generator.normal(size=(20, 4)) + 1
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = FrechetReference(RunningCovariance.of(a), "net").distance(RunningCovariance.of(b))
    assert found == frechet_distance(RunningCovariance.of(a), RunningCovariance.of(b))
    assert not caplog.records


@pytest.mark.parametrize(("n_reference", "n_images"), [(30, 4), (4, 30)])
def test_one_warning_about_few_images(caplog, n_reference, n_images):
    generator = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING, logger="absl"):
        reference = FrechetReference(
            RunningCovariance.of(generator.normal(size=(n_reference, 4))), "net"
        )
        for _ in range(3):
            reference.distance(RunningCovariance.of(generator.normal(size=(n_images, 4))))
    assert [record.getMessage() for record in caplog.records] == [
        "net: 4 IMAGES ARE TOO FEW for 4 features: the Fréchet distance is biased upwards; compare it "
        "at the same number of images only, and publish it from 10,000 or more"
    ]


def test_refusals():
    two, one = RunningCovariance.of(np.eye(2)), RunningCovariance.of(np.eye(2)[:1])
    with pytest.raises(InputError) as error:
        FrechetReference(one, "net")
    assert str(error.value) == (
        "Fréchet distance: the reference set has 1 images and needs at least 2"
    )
    with pytest.raises(InputError) as error:
        FrechetReference(two, "net").distance(one)
    assert str(error.value) == "Fréchet distance: the image set has 1 images and needs at least 2"
    with pytest.raises(InputError) as error:
        FrechetReference(two, "net").distance(RunningCovariance.of(np.eye(3)))
    assert str(error.value) == (
        "Fréchet distance: the images have 3 features, the reference 2; use the same feature network "
        "for both"
    )


def test_squared_mmd_is_the_sum_over_pairs():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(5, 3)), generator.normal(size=(4, 3)) + 0.3

    def kernel(u, v):
        return (u @ v / 3 + 1) ** 3

    within = [
        np.mean([kernel(u, v) for i, u in enumerate(z) for j, v in enumerate(z) if i != j])
        for z in (x, y)
    ]
    across = np.mean([kernel(u, v) for u in x for v in y])
    assert kid.squared_mmd(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kernel_distance_of_known_gaussians():
    """For one feature the kernel compares moments: 3 (dm1)^2 + 3 (dm2)^2 + (dm3)^2."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20000, 1)), generator.normal(size=(20000, 1)) + 0.5
    exact = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
    found = kid.kernel_distance(x, y, subset_size=200)
    assert found.n_subsets == 100
    assert abs(found.value - exact) < 4 * found.stderr
    assert found.stderr < 0.1 * exact


def test_kernel_distance_is_unbiased_and_its_error_is_honest():
    """Two sets from one source: around zero, as often negative, by as much as stderr says."""
    generator = np.random.default_rng(1)
    results = [
        kid.kernel_distance(*generator.normal(size=(2, 60, 5)), subset_size=6) for _ in range(400)
    ]
    values = np.array([result.value for result in results])
    assert abs(values.mean()) < 4 * values.std() / 20
    assert 0.3 < np.mean(values < 0) < 0.75
    honest = np.sqrt(np.mean([result.stderr**2 for result in results]))
    assert honest == pytest.approx(values.std(), rel=0.15)


def test_kernel_distance_to_itself_and_its_seed():
    x = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    found = kid.kernel_distance(x, x, seed=3)
    assert abs(found.value) < 4 * found.stderr < 0.1
    assert found.n_subsets == 10  # of 200: 1000 would leave two
    assert kid.kernel_distance(x, x, seed=3) == found
    assert kid.kernel_distance(x, x, seed=4) != found


def test_kernel_distance_refusals():
    with pytest.raises(InputError) as error:
        kid.kernel_distance(np.zeros((19, 2)), np.zeros((50, 2)))
    assert str(error.value) == "KID: needs at least 20 images in both sets, and one has 19"
    with pytest.raises(InputError) as error:
        kid.kernel_distance(np.zeros((20, 2)), np.zeros((20, 3)))
    assert str(error.value) == (
        "KID: the images have 2 features, the reference 3; use the same feature network for both"
    )
