"""Images to files and back with trained networks, and their rates by the bytes of real files."""

import glob
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from diffc_jax import rng
from diffc_jax.baselines.hific.config import build_architecture
from diffc_jax.baselines.hific.entropy_coding import HYPER_LARGEST, LatentCoder, header_bytes
from diffc_jax.baselines.hific.model import Hific, Params, Symbols
from diffc_jax.baselines.method import Baseline, Coded, Images
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.rate_point import HIFIC, HYPERPRIOR
from diffc_jax.evaluation.results import training_costs
from diffc_jax.runtime.export import IS_IT_THE_CARD, Costs, load_params, read_card
from diffc_jax.runtime.files import AnyPath, local_path
from diffc_jax.typed import Count, NotNegative

# Columns that tell the results of one network from those of others.
IDENTITY = ("method", "model", "level")
_BATCH = 32


class HificCodec:
    """Files of one trained model, with the parameters of its autoencoder.

    Raises:
        ValueError: parameters that are not finite.
    """

    def __init__(self, model: Hific, params: Params):
        self._model = model
        self._params = params
        self._coder = LatentCoder(model.hyper_masses(params, HYPER_LARGEST))

    def check_size(self, size: tuple[int, int]) -> None:
        """UsageError for (h, w) that are not multiples of the model's factor."""
        self._model.architecture.latent_shape(size)

    def encode(
        self, images: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[list[bytes], Float[np.ndarray, " b"]]:
        """Files of images, and the bits that the entropy models estimate for each.

        Raises:
            UsageError: sides that are not multiples of the model's factor.
        """
        size = (images.shape[1], images.shape[2])
        latent_size = self._model.architecture.latent_shape(size)[:2]
        symbols, bits = self._model.quantise(self._params, jnp.asarray(images, jnp.float32) / 255.0)
        files = [
            self._coder.encode(
                size, hyper, latent, self._model.scale_indices(self._params, hyper, latent_size)
            )
            for hyper, latent in zip(
                np.asarray(symbols.hyper), np.asarray(symbols.latent), strict=True
            )
        ]
        return files, np.asarray(bits)

    def decode(self, files: Sequence[bytes]) -> UInt8[np.ndarray, "b h w 3"]:
        """Images of one size from their files.

        Raises:
            InputError: a damaged file, one of another model, or of another size than the first; the message
                names its place in the sequence.
        """
        read = []
        for place, data in enumerate(files):
            try:
                read.append(self._read(data))
            except InputError as error:
                raise InputError(f"file {place}: {error}") from None
        sizes = sorted({size for size, _, _ in read})
        if len(sizes) > 1:
            raise InputError(f"files: hold images of different sizes, {sizes[0]} and {sizes[1]}")
        hyper, latent = (jnp.asarray(np.stack([parts[i] for parts in read])) for i in (1, 2))
        images = self._model.reconstruct(self._params, Symbols(hyper=hyper, latent=latent))
        return np.asarray(jnp.round(255.0 * images).astype(jnp.uint8))

    def _read(
        self, data: bytes
    ) -> tuple[tuple[int, int], Int[np.ndarray, "h w c"], Int[np.ndarray, "h_ w_ c_"]]:
        """Size, hyper symbols and latent symbols."""
        reader = self._coder.open(data)
        architecture = self._model.architecture
        try:
            latent_size = architecture.latent_shape(reader.size)[:2]
        except UsageError as error:
            raise InputError(f"is damaged ({error})") from None
        hyper = reader.hyper(architecture.hyper_shape(reader.size))
        indices = self._model.scale_indices(self._params, hyper, latent_size)
        return reader.size, hyper.astype(np.int32), reader.latent(indices).astype(np.int32)


def find_runs(paths: str) -> list[AnyPath]:
    """Folders named by config.baselines.trained, each once: folders and globs, separated by commas.

    Raises:
        InputError: a part names none.
    """
    found: dict[pathlib.Path, AnyPath] = {}
    for part in filter(None, map(str.strip, paths.split(","))):
        named = local_path(part)
        matches = [named] if named.is_dir() else sorted(map(pathlib.Path, glob.glob(str(named))))
        matches = [path for path in matches if path.is_dir()]
        if not matches:
            raise InputError(f"baselines.trained: {part}: there is no such folder")
        for path in matches:
            found.setdefault(path.resolve(), path)
    return list(found.values())


class _Model(TypedDict):
    name: str


class _AnyCard(TypedDict):
    model: _Model


class _Hific(TypedDict):
    target_bpp: NotNegative


class _HificCard(_AnyCard, Costs):
    hific: _Hific
    trained_parameters: Count


class TrainedBaseline(Baseline):
    """A finished run of `configs/hific64.py` or the like."""

    def __init__(self, model: Hific, params: Params, card: Mapping[str, Any]):
        """`card` is that of the parameters of the autoencoder; ValueError if these are not finite."""
        identity = identity_of(card["model"], card["hific"]["target_bpp"])
        self.curve = ", ".join(identity[:2])
        self.identity = {
            **dict(zip(IDENTITY, identity, strict=True)),
            **training_costs(card["trained_parameters"], card),
        }
        self.codec, self.params = HificCodec(model, params), params
        self._architecture = card["model"]

    def made_by(self) -> dict[str, Any]:
        """See `Baseline`."""
        return dict(self._architecture)

    def code(
        self, images: Images, indices: Int[np.ndarray, " b"], on_files: Callable[[int], None]
    ) -> Coded:
        """See `Baseline`; sides have to be multiples of the model's factor."""
        del indices
        head = header_bytes(images.shape[1:3])
        sizes, decoded, estimates = [], [], []
        for start in range(0, len(images), _BATCH):
            files, bits = self.codec.encode(images[start : start + _BATCH])
            sizes += [(len(file), len(file) - head) for file in files]
            decoded.append(self.codec.decode(files))
            estimates.append(bits)
            on_files(len(files))
        return Coded(np.array(sizes), np.concatenate(decoded), np.concatenate(estimates))


def identity_of(model: Mapping[str, Any], target_bpp: float) -> tuple[str, str, float]:
    """The columns `IDENTITY` of the results of a network, of its config.model and its target."""
    return model["name"], f"width {model['width']:g}", float(target_bpp)


def load_run(path: AnyPath) -> TrainedBaseline:
    """Reads the weights and the card of a run.

    Raises:
        InputError: they are missing, damaged, of another model, or do not fit each other.
    """
    weights = path / "params.safetensors"
    if not weights.exists():
        raise InputError(
            f"{path}: there is no {weights.name}; experiments/train.py writes it when it is done"
        )
    name = read_card(weights, _AnyCard)["model"]["name"]
    if name not in (HIFIC, HYPERPRIOR):
        raise InputError(f"{path}: holds {name}, which is no HiFiC baseline")
    card = read_card(weights, _HificCard)
    try:
        model = Hific(build_architecture(card["model"]))
    except UsageError as error:
        raise InputError(f"{weights.with_suffix('.json')}: {error}; {IS_IT_THE_CARD}") from error
    template = jax.eval_shape(lambda: model.init_autoencoder(rng.stream(0, "init/autoencoder")))
    params = load_params(weights, {"autoencoder": template})["autoencoder"]
    try:
        return TrainedBaseline(model, params, card)
    except ValueError as error:
        raise InputError(f"{weights}: {error}") from error


def load_runs(paths: Iterable[AnyPath], side: int) -> list[TrainedBaseline]:
    """Runs of different folders: methods one after the other, in order of target.

    Raises:
        UsageError: rows of two runs would look the same, or one takes no images of `side` by `side` pixels.
        InputError: as of `load_run`.
    """
    found: dict[tuple[str, str, float], tuple[AnyPath, TrainedBaseline]] = {}
    named: dict[AnyPath, AnyPath] = {}
    for path in paths:
        named.setdefault(path.resolve(), path)
    for path in named.values():
        run = load_run(path)
        try:
            run.codec.check_size((side, side))
        except UsageError as error:
            raise UsageError(
                f"{path} takes no images of {error.message}", field="data.image_size"
            ) from error
        method, model, level = key = tuple(run.identity[name] for name in IDENTITY)
        if key in found:
            raise UsageError(
                f"{found[key][0]} and {path} are both {method} of {model} at {level:g} bpp; name one",
                field="baselines.trained",
            )
        found[key] = path, run
    return [run for _, (_, run) in sorted(found.items())]
