"""The network of improved-diffusion after its specification, in plain layers, and its checkpoints.

That of guided-diffusion has residual blocks for its resampling, and is not run here.
"""

import math
import struct
import zipfile

import numpy as np

SMALL = {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (8,)}
HEADS = 4
SIDE = 16


def program(width, multipliers, blocks, attention, side, resampling_blocks=False):
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
            if resampling_blocks:
                steps.append(("residual", f"input_blocks.{n}.0", channels, channels))
            else:
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
                name = f"output_blocks.{n}.{2 if side in attention else 1}"
                if resampling_blocks:
                    steps.append(("residual", name, channels, channels))
                else:
                    steps.append(("up",))
                    conv(f"{name}.conv", channels)
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
