"""Which files are made of which."""

import glob
import pathlib
from collections.abc import Sequence

from diffc_jax.errors import InputError, UsageError


def pair_files(
    inputs: Sequence[str], output: str, suffix: str
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Each input with its output.

    Args:
        inputs: files or patterns.
        output: a file that ends in `suffix` if there is one input file, otherwise a folder, which is made.
        suffix: of outputs, with the dot.

    Raises:
        InputError: a pattern or name without a file, or an output that would replace its input.
        UsageError: an output that does not fit, or two inputs that would make the same file.
    """
    files: list[pathlib.Path] = []
    for name in inputs:
        found = [name] if pathlib.Path(name).is_file() else sorted(glob.glob(name, recursive=True))
        found = [one for one in found if pathlib.Path(one).is_file()]
        if not found:
            raise InputError(f"--input {name}: no such file")
        files += map(pathlib.Path, found)
    if not files:
        raise UsageError("--input: name at least one file")
    target = pathlib.Path(output)
    if len(files) == 1 and not target.is_dir() and target.suffix:
        if target.suffix.lower() != suffix:
            raise UsageError(f"--output {output}: the name must end in {suffix}")
        pairs = [(files[0], target)]
    elif target.is_file() or target.suffix == suffix:
        raise UsageError(f"--output {output}: is one file for {len(files)} inputs; name a folder")
    else:
        pairs = [(file, target / f"{file.stem}{suffix}") for file in files]
    sources: dict[pathlib.Path, pathlib.Path] = {}
    for file, made in pairs:
        if made in sources:
            raise UsageError(f"--input: {sources[made]} and {file} would both become {made}")
        if made.exists() and made.samefile(file):
            raise InputError(f"--output {made}: is the input; choose another name or folder")
        sources[made] = file
    return pairs
