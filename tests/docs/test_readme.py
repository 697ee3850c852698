"""The README is one screen, its code runs, and what the project says of itself agrees."""

import configparser
import re

import numpy as np
import PIL.Image
import yaml

from diffc_jax.training.experiment import open_source
from tests.support.pages import PAGES, ROOT, read


def test_length():
    assert len(read("README.md").splitlines()) <= 90


def test_python_block_compresses_a_photograph(tmp_path, monkeypatch):
    from configs import quickstart

    config = quickstart.get_config()
    photograph = open_source(config, "eval")[0]
    PIL.Image.fromarray(photograph).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", read("README.md"), re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert len(names["data"]) * 8 <= 0.5 * photograph.shape[0] * photograph.shape[1]
    assert names["decoded"].dtype == np.uint8
    error = names["decoded"].astype(np.float64) - photograph
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 30


def test_every_config_is_listed():
    for path in (ROOT / "configs").glob("*.py"):
        assert f"`{path.name}`" in read("README.md") + read("docs/usage.md"), path.name


def test_every_benchmark_is_described():
    library = {
        "distortions.py",
        "shared.py",
        *(f"accelerator_{part}.py" for part in ("codec", "jobs", "networks", "sweep")),
    }
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert path.name in library or f"`{path.name}`" in read("benchmarks/README.md"), path.name


def test_versions_are_those_of_the_changelog():
    """The newest release is what is cited; changes since then make a version in development."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    version = setup["metadata"]["version"]
    changelog = read("CHANGELOG.md")
    released = re.search(r"^## \[(\d[\w.]*)\] - \d{4}-\d\d-\d\d$", changelog, re.M)[1]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == released
    if "## [Unreleased]" in changelog:
        assert version.endswith(".dev0")
        after, before = (
            tuple(map(int, text.split("."))) for text in (version.removesuffix(".dev0"), released)
        )
        assert after > before
    else:
        assert version == released


def test_every_page_is_in_the_site():
    site = read("mkdocs.yml")
    assert [page for page in PAGES if not re.search(rf": {re.escape(page)}$", site, re.M)] == []
