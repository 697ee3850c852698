"""No number of a config or a flag may be infinity or not a number."""

import importlib
import math

import pytest
from absl import flags

from diffc_jax import cli, commands
from diffc_jax.config.sources import plain
from diffc_jax.errors import UsageError
from diffc_jax.runtime.run_config import flatten
from diffc_jax.studies.channel_comparison import config as channel_config
from diffc_jax.studies.gaussian_analysis import config as analysis_config
from tests.support.refusals import fails

VALIDATE = {
    "imagenet64_h100": commands.validate,  # a mixture of sources
    "imagenet64_vdm": commands.validate,
    "hific64": commands.validate,
    "gaussian": analysis_config.validate,
    "channel_simulation": channel_config.validate,
}


def place(config, field):
    """What holds a field, and the key of it there."""
    *path, name = field.replace("[", ".").replace("]", "").split(".")
    for part in path:
        config = config[int(part)] if isinstance(config, tuple) else config[part]
    return config, name


@pytest.mark.parametrize("name", VALIDATE)
def test_every_number_of_a_config(name):
    get_config = importlib.import_module(f"configs.{name}").get_config
    numbers = {
        field: value
        for field, value in flatten(plain(get_config())).items()
        if isinstance(value, float) or (isinstance(value, list) and float in map(type, value))
    }
    assert len(numbers) > 5
    for field, value in numbers.items():
        for bad in (math.inf, math.nan):
            config = get_config()
            holder, key = place(config, field)
            with config.unlocked():
                holder[key] = (*value[1:], bad) if isinstance(value, list) else bad
            text = f"{field}: {bad} is not a finite number"
            fails(UsageError, text, lambda config=config: VALIDATE[name](config))


def test_flags():
    values = flags.FlagValues()
    flags.DEFINE_float("bpp", 1.0, "", flag_values=values)
    flags.DEFINE_string("name", "nan", "", flag_values=values)
    flags.DEFINE_float("at", -math.inf, "", flag_values=values)
    values.mark_as_parsed()
    fails(UsageError, "--at: -inf is not a finite number", lambda: cli._check_finite(values))
