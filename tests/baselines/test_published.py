"""Published points: values read off the sources by hand, labels, and selectors."""

import math

import pytest

from diffc_jax.baselines.published import load_published
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.results import PUBLISHED_PREFIX
from diffc_jax.plotting import style

IMAGENET, CIFAR = "imagenet64-chrabaszcz", "cifar10"

# Read off the sources by hand: (published rate, PSNR, FID).
IMAGENET_VALUES = {
    "diffc-a": [(0.38, 21.4, 54.3), (1.55, 26.1, 20.3), (3.32, 31.5, 5.11), (9.47, 47.1, 0.15)],
    "diffc-f": [(0.38, 21.7, 42.9), (1.55, 26.6, 11.4), (3.32, 32.2, 1.61), (9.47, 48.1, 0.03)],
    "bpg": [(0.47, 25.4, 47.6), (1.43, 30.9, 9.80), (3.09, 35.5, 2.91)],
    "jpeg": [(1.04, 23.4, 58.9), (1.83, 27.1, 19.6), (3.06, 30.5, 7.93)],
    "uqdm-f": [(0.59, 21.4, 63.9), (2.19, 30.0, 7.88), (7.18, 42.7, 0.24)],
    "cdc-p0.9": [(0.37, 21.3, 19.2), (0.83, 24.9, 9.61)],
}
CIFAR_VALUES = {
    "diffc-f": [(0.13, 18.6, 39.5), (3.07, 30.5, 6.93)],
    "bpg": [(1.74, 31.0, 19.9), (8.94, 42.0, 1.48)],
    "jpeg2000": [(4.88, 25.7, 70.6)],
    "minnen2020": [(1.12, 30.8, 22.7)],
}


@pytest.mark.parametrize(
    ("dataset", "name", "values"),
    [
        *((IMAGENET, name, values) for name, values in IMAGENET_VALUES.items()),
        *((CIFAR, name, values) for name, values in CIFAR_VALUES.items()),
    ],
)
def test_values_are_those_of_the_source(dataset, name, values):
    points = load_published([f"{dataset}/{name}"])
    for rate, psnr, fid in values:
        assert [
            (p.psnr, p.fid)
            for p in points
            if abs((p.bpp if p.bpp_kl is None else p.bpp_kl) - rate) <= 0.0051
        ] == [(pytest.approx(psnr, abs=0.051), pytest.approx(fid, abs=0.051))]
    assert {(p.fid_features, p.n_images, p.dataset) for p in points} == {
        ("inception_v3_fid", 10000, dataset)
    }


def test_hific_at_three_rates():
    points = load_published(["clic2020"])
    values = [(p.bpp, p.psnr_mean, p.fid) for p in points]
    expected = [(0.129, 30.9, 4.20), (0.250, 32.9, 2.38), (0.374, 34.6, 1.67)]
    for found, value in zip(values, expected, strict=True):
        assert found == pytest.approx(value, abs=0.051)
    assert {(p.method, p.n_images, p.split) for p in points} == {("published:hific", 428, "test")}
    assert [p.fid for p in load_published(["kodak"])] == [None] * 3


@pytest.mark.parametrize(("dataset", "pixels"), [(IMAGENET, 64 * 64), (CIFAR, 32 * 32)])
def test_ideal_rates_are_never_plotted_as_rates(dataset, pixels):
    points = [p for p in load_published([dataset]) if p.bpp_kl is not None]
    assert {p.model for p in points} == {"vdm", "uqdm"}
    for point in points:
        bits = point.bpp_kl * pixels
        assert point.rate_kind == "bound"
        if point.model == "vdm":
            assert point.bpp == pytest.approx((bits + math.log2(bits + 1) + 5) / pixels, abs=1e-6)
            assert point.n_rate_steps in (20, 1000)
        else:
            assert 0 <= point.bpp * pixels - bits <= 8.01
            assert point.bpp > point.bpp_kl or point.bpp == 0


def test_misfiled_fids_are_left_out():
    points = load_published(["diffc-d-1000"])
    assert {(p.fid, p.fid_features) for p in points} == {(None, None)}
    assert {p.dataset for p in points} == {IMAGENET, CIFAR}


def test_every_point_names_its_data_and_has_a_label():
    points = load_published(["clic2020", "div2k", "kodak", CIFAR, IMAGENET])
    assert len(points) == 9 + 128 + 141
    assert len(set(points)) == len(points)
    assert {p.method.removeprefix(PUBLISHED_PREFIX) for p in points} == set(style.PUBLISHED)
    for point in points:
        assert (point.psnr is None) != (point.psnr_mean is None)
        assert point.split or point.dataset == "kodak"


def test_selectors_join_and_count_points_once():
    both = load_published([f"{IMAGENET}/bpg", f"{CIFAR}/bpg"])
    assert set(both) == set(load_published(["bpg"]))
    assert load_published(["bpg", f"{CIFAR}/bpg", "bpg"]) == both
    assert {p.dataset for p in load_published([IMAGENET])} == {IMAGENET}


CHOICE = (
    "name a method (hific, jpeg, jpeg2000, bpg, diffc-d, diffc-a, diffc-f, diffc-d-1000, uqdm-d, "
    "uqdm-a, uqdm-f, balle2018, minnen2020, ctc, cdc-p0, cdc-p0.9), a data set (clic2020, div2k, "
    "kodak, cifar10, imagenet64-chrabaszcz) or DATASET/METHOD"
)


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        (["bpg", "vtm"], f"published: unknown 'vtm'; {CHOICE}"),
        (["clic2020/bpg"], f"published: unknown 'clic2020/bpg'; {CHOICE}"),
        ([""], f"published: unknown ''; {CHOICE}"),
        ([], f"published: empty; {CHOICE}"),
    ],
)
def test_unknown_selectors_list_what_there_is(selectors, message):
    with pytest.raises(UsageError) as error:
        load_published(selectors)
    assert str(error.value) == message
