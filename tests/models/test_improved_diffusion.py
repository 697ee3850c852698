"""The port of improved-diffusion against its specification, written down once more in plain layers."""

import importlib.util
import math
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.imagenet64_converted import get_config
from diffc_jax.conversion.improved_diffusion import convert_improved_diffusion, params_from_torch
from diffc_jax.diffusion import process
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import build_model
from diffc_jax.models.improved_diffusion import (
    ImprovedDiffusionUNet,
    improved_diffusion_model,
    network_time,
    time_embedding,
    to_their_pixels,
)
from diffc_jax.runtime.export import load_params
from diffc_jax.training.experiment import build_experiment

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="parity of the U-Net needs the package torch"
)

IMAGENET64 = {"width": 128, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (16, 8)}
SMALL = {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (8,)}
HEADS = 4
SIDE = 16


def program(width, multipliers, blocks, attention, side):
    """The network as a list of steps: what runs, the name of its tensors, channels in and out."""
    steps, skips, channels, n = [], [], width, 0

    def conv(name, outputs, stride=1):
        steps.append(("conv", name, channels, outputs, stride))

    def stage(prefix, inputs, outputs):
        steps.append(("residual", f"{prefix}.0", inputs, outputs))
        if side in attention:
            steps.append(("attention", f"{prefix}.1", outputs))

    def keep():
        steps.append(("push",))
        skips.append(channels)

    steps.append(("conv", "input_blocks.0.0", 3, width, 1))
    keep()
    for level, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            n += 1
            stage(f"input_blocks.{n}", channels, multiplier * width)
            channels = multiplier * width
            keep()
        if level + 1 < len(multipliers):
            n += 1
            conv(f"input_blocks.{n}.0.op", channels, stride=2)
            keep()
            side //= 2
    steps.append(("residual", "middle_block.0", channels, channels))
    steps.append(("attention", "middle_block.1", channels))
    steps.append(("residual", "middle_block.2", channels, channels))
    n = 0
    for level in reversed(range(len(multipliers))):
        for i in range(blocks + 1):
            steps.append(("pop",))
            stage(f"output_blocks.{n}", channels + skips.pop(), multipliers[level] * width)
            channels = multipliers[level] * width
            if level and i == blocks:
                steps.append(("up",))
                conv(f"output_blocks.{n}.{2 if side in attention else 1}.conv", channels)
                side *= 2
            n += 1
    steps.append(("norm", "out.0", channels))
    conv("out.2", 6)
    return steps


def torch_shapes(width, side, **sizes):
    """Names and shapes of the state dict."""
    embedding = 4 * width
    shapes = {}

    def layer(name, *weight):
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    layer("time_embed.0", embedding, width)
    layer("time_embed.2", embedding, embedding)
    for kind, *rest in program(width=width, side=side, **sizes):
        match kind, *rest:
            case "conv", name, inputs, outputs, _:
                layer(name, outputs, inputs, 3, 3)
            case "norm", name, channels:
                layer(name, channels)
            case "attention", name, channels:
                layer(f"{name}.norm", channels)
                layer(f"{name}.qkv", 3 * channels, channels, 1)
                layer(f"{name}.proj_out", channels, channels, 1)
            case "residual", name, inputs, outputs:
                layer(f"{name}.in_layers.0", inputs)
                layer(f"{name}.in_layers.2", outputs, inputs, 3, 3)
                layer(f"{name}.emb_layers.1", 2 * outputs, embedding)
                layer(f"{name}.out_layers.0", outputs)
                layer(f"{name}.out_layers.3", outputs, outputs, 3, 3)
                if inputs != outputs:
                    layer(f"{name}.skip_connection", outputs, inputs, 1, 1)
    return shapes


def random_state_dict(shapes):
    """Weights that keep the signal's size, none of them at its initial value."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in shapes.items():
        value = rng.standard_normal(shape)
        if len(shape) > 1:
            value /= math.sqrt(math.prod(shape[1:]))
        else:
            value = 0.2 * value + name.endswith("weight")
        state[name] = value.astype(np.float32)
    return state


def run_in_torch(steps, state, y, time):
    """The outputs for channel-last images and times, by plain layers."""
    import torch
    from torch.nn import functional

    tensors = {name: torch.from_numpy(value) for name, value in state.items()}

    def parameters(name):
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def norm(x, name):
        return functional.group_norm(x, 32, *parameters(name), eps=1e-5)

    def residual(x, name):
        h = functional.silu(norm(x, f"{name}.in_layers.0"))
        h = functional.conv2d(h, *parameters(f"{name}.in_layers.2"), padding=1)
        modulation = functional.linear(
            functional.silu(embedding), *parameters(f"{name}.emb_layers.1")
        )
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
        h = functional.silu(norm(h, f"{name}.out_layers.0") * (1 + scale) + shift)
        h = functional.conv2d(h, *parameters(f"{name}.out_layers.3"), padding=1)
        if f"{name}.skip_connection.weight" in tensors:
            x = functional.conv2d(x, *parameters(f"{name}.skip_connection"))
        return x + h

    def attention(x, name):
        b, c, height, width = x.shape
        flat = x.reshape(b, c, height * width)
        qkv = functional.conv1d(norm(flat, f"{name}.norm"), *parameters(f"{name}.qkv"))
        q, k, v = qkv.reshape(b * HEADS, 3 * c // HEADS, -1).split(c // HEADS, dim=1)
        scale = (c // HEADS) ** -0.25
        weights = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(dim=-1)
        mixed = torch.einsum("bts,bcs->bct", weights, v).reshape(b, c, -1)
        return x + functional.conv1d(mixed, *parameters(f"{name}.proj_out")).reshape(x.shape)

    width = tensors["time_embed.0.weight"].shape[1]
    frequencies = torch.tensor([1e4 ** (-i / (width // 2)) for i in range(width // 2)])
    angles = torch.from_numpy(time)[:, None] * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    embedding = functional.silu(functional.linear(embedding, *parameters("time_embed.0")))
    embedding = functional.linear(embedding, *parameters("time_embed.2"))

    x, skips = torch.from_numpy(np.ascontiguousarray(y.transpose(0, 3, 1, 2))), []
    for kind, *rest in steps:
        match kind, *rest:
            case ("push",):
                skips.append(x)
            case ("pop",):
                x = torch.cat([x, skips.pop()], dim=1)
            case ("up",):
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            case "conv", name, _, _, stride:
                x = functional.conv2d(x, *parameters(name), stride=stride, padding=1)
            case "residual", name, _, _:
                x = residual(x, name)
            case "attention", name, _:
                x = attention(x, name)
            case "norm", name, _:
                x = functional.silu(norm(x, name))
    return x.numpy().transpose(0, 2, 3, 1)


def write_pt(path, state, pickled=None):
    """The zip archive of torch.save(state_dict, path), opcode by opcode."""

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    empty = b"ccollections\nOrderedDict\n)R"
    content = b"\x80\x02" + empty
    for key, (name, array) in enumerate(state.items()):
        strides = [stride // array.itemsize for stride in array.strides]
        content += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        content += text("storage") + b"ctorch\nFloatStorage\n" + text(str(key)) + text("cpu")
        content += number(array.size) + b"tQ" + number(0) + numbers(array.shape) + numbers(strides)
        content += b"\x89" + empty + b"tRs"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled or content + b".")
        archive.writestr("archive/version", b"3\n")
        for key, array in enumerate(state.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return path


@pytest.fixture(scope="module")
def state_dict():
    return random_state_dict(torch_shapes(side=SIDE, **SMALL))


@pytest.fixture(scope="module")
def params(state_dict):
    return params_from_torch(
        state_dict, template(improved_diffusion_model((SIDE, SIDE, 3), **SMALL))
    )


def template(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]


def test_imagenet64_has_the_parameters_of_the_checkpoints():
    shapes = torch_shapes(side=64, **IMAGENET64)
    assert sum(map(math.prod, shapes.values())) == 121_063_942
    leaves = jax.tree.leaves(template(build_model(get_config().model.to_dict(), (64, 64, 3))))
    assert sum(leaf.size for leaf in leaves) == 121_063_942


def images_and_times():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)
    return y, np.array([2.75, 613.5], np.float32)


@pytest.fixture(scope="module")
def outputs(params):
    network = ImprovedDiffusionUNet(outputs=6, heads=HEADS, dtype=jnp.float32, **SMALL)
    return np.asarray(jax.jit(network.apply)({"params": params}, *images_and_times()))


@needs_torch
def test_outputs_are_those_of_the_specification_in_torch(state_dict, outputs):
    expected = run_in_torch(program(side=SIDE, **SMALL), state_dict, *images_and_times())
    assert 0.3 < expected.std() < 3.0
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)


# Some outputs of two images as `run_in_torch` computed them with torch 2.13.0.
TORCH_OUTPUTS = np.array(
    [
        *(0.761518, 0.185212, 0.335125, -1.448054, 0.357054, 0.047849, 0.181549, -0.356517),
        *(-1.514566, -0.498646, 0.187901, -0.722803, -0.803815, -1.405829, -0.400684, -2.051734),
    ]
)


def test_outputs_as_torch_computed_them(outputs):
    np.testing.assert_allclose(
        outputs[:, 3::8, 5::8, ::5].ravel(), TORCH_OUTPUTS, rtol=0, atol=1e-4
    )


@needs_torch
def test_torch_outputs_are_current(state_dict):
    found = run_in_torch(program(side=SIDE, **SMALL), state_dict, *images_and_times())
    np.testing.assert_allclose(found[:, 3::8, 5::8, ::5].ravel(), TORCH_OUTPUTS, rtol=0, atol=1e-5)


@needs_torch
def test_torch_reads_the_archive_of_these_tests(state_dict, tmp_path):
    import torch

    ours = write_pt(tmp_path / "ours.pt", state_dict)
    loaded = torch.load(ours, weights_only=True)
    assert list(loaded) == list(state_dict)
    assert all(np.array_equal(loaded[name], value) for name, value in state_dict.items())


def test_time_is_that_of_every_index_of_the_discrete_schedule():
    """Betas from decreases of a squared cosine, capped; noise levels from their running product."""
    steps = 4000
    angles = (np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2
    betas = np.minimum(1 - np.cos(angles[1:]) ** 2 / np.cos(angles[:-1]) ** 2, 0.999)
    assert (betas == 0.999).sum() == 1
    signal = np.cumprod(1 - betas)
    gamma = np.log1p(-signal) - np.log(signal)
    np.testing.assert_allclose(gamma[[0, -2, -1]], [-11.5264, 15.7007, 22.6085], atol=1e-4)
    time = np.asarray(network_time(jnp.asarray(gamma, jnp.float32)))
    expected = np.arange(steps) / 4
    np.testing.assert_allclose(time[:-1], expected[:-1], rtol=0, atol=5e-4)
    np.testing.assert_allclose(time[-1], expected[-1] - 0.008, rtol=0, atol=5e-4)


def test_time_stays_within_the_indices():
    time = network_time(jnp.array([-40.0, -11.54, -11.5, 40.0]))
    np.testing.assert_array_equal(time[jnp.array([0, 1, 3])], [0.0, 0.0, 999.75])
    assert 0.0 < time[2] < 0.25
    _, least = to_their_pixels(
        jnp.zeros((1, SIDE, SIDE, 3)), jnp.array([get_config().schedule.gamma_min])
    )
    assert 0.0 < network_time(least)[0] < 0.1


def test_cosines_come_first():
    embedding = time_embedding(jnp.array([0.0, 2.0]), 4)
    angles = [2.0, 0.02]
    np.testing.assert_allclose(embedding[0], [1, 1, 0, 0])
    np.testing.assert_allclose(embedding[1], [*np.cos(angles), *np.sin(angles)], rtol=1e-6)


def test_pixels_become_theirs_with_the_same_noise():
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (5, 4, 4, 3))
    eps = jnp.asarray(rng.standard_normal(pixels.shape), jnp.float32)
    gamma = jnp.array([-11.5, -6.0, 0.0, 3.0, 8.0])
    z = process.diffuse(process.pixels_to_unit(jnp.asarray(pixels)), eps, gamma)
    found, theirs = to_their_pixels(z, gamma)
    y = jnp.asarray(pixels / 127.5 - 1.0, jnp.float32)
    np.testing.assert_allclose(found, process.diffuse(y, eps, theirs), rtol=0, atol=2e-6)


def test_eps_hat_is_the_first_half_of_the_outputs(params, outputs):
    """The model at the z and gamma that become the image and the time of `outputs`."""
    y, time = images_and_times()
    tau = (time.astype(np.float64) + 0.25) / 1000
    angles = (np.array([*tau, 0.0]) + 0.008) / 1.008 * np.pi / 2
    signal = np.cos(angles[:2]) ** 2 / np.cos(angles[2]) ** 2
    ratio = (1 - signal) / signal * (255 / 256) ** 2
    scale = np.sqrt(ratio / (1 + ratio) / (1 - signal))
    z = (y * scale[:, None, None, None]).astype(np.float32)
    model = improved_diffusion_model((SIDE, SIDE, 3), **SMALL)
    gamma = jnp.asarray(np.log(ratio), jnp.float32)
    eps = jax.jit(model.eps_hat)({"params": params}, jnp.asarray(z), gamma)
    np.testing.assert_allclose(eps, outputs[..., :3], rtol=0, atol=1e-3)


def test_bfloat16_is_close_to_float32(params, outputs):
    network = ImprovedDiffusionUNet(outputs=6, heads=HEADS, dtype=jnp.bfloat16, **SMALL)
    rounded = jax.jit(network.apply)({"params": params}, *images_and_times())
    assert rounded.dtype == jnp.float32
    assert 0.0 < jnp.std(rounded - outputs) < 0.03 * jnp.std(outputs)


def test_it_starts_from_zero():
    model = improved_diffusion_model((SIDE, SIDE, 3), **SMALL)
    head = jax.jit(lambda key: model.init(key, None)["params"]["out.2"])(jax.random.key(0))
    assert not any(jnp.any(leaf) for leaf in head.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48}, "width: 48 is not a multiple of 32, the number of groups of the norms"),
        ({"heads": 5}, "width: 32 is not a multiple of 5, the number of heads (model.heads)"),
        ({"multipliers": ()}, "multipliers: 0 must be at least 1"),
        (
            {"multipliers": (1,) * 6},
            "image_shape: 16 is not a multiple of 32, halved 5 times by the levels",
        ),
        ({"dtype": "half"}, "dtype: unknown 'half'; choose one of float32, bfloat16"),
    ],
)
def test_bad_fields_are_named(changes, message):
    with pytest.raises(UsageError) as error:
        improved_diffusion_model((SIDE, SIDE, 3), **{**SMALL, **changes})
    assert str(error.value) == f"model.{message}"


def smoke_config():
    config = get_config("smoke")
    assert {name: config.model[name] for name in SMALL} == SMALL
    assert config.data.image_size == SIDE
    return config


def test_converted_checkpoint_is_evaluated(state_dict, tmp_path, caplog):
    # Parity with torch is tested where the packages for evaluation may be missing.
    from diffc_jax.evaluation.evaluate import evaluate
    from diffc_jax.evaluation.results import read_rate_points

    config = smoke_config()
    source, workdir = write_pt(tmp_path / "net.pt", state_dict), tmp_path / "W"
    with caplog.at_level("INFO", "absl"):
        convert_improved_diffusion(config, source, None)
        assert not workdir.exists()
        convert_improved_diffusion(config, source, workdir)
    count = sum(array.size for array in state_dict.values())
    assert f"{source}: {count} parameters, sha256 " in caplog.text

    experiment = build_experiment(config)
    state = experiment.state_template()
    tree = load_params(workdir / "params.safetensors", {"params": state.ema, "fixed": state.fixed})
    kernel = tree["params"]["model"]["middle_block.1"]["qkv"]["kernel"]
    assert kernel[0, 3, 70] == state_dict["middle_block.1.qkv.weight"][70, 3, 0]
    kernel = tree["params"]["model"]["input_blocks.2.0.op"]["kernel"]
    assert kernel[0, 2, 5, 7] == state_dict["input_blocks.2.0.op.weight"][7, 5, 0, 2]

    config.eval.decoders, config.eval.codec_decoders = ("mean",), ()
    config.eval.num_levels = 2
    config.eval.params = str(workdir / "params.safetensors")
    evaluate(config, workdir)
    points = read_rate_points(workdir / "eval" / "rd.csv")
    assert {(p.model, p.checkpoint) for p in points} == {
        ("improved_diffusion", "params.safetensors")
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out.2.bias": None}, "1 tensors are missing, the first is 'out.2.bias'"),
        (
            {"label_emb.weight": np.zeros((10, 128), np.float32)},
            "1 tensors are unexpected, the first is 'label_emb.weight'",
        ),
        (
            {"middle_block.1.qkv.weight": np.zeros((192, 64), np.float32)},
            "1 tensors have another shape, the first is 'middle_block.1.qkv.weight' ((192, 64) "
            "instead of (192, 64, 1))",
        ),
        (
            {"out.0.bias": np.full(32, np.inf, np.float32)},
            "1 tensors are not finite floats, the first is 'out.0.bias'",
        ),
    ],
)
def test_other_networks_are_refused(state_dict, tmp_path, changes, message):
    changed = {name: value for name, value in (state_dict | changes).items() if value is not None}
    path = write_pt(tmp_path / "net.pt", changed)
    with pytest.raises(InputError) as error:
        convert_improved_diffusion(smoke_config(), path, tmp_path)
    assert str(error.value) == f"{path}: is not the network of --config: {message}"
    assert not (tmp_path / "params.safetensors").exists()


def test_a_pickle_that_calls_is_not_executed(tmp_path):
    path = write_pt(tmp_path / "net.pt", {}, b"\x80\x02cos\nmkdir\n(X\x01\x00\x00\x00dtR.")
    with pytest.raises(InputError) as error:
        convert_improved_diffusion(smoke_config(), path, tmp_path)
    assert str(error.value).startswith(
        f"{path}: refers to os.mkdir, which no plain state dict needs"
    )


def test_a_missing_file_and_other_configs_are_refused(tmp_path):
    path = tmp_path / "net.pt"
    with pytest.raises(InputError) as error:
        convert_improved_diffusion(smoke_config(), path, tmp_path)
    assert str(error.value) == f"{path}: cannot be read (No such file or directory)"

    config = smoke_config()
    config.schedule.name = "learned_linear"
    with pytest.raises(UsageError) as usage:
        convert_improved_diffusion(config, path, tmp_path)
    assert str(usage.value) == (
        "schedule.name: 'learned_linear' has parameters, which the checkpoint has not; use 'linear'"
    )
    config = smoke_config()
    config.model.name = "unet"
    with pytest.raises(UsageError) as usage:
        convert_improved_diffusion(config, path, tmp_path)
    assert str(usage.value) == "model.name: 'unet' is not 'improved_diffusion', the checkpoint's"
