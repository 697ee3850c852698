"""What a program is given is its own config, without misspelt fields, and no empty name."""

import re

import pytest
from absl import flags
from ml_collections import ConfigDict

from diffc_jax.cli import parse_flags
from diffc_jax.config import base_config, source_config, validate
from diffc_jax.studies.channel_comparison.config import channel_config
from diffc_jax.studies.channel_comparison.config import validate as validate_channels
from diffc_jax.studies.gaussian_analysis.config import analysis_config
from diffc_jax.studies.gaussian_analysis.config import validate as validate_analysis
from tests.support.refusals import message

CHECKS = {
    "train": (base_config, validate),
    "gaussian": (analysis_config, validate_analysis),
    "channel_simulation": (channel_config, validate_channels),
}


@pytest.mark.parametrize("other", CHECKS)
@pytest.mark.parametrize("program", CHECKS)
def test_configs_of_other_programs_are_refused(program, other):
    (_, check), (make, _) = CHECKS[program], CHECKS[other]
    if other == program:
        check(make())
    else:
        pattern = r"--config: has no '\w+', so it is the config of another program"
        assert re.fullmatch(pattern, message(lambda: check(make())))


def test_a_model_needs_its_name():
    config = base_config()
    config.model = ConfigDict({"patch": 4})
    assert message(lambda: validate(config)) == "model.name: is missing"


def test_misspelt_fields_of_a_source_are_refused():
    config = base_config()
    config.data.eval = source_config(source="folder", pth="x")
    assert message(lambda: validate(config)) == "data.eval.pth: is no field of a source"


@pytest.mark.parametrize("name", ["workdir", "output", "input", "inputs", "model", "report"])
def test_names_that_are_empty_are_refused(name):
    """They would be the current folder."""
    argv, values = ["program.py", f"--{name}="], flags.FlagValues()
    flags.DEFINE_string(name, None, "", flag_values=values)
    assert message(lambda: parse_flags(argv, values)) == f"--{name}: is empty"
