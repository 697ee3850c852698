"""Extraction in batches, cached statistics, and finding weights, with a network of a few lines."""

import dataclasses
import functools
import hashlib
import io
import urllib.error
import urllib.request

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics import feature_sets
from diffc_jax.metrics.feature_sets import FeatureSet, load_features, save_features
from diffc_jax.metrics.features import downloads, registry
from diffc_jax.metrics.features.extract import Extractor, FeatureNetwork, reference_features
from diffc_jax.metrics.frechet import frechet_distance
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.sharding import make_mesh


def small_network(scale: float = 1.0) -> FeatureNetwork:
    def apply(variables, images):
        pooled = images.astype(jnp.float32).reshape(len(images), 4, -1).mean(2) / 255
        return jnp.tanh(pooled @ variables["params"]["kernel"])

    kernel = np.random.default_rng(0).normal(0, scale, (4, 5)).astype(np.float32)
    return FeatureNetwork("small", 5, apply, {"params": {"kernel": kernel}})


def random_images(count: int = 37, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_features_do_not_depend_on_batches_or_devices(monkeypatch, devices, batch_size):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    network, images = small_network(), random_images()
    expected = np.asarray(network.apply(network.variables, images))
    features = Extractor(network, make_mesh(), batch_size)(images)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_one_compilation_for_any_number_of_images():
    network, traces = small_network(), []

    def counted(variables, images):
        traces.append(images.shape)
        return network.apply(variables, images)

    extractor = Extractor(FeatureNetwork("counted", 5, counted, network.variables), make_mesh(), 16)
    for count in (5, 16, 37):
        assert extractor(random_images(count)).shape == (count, 5)
    assert traces == [(16, 8, 8, 3)]
    assert extractor(random_images(0)).shape == (0, 5)


def test_features_of_a_set_do_not_depend_on_batches_or_order():
    extractor, images = Extractor(small_network(), make_mesh(), 8), random_images()
    other = RunningCovariance.of(extractor(random_images(seed=1)))
    expected = frechet_distance(RunningCovariance.of(extractor(images)), other)
    for batches in ([images], np.split(images, [5, 30]), [images[20:], images[:20]]):
        moments = extractor.of_set(iter(batches)).moments
        assert moments.count == 37
        assert frechet_distance(moments, other) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError) as error:
        extractor.of_set([])
    assert str(error.value) == "small: there are no images to compute features of"


def test_features_that_are_not_finite_are_refused():
    def apply(_, images):
        mean = images.astype(jnp.float32).mean((1, 2))
        return jnp.where(mean == 255, jnp.nan, mean)

    images = random_images(20)
    images[13] = 255
    extractor = Extractor(FeatureNetwork("fragile", 3, apply, {}), make_mesh(), 8)
    with pytest.raises(InputError) as error:
        extractor(images)
    assert str(error.value) == (
        "fragile: features of image 13 of the batch are not finite; check the network's weights"
    )


def test_images_that_are_not_8_bit_rgb_are_refused():
    extractor = Extractor(small_network(), make_mesh(), 8)
    for images in (random_images() / np.float32(255), random_images()[..., :1]):
        with pytest.raises(InputError) as error:
            extractor(images)
        assert str(error.value) == (
            f"images: {images.dtype} of shape {images.shape}, and small needs uint8 of shape (n, h, w, 3)"
        )


def test_features_of_a_reference_are_computed_once_for_the_same_images_and_weights(tmp_path):
    images = random_images()
    calls = []

    def features(network, images, cuts=()):
        extractor = Extractor(network, make_mesh(), 8)
        extractor.of_set = lambda batches: calls.append(1) or Extractor.of_set(extractor, batches)
        return reference_features(extractor, lambda: iter(np.split(images, cuts)), tmp_path / "fid")

    first = features(small_network(), images)
    again = features(small_network(), images, cuts=[3, 20])
    assert len(calls) == 1
    assert first.moments.count == again.moments.count == len(first.first) == 37
    np.testing.assert_array_equal(first.first, again.first)
    np.testing.assert_array_equal(first.moments.mean, again.moments.mean)
    np.testing.assert_array_equal(first.moments.scatter, again.moments.scatter)
    changed = images.copy()
    changed[-1, -1, -1, -1] ^= 1
    features(small_network(), changed)
    features(small_network(scale=1.001), images)
    features(small_network(), images[:-1])
    assert len(calls) == 4
    assert len(list((tmp_path / "fid").iterdir())) == 4

    path = next((tmp_path / "fid").glob("small-*.npz"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError) as error:
        load_features(path)
    assert str(error.value) == (
        f"{path}: is damaged (File is not a zip file); delete it and run again"
    )


def test_reference_files_that_nobody_has_touched_are_not_read_again(tmp_path):
    images, reads = random_images(), []

    def features(network, signature, images=images):
        def batches():
            reads.append(1)
            return iter([images])

        return reference_features(Extractor(network, make_mesh(), 8), batches, tmp_path, signature)

    first = features(small_network(), "a")
    assert len(reads) == 2  # for the hash and for the features
    np.testing.assert_array_equal(features(small_network(), "a").first, first.first)
    assert len(reads) == 2
    # A copy of the same files, the same files changed, another network, and none that is known.
    features(small_network(), "b")
    assert len(reads) == 3
    assert features(small_network(), "c", images[1:]).moments.count == len(images) - 1
    features(small_network(scale=1.001), "a")
    assert len(reads) == 7
    features(small_network(), None)
    assert len(reads) == 8
    for path in tmp_path.glob("*.npz"):
        path.unlink()
    np.testing.assert_allclose(features(small_network(), "a").first, first.first)
    assert len(reads) == 10


def test_what_is_known_of_other_files_stays_known(tmp_path):
    reads = []

    def features(signature, images):
        def batches():
            reads.append(signature)
            return iter([images])

        extractor = Extractor(small_network(), make_mesh(), 8)
        return reference_features(extractor, batches, tmp_path, signature)

    for _ in range(2):
        features("a", random_images())
        features("b", random_images(seed=1))
    assert reads == ["a", "a", "b", "b"]


def test_images_of_another_shape_with_the_same_bytes_are_others(tmp_path):
    extractor, images = Extractor(small_network(), make_mesh(), 8), random_images(4)
    for shape in ((4, 8, 8, 3), (1, 16, 16, 3)):
        batches = [images.reshape(shape)]
        found = reference_features(extractor, functools.partial(iter, batches), tmp_path)
        assert found.moments.count == len(batches[0])


@pytest.mark.parametrize("block", [3, 1024])
def test_the_first_features_of_a_set_are_kept_and_the_moments_are_of_all(
    monkeypatch, tmp_path, block
):
    monkeypatch.setattr(feature_sets, "MAX_KEPT", 7)
    monkeypatch.setattr(feature_sets, "_BLOCK", block)
    vectors = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    found = FeatureSet.of(np.split(vectors, [2, 5, 20]))
    save_features(tmp_path / "a.npz", found)
    for one in (found, load_features(tmp_path / "a.npz", 3)):
        np.testing.assert_array_equal(one.first, vectors[:7])
        assert one.moments.count == 30
        np.testing.assert_allclose(one.moments.mean, vectors.mean(0), rtol=1e-5)
    save_features(tmp_path / "a.npz", dataclasses.replace(found, first=vectors[:6]))
    with pytest.raises(InputError, match=r"a.npz: holds no finite features of 30 images; delete"):
        load_features(tmp_path / "a.npz")
    save_features(tmp_path / "a.npz", dataclasses.replace(found, first=np.nan * found.first))
    with pytest.raises(InputError, match=r"a.npz: holds no finite features of 30 images; delete"):
        load_features(tmp_path / "a.npz")


def test_a_new_version_of_a_network_has_other_features():
    network = small_network()
    assert network.identity == f"small {network.weights_hash}"
    newer = dataclasses.replace(network, version=2)
    assert newer.identity == f"{network.identity} version 2"


def test_weights_hash():
    assert small_network().weights_hash == small_network().weights_hash
    assert small_network().weights_hash != small_network(1.001).weights_hash
    network, kernel = small_network(), small_network().variables["params"]["kernel"]
    exchanged = [
        dataclasses.replace(network, variables={"a": a, "b": b}).weights_hash
        for a, b in ((kernel, -kernel), (-kernel, kernel))
    ]
    assert exchanged[0] != exchanged[1]
    renamed = dataclasses.replace(network, variables={"params": {"weights": kernel}})
    assert renamed.weights_hash != network.weights_hash
    for other in (kernel.reshape(5, 4), kernel.view(np.int32)):
        changed = dataclasses.replace(network, variables={"params": {"kernel": other}})
        assert changed.weights_hash != network.weights_hash


CONTENT = b"weights"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Sets what addresses give; returns the addresses asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def serve(content):
        def urlopen(url, **_):
            asked.append(url)
            if isinstance(content, Exception):
                raise content
            return io.BytesIO(content)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return asked

    return serve


def test_downloads_once(served, tmp_path):
    asked = served(CONTENT)
    url = f"https://example.org/a/net-{DIGITS}.pth?raw=1"
    path = downloads.local_weights(url)
    assert path == downloads.local_weights(url) == tmp_path / f"cache/diffc_jax/net-{DIGITS}.pth"
    assert path.read_bytes() == CONTENT
    assert asked == [url]
    path.write_bytes(b"changed")
    with pytest.raises(InputError) as error:
        downloads.local_weights(url)
    changed = hashlib.sha256(b"changed").hexdigest()[:8]
    assert str(error.value) == (
        f"{path}: is damaged or another file: its SHA-256 starts with {changed}, not {DIGITS}; "
        "delete it and fetch it again"
    )


def test_failed_downloads_leave_nothing(served, tmp_path):
    served(urllib.error.URLError("Name or service not known"))
    with pytest.raises(InputError) as error:
        downloads.local_weights("https://example.org/net.pth")
    assert str(error.value) == (
        "https://example.org/net.pth: cannot be downloaded (Name or service not known); fetch it "
        "elsewhere and give its path"
    )
    served(CONTENT[:-1])
    with pytest.raises(
        InputError, match=rf"^https://example.org/.* starts with .*, not {DIGITS}; "
    ):
        downloads.local_weights(f"https://example.org/net-{DIGITS}.pth")
    assert not list((tmp_path / "cache" / "diffc_jax").iterdir())


def test_paths(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"anything")
    assert downloads.local_weights(str(path)) == path
    with pytest.raises(InputError) as error:
        downloads.local_weights(str(tmp_path / "net-6726825d.pth"))
    assert str(error.value) == (
        f"{tmp_path / 'net-6726825d.pth'}: cannot be read (No such file or directory)"
    )
    with pytest.raises(UsageError) as error:
        downloads.local_weights("http://example.org/net.pth")
    assert str(error.value) == (
        "weights: 'http://example.org/net.pth' is neither a path nor an https address"
    )


def test_all_digits_in_a_name_are_compared(tmp_path):
    whole = hashlib.sha256(CONTENT).hexdigest()
    path = tmp_path / f"net-{whole}.pth"
    path.write_bytes(CONTENT)
    assert downloads.local_weights(str(path)) == path
    path.write_bytes(b"changed")
    with pytest.raises(InputError, match=f"not {whole}; delete it and fetch it again"):
        downloads.local_weights(str(path))


def test_registry_refusals(tmp_path):
    cases = {
        ("resnet", ""): "features: 'resnet' is not a feature network; known: inception_v3_fid, "
        "efficientnet_lite0",
        (
            "inception_v3_fid",
            "",
        ): "weights: inception_v3_fid needs a file; give the path of a copy of "
        f"{registry.INCEPTION_URL}, or that address",
        (
            "efficientnet_lite0",
            "a.pth",
        ): "weights: efficientnet_lite0 brings its own; 'a.pth' is not used",
    }
    for arguments, message in cases.items():
        with pytest.raises(UsageError) as error:
            registry.load_feature_network(*arguments)
        assert str(error.value) == message
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        registry.load_feature_network("inception_v3_fid", str(path))
