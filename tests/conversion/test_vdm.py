"""Conversion of VDM checkpoints against their network, written down once more from its description."""

import math

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cifar10_converted import get_config
from diffc_jax.conversion.checkpoint import write_converted
from diffc_jax.conversion.vdm import convert_vdm, params_from_vdm, read_checkpoint
from diffc_jax.diffusion.schedules import build_schedule
from diffc_jax.errors import InputError
from diffc_jax.models import build_model
from diffc_jax.runtime.export import load_params
from diffc_jax.training.experiment import build_experiment

# Wider than the 32 groups: shifts of single channels would not outlive their norm.
SIDE, WIDTH, BLOCKS = 16, 64, 2
STEP = 1234


def checkpoint_shapes(width, blocks):
    """Names and shapes of their score model."""
    shapes = {}

    def layer(name, *kernel, bias=True):
        shapes[f"{name}/kernel"] = kernel
        if bias:
            shapes[f"{name}/bias"] = kernel[-1:]

    def norm(name, channels):
        shapes[f"{name}/scale"] = shapes[f"{name}/bias"] = (channels,)

    def block(name, inputs):
        norm(f"{name}/GroupNorm_0", inputs)
        layer(f"{name}/conv1", 3, 3, inputs, width)
        layer(f"{name}/cond_proj", 4 * width, width, bias=False)
        norm(f"{name}/GroupNorm_1", width)
        layer(f"{name}/conv2", 3, 3, width, width)
        if inputs != width:
            layer(f"{name}/nin_shortcut", inputs, width)

    layer("dense0", width + 1, 4 * width)
    layer("dense1", 4 * width, 4 * width)
    layer("conv_in", 3, 3, 15, width)
    for i in range(blocks):
        block(f"down.block_{i}", width)
    block("mid.block_1", width)
    norm("mid.attn_1/GroupNorm_0", width)
    for name in ("q", "k", "v", "proj_out"):
        layer(f"mid.attn_1/{name}", width, width)
    block("mid.block_2", width)
    for i in range(blocks + 1):
        block(f"up.block_{i}", 2 * width)
    norm("GroupNorm_0", width)
    layer("conv_out", 3, 3, width, 3)
    return {f"score_model/{name}": shape for name, shape in shapes.items()}


SCHEDULES = {
    "linear": {},
    "learned_linear": {"w": (1,), "b": (1,)},
    "learned_network": {
        "l1/kernel": (1, 1),
        "l1/bias": (1,),
        "l2/kernel": (1, 1024),
        "l2/bias": (1024,),
        "l3/kernel": (1024, 1),
    },
}


def random_tensors(schedule):
    """Weights that keep the signal's size; a noise range near [-13.3, 5], slopes of either sign."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in checkpoint_shapes(WIDTH, BLOCKS).items():
        value = rng.standard_normal(shape)
        if len(shape) > 1:
            value /= np.sqrt(np.prod(shape[:-1]))
        else:
            value = 0.2 * value + name.endswith("scale")
        tensors[name] = value
    for name, shape in SCHEDULES[schedule].items():
        tensors[f"gamma/{name}"] = 3.0 * rng.standard_normal(shape)
    for name, value in {"w": -18.2, "b": -13.2, "l1/kernel": -18.1, "l1/bias": -13.1}.items():
        if f"gamma/{name}" in tensors:
            tensors[f"gamma/{name}"][:] = value
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def reference_eps(tensors, z, gamma):
    """Their network: eps_hat of noisy images."""
    at = {name.removeprefix("score_model/"): value for name, value in tensors.items()}

    def conv(x, name):
        x = jax.lax.conv_general_dilated(
            x, at[f"{name}/kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return x + at[f"{name}/bias"].reshape(1, 1, 1, -1)

    def norm(x, name):
        b, h, w, c = x.shape
        groups = x.reshape(b, h * w, 32, c // 32)
        mean = groups.mean((1, 3), keepdims=True)
        deviation = jnp.sqrt(groups.var((1, 3), keepdims=True) + 1e-6)
        normalised = ((groups - mean) / deviation).reshape(x.shape)
        scale, shift = (at[f"{name}/{leaf}"].reshape(1, 1, 1, c) for leaf in ("scale", "bias"))
        return normalised * scale + shift

    def swish(x):
        return x / (1.0 + jnp.exp(-x))

    def block(x, name):
        h = conv(swish(norm(x, f"{name}/GroupNorm_0")), f"{name}/conv1")
        h = h + (condition @ at[f"{name}/cond_proj/kernel"])[:, None, None]
        h = conv(swish(norm(h, f"{name}/GroupNorm_1")), f"{name}/conv2")
        if f"{name}/nin_shortcut/kernel" in at:
            x = jnp.einsum("bhwi,io->bhwo", x, at[f"{name}/nin_shortcut/kernel"])
            x = x + at[f"{name}/nin_shortcut/bias"].reshape(1, 1, 1, -1)
        return x + h

    def attention(x, name):
        pixels = norm(x, f"{name}/GroupNorm_0").reshape(len(x), -1, x.shape[-1])
        q, k, v = (
            jnp.einsum("bni,io->bno", pixels, at[f"{name}/{which}/kernel"])
            + at[f"{name}/{which}/bias"].reshape(1, 1, -1)
            for which in "qkv"
        )
        logits = jnp.einsum("bnc,bmc->bnm", q, k) / np.sqrt(x.shape[-1])
        mixed = jnp.einsum("bnm,bmc->bnc", jax.nn.softmax(logits, axis=-1), v)
        projected = jnp.einsum("bni,io->bno", mixed, at[f"{name}/proj_out/kernel"])
        return x + (projected + at[f"{name}/proj_out/bias"].reshape(1, 1, -1)).reshape(x.shape)

    position = 1000.0 * (gamma + 13.3) / 18.3
    frequencies = 1e4 ** (-np.arange(WIDTH // 2) / (WIDTH // 2 - 1))
    angles = position[:, None] * frequencies[None]
    not_augmented = jnp.zeros((len(z), 1))
    condition = jnp.concatenate([jnp.sin(angles), jnp.cos(angles), not_augmented], axis=1)
    for name in ("dense0", "dense1"):
        condition = condition @ at[f"{name}/kernel"] + at[f"{name}/bias"].reshape(1, -1)
        condition = swish(condition)
    waves = [
        [function(2 * np.pi * 2**n * z[..., c]) for c in range(3) for n in (6, 7)]
        for function in (jnp.sin, jnp.cos)
    ]
    x = jnp.concatenate([z, jnp.stack(waves[0] + waves[1], axis=-1)], axis=-1)
    x = conv(x, "conv_in")
    skips = [x]
    for i in range(BLOCKS):
        x = block(x, f"down.block_{i}")
        skips.append(x)
    x = attention(block(x, "mid.block_1"), "mid.attn_1")
    x = block(x, "mid.block_2")
    for i in range(BLOCKS + 1):
        x = block(jnp.concatenate([x, skips.pop()], axis=-1), f"up.block_{i}")
    return z + conv(swish(norm(x, "GroupNorm_0")), "conv_out")


def reference_gamma(tensors, schedule, t):
    """Their noise schedules, float64."""
    at = {name.removeprefix("gamma/"): value.astype(np.float64) for name, value in tensors.items()}
    if schedule == "learned_linear":
        return at["b"] + np.abs(at["w"]) * t
    hidden = np.multiply.outer(2 * (t - 0.5), np.abs(at["l2/kernel"][0])) + at["l2/bias"]
    hidden = 2 * (1 / (1 + np.exp(-hidden)) - 0.5)
    line = at["l1/bias"] + np.abs(at["l1/kernel"][0]) * t
    return line + hidden @ np.abs(at["l3/kernel"][:, 0]) / 1024


def write_checkpoint(path, tensors, **others):
    tree = flax.traverse_util.unflatten_dict(tensors, sep="/")
    raw = jax.tree.map(np.zeros_like, tree)
    state = {"step": STEP, "params": raw, "ema_params": tree, "opt_state": {"0": {}}}
    path.write_bytes(flax.serialization.msgpack_serialize(state | others))
    return path


def template():
    model = build_model(smoke_config().model.to_dict(), (SIDE, SIDE, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]


def smoke_config(schedule="learned_linear"):
    config = get_config("smoke")
    assert (config.data.image_size, config.model.width) == (SIDE, WIDTH)
    config.model.blocks = BLOCKS
    config.schedule.name = schedule
    return config


@pytest.fixture(scope="module")
def tensors():
    return random_tensors("learned_linear")


def test_cifar10_has_the_parameters_of_the_checkpoint():
    config = get_config()
    model = build_model(config.model.to_dict(), (32, 32, 3))
    ours = jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]
    theirs = checkpoint_shapes(config.model.width, config.model.blocks).values()
    not_used = 4 * config.model.width  # weights of the kind of augmentation
    count = sum(map(math.prod, theirs)) - not_used
    assert count == sum(leaf.size for leaf in jax.tree.leaves(ours)) == 30_577_667


def test_eps_hat_is_that_of_their_network(tensors):
    params = params_from_vdm(tensors, template(), "learned_linear")
    model = build_model(smoke_config().model.to_dict(), (SIDE, SIDE, 3))
    z = jnp.asarray(np.random.default_rng(1).standard_normal((2, SIDE, SIDE, 3)), jnp.float32)
    gamma = jnp.array([-9.0, 1.3])
    expected = jax.jit(lambda z: reference_eps(tensors, z, gamma))(z)
    found = jax.jit(model.eps_hat)({"params": params["model"]}, z, gamma)
    assert 0.3 < jnp.std(expected - z) < 3.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("schedule", ["learned_linear", "learned_network"])
def test_gamma_is_that_of_their_schedule(schedule):
    tensors = random_tensors(schedule)
    params = params_from_vdm(tensors, template(), schedule)["schedule"]
    ours = build_schedule(schedule, -13.3, 5.0)
    shapes = jax.eval_shape(ours.init, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda s: s.shape, shapes)
    t = np.linspace(0.0, 1.0, 201)
    expected = reference_gamma(tensors, schedule, t)
    assert np.all(np.diff(expected) > 0)
    found = ours.gamma(jax.tree.map(jnp.asarray, params), jnp.asarray(t, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_converted_checkpoint_fits_the_config(tensors, tmp_path, caplog):
    config = smoke_config()
    source, workdir = write_checkpoint(tmp_path / "ckpt-7.flax", tensors), tmp_path / "W"
    with caplog.at_level("INFO", "absl"):
        convert_vdm(config, source, None)
        assert not workdir.exists()
        convert_vdm(config, source, workdir)
    assert "learned schedule: start = -13.2000" in caplog.text

    state = build_experiment(config).state_template()
    path = workdir / "params.safetensors"
    tree = load_params(path, {"params": state.ema, "fixed": state.fixed})
    model = tree["params"]["model"]
    qkv = model["SelfAttention_0"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(
        qkv[:, WIDTH : 2 * WIDTH], tensors["score_model/mid.attn_1/k/kernel"]
    )
    embedding = model["GammaEmbedding_0"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(embedding, tensors["score_model/dense0/kernel"][:WIDTH])
    card = path.with_suffix(".json").read_text()
    assert f'"step": {STEP}' in card
    assert '"file": "ckpt-7.flax"' in card


@pytest.mark.parametrize(
    ("schedule", "changes", "message"),
    [
        (
            "learned_network",
            {},
            "5 tensors are missing, the first is 'gamma/l1/kernel'",
        ),
        ("linear", {}, "2 tensors are unexpected, the first is 'gamma/b'"),
        (
            "learned_linear",
            {"score_model/down.attn_0/q/bias": np.zeros(32, np.float32)},
            "1 tensors are unexpected, the first is 'score_model/down.attn_0/q/bias'",
        ),
        (
            "learned_linear",
            {"score_model/dense0/kernel": np.zeros((64, 256), np.float32)},
            "1 tensors have another shape, the first is 'score_model/dense0/kernel' ((64, 256) "
            "instead of (65, 256))",
        ),
        (
            "learned_linear",
            {"score_model/conv_out/bias": np.zeros(3, np.int32)},
            "1 tensors are not finite floats, the first is 'score_model/conv_out/bias'",
        ),
    ],
)
def test_other_networks_are_refused(tensors, tmp_path, schedule, changes, message):
    path = write_checkpoint(tmp_path / "ckpt-1.flax", tensors | changes)
    with pytest.raises(InputError) as error:
        convert_vdm(smoke_config(schedule), path, tmp_path)
    assert str(error.value) == f"{path}: is not the network of --config: {message}"
    assert not (tmp_path / "params.safetensors").exists()


def test_a_noise_schedule_that_cannot_be_used_is_refused(tmp_path):
    source = tmp_path / "ckpt-1.flax"
    source.touch()
    params = {"model": {}, "schedule": {"start": np.float32(2), "range": np.float32(0)}}
    with pytest.raises(InputError, match=r"its noise schedule goes from gamma 2 to 2, which must"):
        write_converted(smoke_config("learned_linear"), params, {}, source, tmp_path)
    assert not (tmp_path / "params.safetensors").exists()


def test_parameters_beyond_float32_are_refused(tmp_path):
    params = {"model": {"bias": np.array([np.inf], np.float32)}, "schedule": {}}
    with pytest.raises(InputError, match=r"1 tensors are not finite as float32, the first is 'mod"):
        write_converted(smoke_config("linear"), params, {}, tmp_path / "ckpt-1.flax", tmp_path)


def test_other_files_are_refused(tensors, tmp_path):
    def message(path):
        with pytest.raises(InputError) as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
        return str(error.value).replace(str(path), "FILE")

    what = "FILE: is not a Flax checkpoint with 'ema_params' and 'step', or is damaged"
    assert message(tmp_path / "none") == "FILE: cannot be read (No such file or directory)"
    assert message(tmp_path) == "FILE: cannot be read (Is a directory)"
    path = tmp_path / "ckpt-1.flax"
    path.write_bytes(flax.serialization.msgpack_serialize({"params": {}}))
    assert message(path) == f"{what} (no 'ema_params')"
    whole = write_checkpoint(path, tensors).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert message(path).startswith(f"{what} (")
    path.write_bytes(b"PK\x03\x04 no msgpack")
    assert message(path).startswith(what)
    # The name of a type is not a way to reach objects: NumPy refuses to make them from bytes.
    write_checkpoint(path, tensors | {"gamma/w": np.zeros(1, "V8")})
    path.write_bytes(path.read_bytes().replace(b"void64", b"object"))
    assert message(path).startswith(f"{what} (cannot create an OBJECT array")
