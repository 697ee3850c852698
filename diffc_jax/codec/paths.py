"""Which files compress.py and decompress.py read, and what each becomes."""

import glob
import os
import pathlib
from collections.abc import Callable, Sequence

from absl import logging

from diffc_jax.errors import InputError, UsageError


def pair_files(
    inputs: Sequence[str], output: str, suffix: str, is_wanted: Callable[[str], bool]
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Each input with its output.

    Args:
        inputs: files, patterns of files, and folders, of which all wanted files at any depth are taken.
        output: a folder, if it exists as one, ends in a slash, or there is not just one input file; otherwise
            a file that ends in `suffix`. In it, files of an input folder keep their own folders.
        suffix: of outputs, with the dot.
        is_wanted: whether a file of a folder is taken, given its name; hidden ones never are.

    Raises:
        InputError: a pattern or name without a file, or an output that would replace its input.
        UsageError: an output that does not fit, or two inputs that would make the same file.
    """
    # Shells leave a "~" that is a part of a flag.
    output, inputs = os.path.expanduser(output), list(map(os.path.expanduser, inputs))
    target = pathlib.Path(output)
    # Each with the folder, relative to `target`, that its output goes to.
    files: dict[pathlib.Path, pathlib.Path] = {}
    for name in inputs:
        files |= (
            _below(pathlib.Path(name), target, is_wanted)
            if os.path.isdir(name)
            else _matching(name)
        )
    if not files:
        raise UsageError("name at least one file", field="--input")
    is_folder = os.path.isdir(target) or output.endswith(("/", os.sep))
    if any(map(os.path.isdir, inputs)) or len(files) > 1:
        if not is_folder and (os.path.isfile(target) or target.suffix.lower() == suffix):
            number = f"{len(files)} inputs" if len(files) > 1 else "a folder"
            raise UsageError(f"is one file for {number}; name a folder", field=f"--output {output}")
        is_folder = True
    if is_folder or not target.suffix:
        pairs = [(file, target / below / f"{file.stem}{suffix}") for file, below in files.items()]
    elif target.suffix.lower() != suffix:
        raise UsageError(
            f"the name must end in {suffix}, or that of a new folder in a slash",
            field=f"--output {output}",
        )
    else:
        pairs = [(file, target) for file in files]
    sources: dict[pathlib.Path, pathlib.Path] = {}
    for file, made in pairs:
        if made in sources:
            raise UsageError(
                f"{sources[made]} and {file} would both become {made}", field="--input"
            )
        if os.path.exists(made) and made.samefile(file):
            raise InputError(f"--output {made}: is the input; choose another name or folder")
        sources[made] = file
    return pairs


def _matching(name: str) -> dict[pathlib.Path, pathlib.Path]:
    """The file of a name, or those of a pattern."""
    found = [name] if os.path.isfile(name) else sorted(glob.glob(name, recursive=True))
    files = {pathlib.Path(one): pathlib.Path() for one in found if os.path.isfile(one)}
    if not files and found:
        raise InputError(f"--input {name}: matches no file, and patterns leave folders out")
    if not files:
        raise InputError(f"--input {name}: no such file or folder")
    return files


def _below(
    folder: pathlib.Path, output: pathlib.Path, is_wanted: Callable[[str], bool]
) -> dict[pathlib.Path, pathlib.Path]:
    """The wanted files of a folder, sorted, with their folders in it; without those in `output`.

    Links to folders are followed, but not to one that has been or will be passed.
    """
    files: dict[pathlib.Path, pathlib.Path] = {}
    n_others, root = 0, pathlib.Path(os.path.realpath(folder))
    passed = {root, pathlib.Path(os.path.realpath(output))}

    def is_next(path: pathlib.Path) -> bool:
        real = pathlib.Path(os.path.realpath(path))
        if real in passed or (os.path.islink(path) and real.is_relative_to(root)):
            return False
        passed.add(real)
        return True

    for place, folders, names in os.walk(folder, followlinks=True):
        below = pathlib.Path(place)
        folders[:] = [
            name for name in sorted(folders) if not name.startswith(".") and is_next(below / name)
        ]
        shown = [name for name in names if not name.startswith(".")]
        wanted = list(filter(is_wanted, shown))
        n_others += len(shown) - len(wanted)
        files |= {below / name: below.relative_to(folder) for name in wanted}
    if not files:
        raise InputError(
            f"--input {folder}: is a folder without a file to take; name files instead"
        )
    logging.info("%s: %d files, %d of another kind are left out", folder, len(files), n_others)
    return dict(sorted(files.items()))
