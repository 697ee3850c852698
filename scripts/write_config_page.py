"""Writes docs/config.md, the page of all fields of a config: python scripts/write_config_page.py."""

import pathlib

from diffc_jax.config.fields import config_page

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "config.md"

if __name__ == "__main__":
    PAGE.write_text(config_page())
