"""Checkpoints of UQDM: names and shapes of its network, and its config.json."""


def shapes(width, blocks):
    """Shapes of the state dict by name."""
    found = {}

    def layer(name, *weight, bias=True):
        found[f"{name}.weight"] = weight
        if bias:
            found[f"{name}.bias"] = weight[:1]

    def block(name, inputs):
        layer(f"{name}.net1.0", inputs)
        layer(f"{name}.net1.2", width, inputs, 3, 3)
        layer(f"{name}.cond_proj", width, 4 * width, bias=False)
        layer(f"{name}.net2.0", width)
        layer(f"{name}.net2.2", width, width, 3, 3)
        if inputs != width:
            layer(f"{name}.skip_conv", width, inputs, 1, 1)

    layer("embed_conditioning.0", 4 * width, width)
    layer("embed_conditioning.2", 4 * width, 4 * width)
    layer("conv_in", width, 15, 3, 3)
    for i in range(blocks):
        block(f"down_blocks.{i}.resnet_block", width)
    block("mid_resnet_block_1", width)
    layer("mid_attn_block.layers.0", width)
    layer("mid_attn_block.layers.1", 3 * width, width, 1, 1)
    layer("mid_attn_block.layers.3", width, width, 1, 1)
    block("mid_resnet_block_2", width)
    for i in range(blocks + 1):
        block(f"up_blocks.{i}.resnet_block", 2 * width)
    layer("conv_out.0", width)
    layer("conv_out.2", 6, width, 3, 3)
    return found


def config_json(width, blocks, groups, **changes):
    """The part of config.json that describes the network, like that of UQDM-tiny."""
    model = {
        "n_timesteps": 4,
        "prior_type": "logistic",
        "learned_prior_scale": True,
        "noise_schedule": "learned_linear",
        "gamma_min": -12.3,
        "gamma_max": 6.0,
        "attention_everywhere": False,
        "use_fourier_features": True,
        "n_attention_heads": 1,
        "n_channels": 3,
        "vocab_size": 256,
        "embedding_dim": width,
        "n_blocks": blocks,
        "norm_groups": groups,
        "dropout_prob": 0.0,
    }
    return {"restore_ckpt": "checkpoint.pt", "model": model | changes}
