"""Writes what docs say from code: the columns of rd.csv in docs/output_files.md, and docs/config.md.

python scripts/update_docs.py
"""

import pathlib

from diffc_jax.config.fields import config_page
from diffc_jax.evaluation.results import columns_table
from diffc_jax.models import MODELS

_DOCS = pathlib.Path(__file__).parent.parent / "docs"
OUTPUT_FILES, CONFIG = _DOCS / "output_files.md", _DOCS / "config.md"
BEGIN, END = "<!-- columns of rd.csv -->\n", "<!-- end -->\n"


def with_columns_table(text: str) -> str:
    """The text of docs/output_files.md with the table as the code has it."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END, maxsplit=1)
    return f"{before}{BEGIN}{columns_table()}\n{END}{after}"


if __name__ == "__main__":
    OUTPUT_FILES.write_text(
        with_columns_table(OUTPUT_FILES.read_text(encoding="utf-8")), encoding="utf-8"
    )
    CONFIG.write_text(config_page(MODELS), encoding="utf-8")
