"""Speed of every network on this machine: parameters, arithmetic, training and forward images/s.

    python benchmarks/model_speed.py --batch=32

Rounds over all models are interleaved, so that a machine that slows down slows all of them, and the
medians over the rounds are printed with their ratios to a plain U-Net measured in the same run. On two
cores: `taskset -c 0,1 python benchmarks/model_speed.py`.

With `--vdm=FOLDER`, a clone of github.com/google-research/vdm (commit dc27b98), the network of the same size
of that project is measured too. It needs `chex`.
"""

import functools
import importlib.util
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import app, flags, logging
from jaxtyping import Array, Float, Key
from shared import BASE_UNET

from diffc_jax.models import build_model
from diffc_jax.models.base import Model, Variables
from diffc_jax.models.layers import GAMMA_RANGE, GammaEmbedding, normalised_gamma, run_network
from diffc_jax.models.unet import unet_model
from diffc_jax.models.vdm import ResidualBlock, vdm_model

_BATCH = flags.DEFINE_integer("batch", 32, "Images in a batch.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 64, "Side of the images, a multiple of 16.", lower_bound=16)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed calls of each function.", lower_bound=1)
_MODELS = flags.DEFINE_list("models", [], "Only these models, besides the reference.")
_VDM = flags.DEFINE_string("vdm", None, "Clone of google-research/vdm.")

_VDM_BLOCKS, _VDM_WIDTH = 8, 32


class PlainUNet(nn.Module):
    """The usual diffusion U-Net, small: a residual block for each level each way, all pixels."""

    widths: tuple[int, ...] = (16, 32, 64, 120)

    @nn.compact
    def __call__(
        self, z: Float[Array, "b h w c"], gamma: Float[Array, " b"], training: bool = False
    ) -> Float[Array, "b h w c"]:
        """Predicts the noise in z."""

        def block(x: Array, width: int) -> Array:
            return ResidualBlock(width, 8, 0.0, jnp.float32)(x, embedding, training)

        embedding = GammaEmbedding(32, 128)(normalised_gamma(gamma, GAMMA_RANGE))
        x = nn.Conv(self.widths[0], (3, 3))(z)
        skips = []
        for level, width in enumerate(self.widths):
            if level:
                x = nn.Conv(width, (3, 3), strides=2)(x)
            x = block(x, width)
            skips.append(x)
        x = block(x, self.widths[-1])
        for level, width in reversed(list(enumerate(self.widths))):
            x = block(jnp.concatenate([x, skips.pop()], axis=-1), width)
            if level:
                x = nn.Conv(width, (3, 3))(x.repeat(2, axis=1).repeat(2, axis=2))
        return nn.Conv(z.shape[-1], (3, 3))(nn.swish(nn.GroupNorm(8)(x)))


def plain_model(image_shape: tuple[int, int, int]) -> Model:
    return _model("plain", PlainUNet(), image_shape)


def peer_vdm_model(folder: str, image_shape: tuple[int, int, int]) -> Model:
    """The network of google-research/vdm, from a clone of it."""
    path = pathlib.Path(folder) / "model_vdm.py"
    spec = importlib.util.spec_from_file_location("model_vdm", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise app.UsageError(f"--vdm: {path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.VDMConfig(
        vocab_size=256,
        sample_softmax=False,
        antithetic_time_sampling=True,
        with_fourier_features=True,
        with_attention=False,
        gamma_type="fixed",
        gamma_min=GAMMA_RANGE[0],
        gamma_max=GAMMA_RANGE[1],
        sm_n_timesteps=0,
        sm_n_embd=_VDM_WIDTH,
        sm_n_layer=_VDM_BLOCKS,
        sm_pdrop=0.0,
    )

    class Network(nn.Module):
        """Without conditioning."""

        @nn.compact
        def __call__(
            self, z: Float[Array, "b h w c"], gamma: Float[Array, " b"], training: bool = False
        ) -> Float[Array, "b h w c"]:
            return module.ScoreUNet(config)(z, gamma, jnp.zeros(len(z)), not training)

    return _model("peer", Network(), image_shape)


def _model(name: str, network: nn.Module, image_shape: tuple[int, int, int]) -> Model:
    def init(key: Key[Array, ""], statistics: Any) -> Variables:
        del statistics
        return network.init(key, jnp.zeros((1, *image_shape)), jnp.zeros(1))

    def eps_hat(
        variables: Variables,
        z: Float[Array, "b h w c"],
        gamma: Float[Array, " b"],
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b h w c"]:
        return run_network(network, variables, z, gamma, dropout_key=dropout_key)

    return Model(name, init, eps_hat, eps_hat)


REFERENCE = "plain U-Net"
MODELS: dict[str, Callable[[tuple[int, int, int]], Model]] = {
    REFERENCE: plain_model,
    "unet small": unet_model,
    "unet base": lambda shape: build_model(BASE_UNET, shape),
    "vdm tiny": lambda shape: vdm_model(shape, blocks=1, width=32, dropout=0.0),
    "vdm small": lambda shape: vdm_model(shape, blocks=_VDM_BLOCKS, width=_VDM_WIDTH, dropout=0.0),
}
PEER = "google-research/vdm small"


def compiled_functions(
    model: Model, batch: int, shape: tuple[int, int, int]
) -> tuple[int, float, dict[str, Callable[[], Any]]]:
    """Parameters, GFLOP of one image's forward pass, and the functions to be timed."""
    h, w, c = shape
    variables = model.init(
        jax.random.key(0),
        {"mean": jnp.zeros(c), "rotation": jnp.eye(c), "variances": jnp.ones((h, w, c))},
    )
    params = variables["params"]
    fixed = {name: value for name, value in variables.items() if name != "params"}
    z = jax.random.normal(jax.random.key(1), (batch, *shape))
    gamma = jnp.linspace(*GAMMA_RANGE, batch)
    optimizer = optax.adamw(1e-4)
    state = optimizer.init(params)

    def train(params: Any, state: Any, z: Array, gamma: Array) -> tuple[Any, Any]:
        def loss(params: Any) -> Array:
            eps_hat = model.train_eps_hat({"params": params, **fixed}, z, gamma, jax.random.key(2))
            return jnp.mean((z - eps_hat) ** 2)

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    prepared = model.prepare(variables)
    forward_step = jax.jit(model.eps_hat).lower(prepared, z, gamma).compile()
    train_step = jax.jit(train).lower(params, state, z, gamma).compile()
    cost = forward_step.cost_analysis() or {}
    functions = {
        "forward": lambda: forward_step(prepared, z, gamma),
        "train": lambda: train_step(params, state, z, gamma),
    }
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return size, cost.get("flops", float("nan")) / batch / 1e9, functions


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    models = dict(MODELS)
    if _VDM.value is not None:
        models[PEER] = functools.partial(peer_vdm_model, _VDM.value)
    unknown = set(_MODELS.value) - set(models)
    if unknown:
        raise app.UsageError(f"--models: unknown {sorted(unknown)}; choose among {list(models)}")
    logging.set_verbosity(logging.INFO)
    batch, shape = _BATCH.value, (_SIZE.value, _SIZE.value, 3)
    names = [name for name in models if name in (REFERENCE, *(_MODELS.value or models))]
    built = {name: compiled_functions(models[name](shape), batch, shape) for name in names}
    seconds: dict[tuple[str, str], list[float]] = {}
    for round_number in range(_ROUNDS.value + 1):
        for name, (_, _, functions) in built.items():
            for kind, function in functions.items():
                start = time.perf_counter()
                jax.block_until_ready(function())
                if round_number > 0:
                    seconds.setdefault((name, kind), []).append(time.perf_counter() - start)
    rates = {key: batch / statistics.median(values) for key, values in seconds.items()}
    logging.info(
        "%s images, batch %d, median of %d, %s", shape, batch, _ROUNDS.value, jax.devices()[0]
    )
    logging.info("model                     parameters  GFLOP  train/s (ratio)  forward/s (ratio)")
    for name, (size, gflop, _) in built.items():
        columns = " ".join(
            f"{rates[name, kind]:9.1f} ({rates[name, kind] / rates[REFERENCE, kind]:5.2f})"
            for kind in ("train", "forward")
        )
        logging.info("%-25s %9.2f M %6.3f %s", name, size / 1e6, gflop, columns)


if __name__ == "__main__":
    app.run(main)
