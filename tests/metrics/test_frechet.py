"""Distances between sets of features: closed forms, other implementations, invariances, refusals."""

import logging

import numpy as np
import pytest
import scipy.linalg

from diffc_jax.errors import InputError
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


def left_out(a, b, *, paired):
    """The jackknife's standard error by its definition: every image left out in turn."""

    def distance(x, y):
        return frechet_distance(RunningCovariance.of(x), RunningCovariance.of(y))

    def spread(values):
        return (len(values) - 1) * np.mean(np.square(values - np.mean(values)))

    def without(z, i):
        return np.delete(z, i, axis=0)

    if paired:
        return np.sqrt(spread([distance(without(a, i), without(b, i)) for i in range(len(a))]))
    return np.sqrt(
        spread([distance(without(a, i), b) for i in range(len(a))])
        + spread([distance(a, without(b, i)) for i in range(len(b))])
    )


def estimate(images, reference, *, paired):
    moments = RunningCovariance.of(images)
    return FrechetReference(RunningCovariance.of(reference), "net").estimate(
        moments, images, reference, paired=paired
    )


@pytest.mark.parametrize("paired", [False, True])
def test_standard_error_is_the_limit_of_the_jackknife(paired):
    """Weights that change by little instead of an image that goes: 2 % at 400 images."""
    generator = np.random.default_rng(0)
    scales = np.array([3.0, 1.0, 0.3, 0.01])
    b = scales * generator.normal(size=(400, 4))
    a = 0.6 * b + scales * generator.normal(size=(400, 4)) + 0.2
    found = estimate(a, b, paired=paired)
    assert found.value == pytest.approx(
        frechet_distance(RunningCovariance.of(a), RunningCovariance.of(b)), rel=1e-10
    )
    assert found.stderr == pytest.approx(left_out(a, b, paired=paired), rel=0.02)


@pytest.mark.parametrize("paired", [False, True])
def test_known_gaussians_lie_in_the_intervals_as_often_as_they_should(paired):
    """95 % intervals of sets of 300 in three dimensions, where the bias is small against the error."""
    generator = np.random.default_rng(1)
    scales, exact = np.array([1.0, 2.0, 0.5]), 3 * 0.5**2 + 0.25 * (1 + 4 + 0.25)
    inside, errors, values = [], [], []
    for _ in range(300):
        b, noise = generator.normal(size=(2, 300, 3))
        a = 0.8 * b + 0.6 * noise if paired else noise
        found = estimate(1.5 * scales * a + 0.5, scales * b, paired=paired)
        values.append(found.value)
        errors.append(found.stderr)
        inside.append(abs(found.value - exact) < 1.96 * found.stderr)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.15)
    assert 0.91 <= np.mean(inside) <= 0.985


@pytest.mark.parametrize("paired", [False, True])
def test_error_is_not_too_small_with_fewer_images_than_features(paired):
    """As far as 60 images in 90 dimensions tell it: at most 5 % below the true spread, 50 % above."""
    generator = np.random.default_rng(2)
    scales = np.arange(1, 91) ** -0.5
    found = []
    for _ in range(80):
        b, noise = generator.normal(size=(2, 60, 90))
        a = 0.7 * b + 0.4 * noise if paired else 0.8 * noise
        found.append(estimate(scales * a, scales * b, paired=paired))
    spread = np.std([one.value for one in found])
    assert 0.95 - 0.16 < np.sqrt(np.mean([one.stderr**2 for one in found])) / spread < 1.5 + 0.16


def test_error_of_all_images_from_some_of_them():
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(2, 4000, 3)) * np.array([[[1.0]], [[2.0]]])
    reference = FrechetReference(RunningCovariance.of(b), "net")
    moments = RunningCovariance.of(a)
    of_all = reference.estimate(moments, a, b)
    of_some = reference.estimate(moments, a[:2000], b[:1000])
    assert of_some.value == of_all.value
    assert of_some.stderr == pytest.approx(of_all.stderr, rel=0.1)


def test_error_is_the_same_from_either_side():
    generator = np.random.default_rng(5)
    a, b = generator.normal(size=(300, 3)), 2.0 * generator.normal(size=(40, 3))
    one, other = estimate(a, b, paired=False), estimate(b, a, paired=False)
    assert one.stderr == pytest.approx(other.stderr, rel=1e-9)


def test_difference_of_two_distances_has_an_error_of_its_own():
    """Two sets against one reference: what the images have in common falls out."""
    generator = np.random.default_rng(4)
    b = generator.normal(size=(200, 3))
    a = 1.5 * generator.normal(size=(200, 3))
    first, second = (estimate(x, b, paired=True) for x in (a, 1.01 * a))
    difference = second - first
    assert difference.value == pytest.approx(second.value - first.value)
    assert difference.stderr < 0.1 * first.stderr


def test_sets_of_equal_images():
    still = np.ones((5, 3))
    found = estimate(still, still, paired=True)
    assert found.value == found.stderr == 0.0


@pytest.mark.parametrize("count", [20, 64, 300])
def test_equal_sets_have_no_distance_and_small_ones_are_kept(count):
    images = np.abs(
        np.random.default_rng(count).normal(size=(count, 40)) * np.geomspace(1, 0.01, 40)
    )
    moments = RunningCovariance.of(images)
    first, second = (RunningCovariance.of(part) for part in np.array_split(images, 2))
    reference = FrechetReference(moments, "features")
    for same in (RunningCovariance.of(images.copy()), first + second):
        assert frechet_distance(moments, same) == 0.0
        assert reference.estimate(same, images, images, paired=True).value == 0.0
    shifted = RunningCovariance.of(images + 1e-5)
    assert reference.distance(shifted) == pytest.approx(40 * 1e-10, rel=1e-4)
