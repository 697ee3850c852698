import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.evaluation.metrics import precision_recall as module
from diffc_jax.evaluation.metrics.precision_recall import PrecisionRecall, precision_recall


def test_on_a_line():
    """With one neighbour the reference covers [-1, 2] and [8, 14], the images [-0.5, 1] and [11, 50]."""
    reference = np.array([[0.0], [1.0], [10.0], [12.0]])
    images = np.array([[0.0], [0.5], [24.0], [37.0]])
    found = precision_recall(images, reference, "net", neighbours=1)
    assert found == PrecisionRecall(
        precision=0.5, recall=0.75, features="net", n_images=4, n_reference=4, neighbours=1
    )


@pytest.mark.parametrize("rows", [7, 1024])
def test_against_all_pairs(monkeypatch, rows):
    monkeypatch.setattr(module, "_ROWS", rows)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 3)), generator.normal(size=(55, 3)) + 0.8

    def share(vectors, support):
        radii = [np.sort([np.linalg.norm(s - t) for t in support])[3] for s in support]
        inside = [
            any(np.linalg.norm(v - s) <= r for s, r in zip(support, radii, strict=True))
            for v in vectors
        ]
        return np.mean(inside)

    found = precision_recall(x.astype(np.float32), y.astype(np.float32), "net")
    assert found.precision == share(x, y)
    assert found.recall == share(y, x)
    assert 0 < found.recall < 1
    assert 0 < found.precision < 1


def test_extremes():
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    same, apart = precision_recall(x, x, "net"), precision_recall(x, x + 100, "net")
    assert (same.precision, same.recall) == (1, 1)
    assert (apart.precision, apart.recall) == (0, 0)


def test_refusals():
    with pytest.raises(InputError) as error:
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)), "net")
    assert str(error.value) == (
        "precision and recall: 3 neighbours need at least 4 images in both sets, and one has 3"
    )
    with pytest.raises(InputError) as error:
        precision_recall(np.zeros((9, 2)), np.zeros((9, 3)), "net")
    assert str(error.value) == (
        "precision and recall: the images have 2 features, the reference 3; use the same feature "
        "network for both"
    )
