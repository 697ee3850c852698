"""Hook of mkdocs.yml: the site has the layout of the repository, so that relative links work in both.

Pages of docs/ move to docs/ in the site, and the pages and files outside it that they link to join them.
"""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parent.parent
OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "benchmarks/README.md",
    "diffc_jax/baselines/published/README.md",
    "findings/README.md",
    "weights/README.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("examples/*.py"))),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Gives every file the path that it has in the repository; the theme's own files stay."""
    moved = [
        File.generated(config, f"docs/{file.src_uri}", abs_src_path=file.abs_src_path)
        if file.src_dir == config.docs_dir
        else file
        for file in files
    ]
    outside = [File.generated(config, name, abs_src_path=str(ROOT / name)) for name in OUTSIDE]
    return Files([*moved, *outside])
