"""Words and openings that the documentation and the docstrings do without."""

import ast
import re

import pytest

from tests.support.pages import PAGES, ROOT, read, without_blocks, without_code

# A pattern, and what to write instead.
WORDS = {
    r"front\s+doors?": "entry point",
    r"could\s+not\s+be\s+had": "is not available",
    r"families that cannot": "subsets",
    r"without what (?:its|their) containers? says?": "without headers",
    r"lives": "is, or runs",
    r"trainees?": "task",
    r"held[- ]out": "validation",
    r"laws?": "distribution",
    r"ideal information": "ideal rate",
    r"Gaussian floor|the floor": "Gaussian baseline",
}
# On pages only; in code they have other meanings, too.
PAGE_WORDS = {r"famil(?:y|ies)": "subset", r"margins?": "BD-PSNR or BD-rate"}
PYTHON = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (
        "benchmarks",
        "configs",
        "diffc_jax",
        "examples",
        "experiments",
        "scripts",
        "tests",
    )
    for path in (ROOT / folder).rglob("*.py")
)


def found_words(text, words):
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}, better: {better}"
        for pattern, better in words.items()
        for match in re.finditer(rf"\b(?:{pattern})\b".replace(" ", r"\s+"), text, re.IGNORECASE)
    ]


def docstrings(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""


@pytest.mark.parametrize("page", PAGES)
def test_words_of_pages(page):
    found = found_words(without_code(read(page)), WORDS | PAGE_WORDS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PYTHON)
def test_words_of_docstrings(path):
    found = [
        f"docstring at line {line}: {word}"
        for line, text in docstrings(read(path))
        for word in found_words(text, WORDS)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PYTHON)
def test_modules_have_docstrings(path):
    assert ast.get_docstring(ast.parse(read(path)))


@pytest.mark.parametrize("path", PYTHON)
def test_no_docstring_opens_with_of(path):
    found = [line for line, text in docstrings(read(path)) if re.match(r"Of\b", text)]
    assert not found, f"at lines {found}"


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_short(page):
    """At most 100 columns; tables, links and code as they need."""
    lines = enumerate(without_blocks(read(page)).splitlines(), 1)
    found = [
        number for number, line in lines if len(line) > 100 and not re.search(r"^\||\]\(", line)
    ]
    assert not found, f"lines {found}"


def test_words_are_found_with_their_line():
    expected = ["line 2: 'front\\ndoor', better: entry point"]
    assert found_words("a\nfront\ndoor", WORDS) == expected
    assert found_words("by law", WORDS) == ["line 1: 'law', better: distribution"]
    assert found_words("lawn, outlaw, olives", WORDS) == []
