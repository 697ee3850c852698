"""Cards that are not those of a model, as the codec finds them beside weights."""

import json

import pytest

from diffc_jax.codec.loading import load_codec
from diffc_jax.errors import InputError
from tests.support.gaussian_run import SCHEDULE, SIDE, export_model
from tests.support.refusals import fails

CARD = {"model": {"name": "gaussian"}, "schedule": SCHEDULE, "image_size": SIDE}
UNET = {"name": "unet", "widths": [8], "blocks": [1], "heads": 1}


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"model": None}, "model: expected `object`, got `null`"),
        ({"model": {}}, "model: object missing required field `name`"),
        (
            {"model": {"name": "future"}},
            "model.name: unknown 'future'; choose one of diffusers_unet, gaussian,"
            " guided_diffusion, improved_diffusion, unet, unet_experts, vdm",
        ),
        ({"model": UNET | {"heads": "1"}}, "model.heads: expected `int`, got `str`"),
        ({"model": UNET | {"widths": 8}}, "model.widths: expected `array`, got `int`"),
        ({"model": UNET | {"blocks": [10**9]}}, "model.blocks[0]: expected `int` <= 256"),
        ({"schedule": 3}, "schedule: expected `object`, got `int`"),
        ({"schedule": {"name": "linear"}}, "schedule.gamma_min: is missing; a schedule needs it"),
        (
            {"schedule": SCHEDULE | {"gamma_max": "5"}},
            "schedule.gamma_max: expected `float`, got `str`",
        ),
        ({"image_size": 0}, "image_size: expected `int` >= 1"),
        ({"image_size": 8.0}, "image_size: expected `int`, got `float`"),
        ({"images_seen": "many"}, "images_seen: expected `int`, got `str`"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, flaw):
    export_model(tmp_path, 0.1)
    (tmp_path / "params.json").write_text(json.dumps(CARD | changes, allow_nan=False))
    text = f"{tmp_path}/params.json: {flaw}; is it the card of the weights beside it?"
    fails(InputError, text, lambda: load_codec(tmp_path))
