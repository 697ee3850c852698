"""Every field of a config says its unit and what it means, and docs/config.md repeats that."""

import pathlib
import re

from ml_collections import ConfigDict

from diffc_jax.config import base_config, fields
from diffc_jax.config.sources import source_config, training_source
from diffc_jax.models import MODELS

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "config.md"


def field_names(config, prefix=""):
    """Names of all fields; a source of images counts as one."""
    for name, value in config.items():
        if isinstance(value, ConfigDict) and "source" not in value:
            yield from field_names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_has_a_unit_and_a_meaning():
    described = {field.name: field for field in fields.describe_fields()}
    assert set(described) == set(field_names(base_config()))
    for field in described.values():
        assert field.unit
        assert re.fullmatch(r"[A-Z0].*[\w)]\.", field.meaning), field


def test_every_field_of_a_source_is_explained():
    page = PAGE.read_text()
    for name, default in source_config().items():
        assert f"| `{name}` | `{default!r}` | " in page
    for name in set(training_source(0.5)) - set(source_config()):
        assert f"| `{name}` | " in page


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == fields.config_page(MODELS), "run: python scripts/update_docs.py"
