"""Libraries that parse files, and raise whatever they like for a damaged one: here it becomes one line."""

import contextlib
import os
from collections.abc import Iterator

from diffc_jax.errors import DiffcError, InputError

# Some libraries quote what they could not read.
_LONGEST = 500


@contextlib.contextmanager
def parsing(path: str | os.PathLike[str], flaw: str, fix: str = "") -> Iterator[None]:
    """Around what reads a file, and around nothing else: an error in it is taken for one of the file.

    Args:
        path: of the file, for messages.
        flaw: what to say of it, "is not an npz file of arrays".
        fix: what to do about it.

    Raises:
        InputError: the file cannot be read, or has the flaw, with the reason. Our own errors are passed on.
    """
    try:
        yield
    except DiffcError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error
    except Exception as error:
        remedy = f"; {fix}" if fix else ""
        raise InputError(f"{path}: {flaw} ({one_line(error)}){remedy}") from error


def one_line(error: BaseException) -> str:
    """What an error says, or its name if it says nothing."""
    text = " ".join(str(error).split())[:_LONGEST]
    if not text:
        return type(error).__name__
    return f"no {text}" if isinstance(error, KeyError) else text
