"""Links, anchors and file names in the documentation lead to something."""

import re
import urllib.parse

import pytest

from tests.support.pages import PAGES, ROOT, read, without_blocks, without_code

LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
FILE = re.compile(
    r"(?:benchmarks|configs|diffc_jax|docs|experiments|findings|scripts|tests|weights)/[\w./*-]+"
)


def anchors(page):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(read(page)), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


def broken_links(page, text):
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if urllib.parse.urlsplit(target).scheme:
            continue
        found = (ROOT / page).parent / path if path else ROOT / page
        if not found.exists():
            yield target
        elif anchor and anchor not in anchors(found.resolve().relative_to(ROOT).as_posix()):
            yield target


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    assert list(broken_links(page, without_code(read(page)))) == []


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page):
    """Files named in spans of code: from the root, or from the package as in `codec/chain.py`."""
    spans = re.findall(r"`([^`\s]+)`", without_blocks(read(page)))
    names = {span for span in spans if FILE.fullmatch(span)}
    names |= {f"diffc_jax/{span}" for span in spans if re.fullmatch(r"\w+/[\w/]+\.py", span)} - {
        f"diffc_jax/{name}" for name in names
    }
    assert sorted(name for name in names if not any(ROOT.glob(name))) == []


def test_a_broken_link_is_found():
    text = (
        "[a](docs/nothing.md) [b](README.md#nothing) [c](docs/theory.md#setting) [d](https://x.org)"
    )
    assert list(broken_links("README.md", text)) == ["docs/nothing.md", "README.md#nothing"]


def test_anchors_are_those_of_github():
    assert {"devices-configmesh", "object-stores"} <= anchors("docs/cluster.md")
