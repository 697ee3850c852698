"""The network against pytorch-fid where that is installed; its parts and its conversion everywhere."""

import importlib.util
import types

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.metrics.features import inception, registry
from diffc_jax.metrics.features.extract import Extractor
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.metrics.frechet import frechet_distance
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.sharding import make_mesh
from tests.support.torch_peers import import_torch

needs_pytorch_fid = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_fid") is None,
    reason="parity of Inception-v3 needs the packages torch, torchvision and pytorch-fid",
)


def torch_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    names |= {"mean": "running_mean", "var": "running_var"}
    for (_, *modules, leaf), value in flax.traverse_util.flatten_dict(inception.template()).items():
        shape = value.shape
        if leaf == "kernel":
            shape = (shape[3], shape[2], shape[0], shape[1])
        shapes[".".join([*modules, names[leaf]])] = shape
    return shapes


@pytest.fixture(scope="module")
def state_dict() -> dict[str, np.ndarray]:
    """Random weights that keep the signal's size, with every batch normalisation doing something."""
    generator = np.random.default_rng(0)
    state = {}
    for name, shape in torch_shapes().items():
        if len(shape) == 4:
            value = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith((".bn.weight", ".running_var")):
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.2, shape)
        state[name] = value.astype(np.float32)
        if name.endswith(".running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = np.array(7)
    return state


def smooth_images(seed: int, count: int, side: int) -> np.ndarray:
    """Smooth random colours with a little noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (count, 4, 4, 3))
    smooth = jax.image.resize(coarse, (count, side, side, 3), "cubic")
    noisy = np.asarray(smooth) + generator.normal(0, 5, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pytorch_fid(state_dict):
    """pytorch-fid, and its network with our weights as a function of uint8 images."""
    torch = import_torch()
    from pytorch_fid import fid_score
    from pytorch_fid import inception as theirs

    tensors = {name: torch.from_numpy(value) for name, value in state_dict.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: tensors)
        network = theirs.InceptionV3([3]).eval()

    def features(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 255
            return network(batch)[0][:, :, 0, 0].numpy()

    return types.SimpleNamespace(
        features=features,
        frechet=fid_score.calculate_frechet_distance,
        torch=torch,
        tensors=tensors,
    )


@needs_pytorch_fid
@pytest.mark.parametrize("side", [64, 299, 331])
def test_features_are_those_of_pytorch_fid(pytorch_fid, state_dict, side):
    network = inception.inception_v3_fid(inception.from_torch(state_dict))
    images = smooth_images(side, 2, side)
    expected = pytorch_fid.features(images)
    found = jax.jit(network.apply)(network.variables, images)
    assert 1 < expected.std() < 10
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@needs_pytorch_fid
def test_fid_is_that_of_pytorch_fid(pytorch_fid, state_dict):
    network = inception.inception_v3_fid(inception.from_torch(state_dict))
    extractor = Extractor(network, make_mesh(), 24)
    images, others = smooth_images(1, 24, 64), smooth_images(2, 24, 64)
    ours = [extractor(images), extractor(others // 2)]
    theirs = [pytorch_fid.features(images), pytorch_fid.features(others // 2)]
    many = [
        frechet_distance(*(RunningCovariance.of(x[:, ::8]) for x in pair))
        for pair in (ours, theirs)
    ]
    assert many[0] == pytest.approx(many[1], rel=1e-3)
    # Their matrix square root needs covariances of full rank: fewer features than images.
    few = [np.float64(features[:, :8]) for features in theirs]
    statistics = [f(x) for x in few for f in (lambda x: x.mean(0), lambda x: np.cov(x.T))]
    found = frechet_distance(*(RunningCovariance.of(features[:, :8]) for features in ours))
    assert found == pytest.approx(pytorch_fid.frechet(*statistics), rel=1e-3)


@needs_pytorch_fid
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_their_files(pytorch_fid, state_dict, tmp_path, zipped):
    path = tmp_path / "weights.pth"
    pytorch_fid.torch.save(pytorch_fid.tensors, path, _use_new_zipfile_serialization=zipped)
    read = read_torch_state_dict(path)
    assert read.keys() == state_dict.keys()
    for name, value in state_dict.items():
        np.testing.assert_array_equal(read[name], value)
    network = registry.load_feature_network("inception_v3_fid", str(path))
    jax.tree.map(np.testing.assert_array_equal, network.variables, inception.from_torch(state_dict))


def slow_pool(x: np.ndarray, reduce) -> np.ndarray:
    """3x3 windows over one image (h, w, c), of what lies inside it only."""
    h, w, _ = x.shape
    rows = [range(max(i - 1, 0), min(i + 2, h)) for i in range(h)]
    columns = [range(max(j - 1, 0), min(j + 2, w)) for j in range(w)]
    return np.array([[reduce(x[np.ix_(r, c)], axis=(0, 1)) for c in columns] for r in rows])


@pytest.mark.parametrize(
    ("block", "reduce"),
    [
        (inception._BlockA(pool_features=32), np.mean),
        (inception._BlockC(width=128), np.mean),
        (inception._BlockE(max_pool=False), np.mean),
        (inception._BlockE(max_pool=True), np.max),
    ],
)
def test_pooling_leaves_padding_out(block, reduce):
    """With all else switched off, the last channels of a block are its pooled input."""
    # Negative and positive, so that zeros would change means and maxima.
    x = np.random.default_rng(0).uniform(-1, 1, (2, 6, 5, 8)).astype(np.float32)
    shapes = jax.eval_shape(block.init, jax.random.key(0), jnp.asarray(x))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    pool = variables["params"]["branch_pool"]
    pool["conv"]["kernel"][0, 0, :8, :8] = np.eye(8)
    pool["bn"]["scale"][:8] = 2
    pool["bn"]["bias"][:8] = 3
    variables["batch_stats"]["branch_pool"]["bn"]["mean"][:8] = 0.5
    variables["batch_stats"]["branch_pool"]["bn"]["var"][:8] = 4
    width = pool["bn"]["bias"].size
    found = np.asarray(block.apply(variables, jnp.asarray(x)))
    assert not found[..., :-width].any()
    pooled = np.stack([slow_pool(image, reduce) for image in x])
    np.testing.assert_allclose(
        found[..., -width:][..., :8], 2 * (pooled - 0.5) / np.sqrt(4.001) + 3, rtol=1e-5
    )


# Features 40, 160, 280, ... of two images, some of each branch of the last block, as computed by
# pytorch-fid 0.3.0 with torch 2.13.0 and the random weights of `state_dict`.
PYTORCH_FID_FEATURES = np.array(
    [
        [
            8.581061,
            5.605591,
            16.327589,
            5.673606,
            0.000000,
            2.958271,
            6.328689,
            3.425434,
            0.190964,
            8.117980,
            0.310919,
            0.049174,
            13.469054,
            0.030784,
            14.588312,
            0.288384,
            17.915792,
        ],
        [
            8.513392,
            6.221416,
            16.617729,
            5.919382,
            0.000000,
            3.220347,
            6.498074,
            3.601461,
            0.241665,
            8.505896,
            0.368929,
            0.051179,
            13.294867,
            0.028580,
            15.182972,
            0.332125,
            18.418480,
        ],
    ]
)


def plain_images() -> np.ndarray:
    row, column = np.mgrid[:64, :64]
    channels = [[3 * row + k * column, row * column // (5 + k), 4 * column - row] for k in (1, 2)]
    return (np.array(channels) % 256).astype(np.uint8).transpose(0, 2, 3, 1)


def test_features_as_pytorch_fid_computed_them(state_dict):
    network = inception.inception_v3_fid(inception.from_torch(state_dict))
    features = Extractor(network, make_mesh(), 2)(plain_images())
    assert features.shape == (2, network.dimension)
    np.testing.assert_allclose(features[:, 40::120], PYTORCH_FID_FEATURES, rtol=0, atol=1e-4)


@needs_pytorch_fid
def test_golden_features_are_current(pytorch_fid):
    found = pytorch_fid.features(plain_images())[:, 40::120]
    np.testing.assert_allclose(found, PYTORCH_FID_FEATURES, rtol=0, atol=1e-5)


def test_conversion_and_safetensors(state_dict, tmp_path):
    variables = inception.from_torch(
        {k: v for k, v in state_dict.items() if "num_batches" not in k}
    )
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, inception.template())
    converted = variables["params"]["Mixed_6b"]["branch7x7_2"]["conv"]["kernel"]
    original = state_dict["Mixed_6b.branch7x7_2.conv.weight"]
    assert converted.shape == (1, 7, 128, 128)
    assert converted[0, 5, 3, 2] == original[2, 3, 0, 5]
    np.testing.assert_array_equal(
        variables["batch_stats"]["Mixed_7c"]["branch1x1"]["bn"]["var"],
        state_dict["Mixed_7c.branch1x1.bn.running_var"],
    )
    export_params(tmp_path / "inception.safetensors", variables, {"features": inception.NAME})
    network = registry.load_feature_network(
        "inception_v3_fid", str(tmp_path / "inception.safetensors")
    )
    jax.tree.map(np.testing.assert_array_equal, network.variables, variables)
    assert network.weights_hash == inception.inception_v3_fid(variables).weights_hash


def damaged(state, **changes):
    state = dict(state)
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"Mixed_5b.branch1x1.bn.bias": None, "fc.bias": None},
            "2 tensors are missing, the first is 'Mixed_5b.branch1x1.bn.bias'",
        ),
        (
            {"AuxLogits.fc.bias": np.zeros(3), "extra": np.zeros(2)},
            "2 tensors are unexpected, the first is 'AuxLogits.fc.bias'",
        ),
        (
            {"fc.weight": np.zeros((1000, 2048))},
            "1 tensors have another shape, the first is 'fc.weight' ((1000, 2048) instead of "
            "(1008, 2048))",
        ),
        (
            {"fc.bias": np.full(1008, np.nan)},
            "1 tensors are not finite floats, the first is 'fc.bias'",
        ),
    ],
)
def test_other_weights_are_refused(state_dict, changes, message):
    with pytest.raises(InputError) as error:
        inception.from_torch(damaged(state_dict, **changes), "a.pth")
    assert str(error.value) == f"a.pth: is not the Inception-v3 of pytorch-fid: {message}"
