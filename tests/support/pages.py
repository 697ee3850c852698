"""The Markdown pages of the repository, and their text without code."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
_FOLDERS = ("", "docs", "docs/results", "benchmarks", "findings", "weights")
PAGES = (
    *sorted(
        path.relative_to(ROOT).as_posix()
        for folder in _FOLDERS
        for path in (ROOT / folder).glob("*.md")
    ),
    "diffc_jax/baselines/published/README.md",
)
_BLOCK = re.compile(r"^```.*?^```[^\n]*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?:    [^\n]*\n)+")


def read(page):
    return (ROOT / page).read_text()


def blank(match):
    """As many lines as the match, empty."""
    return "\n" * match.group().count("\n")


def without_blocks(text):
    """Without blocks of code; every line keeps its number."""
    return _INDENTED.sub(blank, _BLOCK.sub(blank, text))


def without_code(text):
    """Without blocks and spans of code; every line keeps its number."""
    return re.sub(r"`[^`]*`", lambda span: "`" + blank(span) + "`", without_blocks(text))
