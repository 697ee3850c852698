"""Which reference each number of a set comes from, and that originals are pairs and others are not."""

import math

import numpy as np
import pytest

from diffc_jax.metrics.feature_sets import FeatureSet
from diffc_jax.metrics.frechet import FrechetReference
from diffc_jax.metrics.kid import KernelReference
from diffc_jax.metrics.sets import Comparison, compared_with_mean, set_columns

GENERATOR = np.random.default_rng(0)
ORIGINALS = GENERATOR.normal(size=(24, 4)).astype(np.float32)
OTHERS = GENERATOR.normal(1.0, size=(24, 4)).astype(np.float32)
IMAGES = (ORIGINALS + 0.3 * GENERATOR.normal(size=(24, 4))).astype(np.float32)


def comparison(others=None):
    sets = [FeatureSet.of([some]) for some in (ORIGINALS, OTHERS)]
    return Comparison(sets[0], others and sets[1], "net", "originals", ("precision_recall",))


def expected(reference, paired):
    moments = [FeatureSet.of([some]).moments for some in (reference, IMAGES)]
    fid = FrechetReference(moments[0], "net").estimate(moments[1], IMAGES, reference, paired=paired)
    return fid, KernelReference(reference, paired=paired).distance(IMAGES)


def check(found, wanted):
    assert found.value == pytest.approx(wanted.value, rel=1e-12)
    assert found.stderr == pytest.approx(wanted.stderr, rel=1e-12)


def test_originals_are_pairs():
    found = comparison().estimates(FeatureSet.of([IMAGES]))
    for name, paired, apart in zip(
        ("fid", "kid"), expected(ORIGINALS, True), expected(ORIGINALS, False), strict=True
    ):
        check(found[name], paired)
        check(found[f"{name}_originals"], paired)
        assert paired.stderr != pytest.approx(apart.stderr, rel=0.1)


def test_other_images_are_no_pairs_and_have_the_manifold():
    found = comparison(others=True).estimates(FeatureSet.of([IMAGES]))
    for name, of_others, of_originals in zip(
        ("fid", "kid"), expected(OTHERS, False), expected(ORIGINALS, True), strict=True
    ):
        check(found[name], of_others)
        check(found[f"{name}_originals"], of_originals)
    assert found["recall"].value < comparison().estimates(FeatureSet.of([IMAGES]))["recall"].value


def test_differences_are_those_from_the_mean():
    compared = comparison()
    own, mean = (compared.estimates(FeatureSet.of([x])) for x in (IMAGES, 0.5 * IMAGES))
    found = compared_with_mean(own, mean)
    assert set(found) == {"fid_minus_mean", "kid_minus_mean"}
    for name in ("fid", "kid"):
        assert found[f"{name}_minus_mean"].value == own[name].value - mean[name].value
    columns = set_columns(own | found)
    assert columns["fid_minus_mean"] == found["fid_minus_mean"].value
    assert columns["kid_stderr"] == own["kid"].stderr
    assert math.isnan(columns["auc"])


def test_small_sets_have_no_numbers_that_need_more_images():
    sets = [FeatureSet.of([some]) for some in (ORIGINALS[:5], OTHERS)]
    metrics = ("precision_recall", "classifier")
    found = Comparison(*sets, "net", "others", metrics).estimates(FeatureSet.of([IMAGES[:5]]))
    assert set(found) == {"fid", "fid_originals"}


def test_numbers_against_others_are_none_of_the_originals():
    sets = [FeatureSet.of([some]) for some in (ORIGINALS, OTHERS[:10])]
    found = Comparison(*sets, "net", "others", ("precision_recall",)).estimates(
        FeatureSet.of([IMAGES])
    )
    assert "kid" not in found
    assert "kid_originals" in found
