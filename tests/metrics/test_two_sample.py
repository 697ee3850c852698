"""A classifier against indistinguishable sets, separable sets, Gaussians with a known area, and pairs."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from diffc_jax.errors import InputError
from diffc_jax.metrics import two_sample
from diffc_jax.metrics.two_sample import FOLDS, area_under_curve, distinguishability, folds


def test_area_is_the_fraction_of_ordered_pairs():
    """That of scikit-learn once an image is compared with its own original too; ties count as half."""
    generator = np.random.default_rng(0)
    images, originals = generator.integers(0, 8, (2, 30)).astype(float)
    labels = np.repeat([1, 0], 30)
    of_all = roc_auc_score(labels, np.concatenate([images, originals]))
    own = np.mean((images > originals) + 0.5 * (images == originals))
    found = area_under_curve(images, originals)
    assert found.value == pytest.approx((900 * of_all - 30 * own) / 870, rel=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_error_of_the_area_is_honest(correlation):
    """Scores N(1, 1) and N(0, 1), of pairs with this correlation: area Phi(1 / sqrt 2), 95 % intervals."""
    generator = np.random.default_rng(1)
    area = scipy.stats.norm.cdf(np.sqrt(0.5))
    pairs = generator.multivariate_normal(
        [1.0, 0.0], [[1, correlation], [correlation, 1]], size=(400, 100)
    )
    found = [area_under_curve(*scores.T) for scores in pairs]
    values = np.array([one.value for one in found])
    errors = np.array([one.stderr for one in found])
    assert abs(values.mean() - area) < 4 * values.std() / 20
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.12)
    assert 0.92 <= np.mean(np.abs(values - area) < 1.96 * errors) <= 0.98


def test_equal_sets_have_an_area_of_one_half():
    x = np.random.default_rng(2).normal(size=(40, 6)).astype(np.float32)
    found = distinguishability(x, x)
    assert found.value == 0.5
    assert found.stderr == pytest.approx(0.0, abs=1e-12)


def test_two_sets_of_one_source_are_not_told_apart():
    """On images that the classifier has seen it would tell nearly all: there are as many features."""
    generator = np.random.default_rng(3)
    found = [distinguishability(*generator.normal(size=(2, 60, 40))) for _ in range(40)]
    values = np.array([one.value for one in found])
    assert abs(values.mean() - 0.5) < 4 * values.std() / np.sqrt(40)
    inside = np.mean([abs(one.value - 0.5) < 1.96 * one.stderr for one in found])
    assert inside >= 0.85


def test_separable_sets_are_told_apart():
    generator = np.random.default_rng(4)
    x = generator.normal(size=(50, 10))
    assert distinguishability(x + 3.0, x).value == 1.0


def test_area_of_shifted_gaussians_comes_near_the_best():
    """The best classifier of N(m, I) and N(0, I) has the area Phi(|m| / sqrt 2); others have less."""
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(2, 1000, 5))
    found = distinguishability(x + 0.5, y)
    best = scipy.stats.norm.cdf(0.5 * np.sqrt(5 / 2))
    assert best - 0.02 - 3 * found.stderr < found.value < best + 3 * found.stderr


def test_an_image_and_its_original_are_on_the_same_side(monkeypatch):
    """Every image is tested once, by a classifier that has seen neither it nor its original."""
    seen = []

    def scores(train, test):
        seen.append((train[:, 0], test[:, 0]))
        return test[:, 0]

    monkeypatch.setattr(two_sample, "_scores", scores)
    originals = np.arange(43.0)[:, None]
    distinguishability(originals + 1000, originals)
    assert len(seen) == FOLDS
    for train, test in seen:
        images, own = np.split(test, 2)
        np.testing.assert_array_equal(images - 1000, own)
        assert not {*train % 1000} & {*own}
        assert len(train) + len(test) == 86
    tested = np.concatenate([np.split(test, 2)[1] for _, test in seen])
    assert sorted(tested) == list(range(43))


def test_strength_of_the_penalty_does_not_depend_on_the_number_of_images():
    images, originals, test = np.random.default_rng(6).normal(size=(3, 30, 4))
    once = two_sample._scores(np.concatenate([images + 0.5, originals]), test)
    images, originals = (np.repeat(part, 3, axis=0) for part in (images + 0.5, originals))
    again = two_sample._scores(np.concatenate([images, originals]), test)
    np.testing.assert_allclose(again, once, rtol=1e-3, atol=1e-3)


def test_folds_depend_on_the_seed():
    def parts(seed):
        return [test.tolist() for _, test in folds(43, seed)]

    assert parts(0) == parts(0) != parts(1)


def test_few_images_are_refused():
    with pytest.raises(InputError) as error:
        distinguishability(np.zeros((19, 2)), np.zeros((19, 2)))
    assert str(error.value) == "telling images from originals: needs at least 20 images, not 19"
