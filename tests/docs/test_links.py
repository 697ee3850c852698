"""Links, anchors and file names in the documentation lead to something."""

import re
import urllib.parse

import pytest

from tests.support.pages import PAGES, ROOT, read, without_blocks, without_code

LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
FILE = re.compile(
    r"(?:benchmarks|configs|diffc_jax|docs|examples|experiments|findings|scripts|tests|weights)/[\w./*-]+"
)
IN_PACKAGE = re.compile(r"\w+(?:/\w+)+\.py")


def anchors(page):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(read(page)), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


def leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    found = (ROOT / page).parent / path if path else ROOT / page
    if not found.exists() or not anchor:
        return found.exists()
    return anchor in anchors(found.resolve().relative_to(ROOT).as_posix())


def broken_links(page, text):
    """Links of a page to other places in the repository that are not there; others are not looked at."""
    links = (link for link in LINK.findall(text) if not urllib.parse.urlsplit(link).scheme)
    return [link for link in links if not leads_somewhere(page, link)]


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    assert broken_links(page, without_code(read(page))) == []


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page):
    """Files named in spans of code: from the root, or from the package as in `codec/chain.py`."""
    spans = set(re.findall(r"`([^`\s]+)`", without_blocks(read(page))))
    names = {span for span in spans if FILE.fullmatch(span)}
    names |= {f"diffc_jax/{span}" for span in spans - names if IN_PACKAGE.fullmatch(span)}
    assert sorted(name for name in names if not any(ROOT.glob(name))) == []


def test_a_broken_link_is_found():
    text = (
        "[a](docs/nothing.md) [b](README.md#nothing) [c](docs/theory.md#setting) [d](https://x.org)"
    )
    assert broken_links("README.md", text) == ["docs/nothing.md", "README.md#nothing"]


def test_anchors_are_those_of_github():
    assert {"devices-configmesh", "object-stores"} <= anchors("docs/cluster.md")
