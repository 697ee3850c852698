"""Folders as diffusers writes them, with a small `UNet2DModel`."""

import json

import safetensors.numpy

SIDE = 16
LEVELS = {
    "sample_size": SIDE,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 32,
}
# As in google/ddpm-cifar10-32, and as in diffusers' tutorials.
UNETS = {
    "ddpm": LEVELS
    | {
        "attention_head_dim": None,
        "center_input_sample": False,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "out_channels": 3,
    },
    "tutorial": LEVELS
    | {
        "attention_head_dim": 8,
        "center_input_sample": True,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
        "out_channels": 6,
    },
}
# The fields of the model for them.
FIELDS = {
    "ddpm": {"widths": (32, 64), "blocks": 1, "attention": (8,)},
    "tutorial": {
        "widths": (32, 64),
        "blocks": 1,
        "attention": (8,),
        "head_channels": 8,
        "epsilon": 1e-5,
        "pad_both_sides": True,
        "sines_first": False,
        "frequency_shift": 0,
        "centre_input": True,
        "learned_variance": True,
    },
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}


def write_folder(folder, tensors, unet=None, scheduler=None, index=None):
    """Everything in one folder, as in google/ddpm-cifar10-32."""
    folder.mkdir(exist_ok=True)
    unet = {"_class_name": "UNet2DModel", "in_channels": 3} | UNETS["ddpm"] | (unet or {})
    texts = {
        "config": unet,
        "scheduler_config": SCHEDULER | (scheduler or {}),
        "model_index": {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
        | (index or {}),
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(json.dumps(text))
    safetensors.numpy.save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder
