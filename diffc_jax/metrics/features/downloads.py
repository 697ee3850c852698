"""Weight files named by a path or an https address, checked against the hash in their names."""

import http.client
import os
import pathlib
import re
import shutil
import urllib.parse
import urllib.request

from absl import logging

from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime import files

_TIMEOUT_SECONDS = 60


def local_weights(location: str, field: str = "weights") -> pathlib.Path:
    """The file behind `location`, downloaded once if it is an address.

    A name that ends like `-6726825d.pth` promises, as PyTorch's own files do, that the SHA-256 of the
    content starts with these digits; that is checked every time.

    Args:
        location: a path, or an https address. Downloads are kept in `$XDG_CACHE_HOME/diffc_jax`
            (`~/.cache/diffc_jax`).
        field: where it comes from, for error messages.

    Raises:
        UsageError: an address that is not https.
        InputError: missing file, failed download, or content that does not match the name.
    """
    if "://" not in location:
        path = files.local_path(location)
    elif location.startswith("https://"):
        path = _downloaded(location)
    else:
        raise UsageError(f"{location!r} is neither a path nor an https address", field=field)
    _check_hash(path, path.name, str(path))
    return path


def _downloaded(url: str) -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    name = pathlib.PurePosixPath(urllib.parse.urlparse(url).path).name
    path = pathlib.Path(cache) / "diffc_jax" / name
    if path.exists():
        return path
    logging.info("downloading %s to %s", url, path)
    with files.atomic_write(path) as temporary:
        try:
            with (
                urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
                temporary.open("wb") as stream,
            ):
                shutil.copyfileobj(response, stream)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise InputError(
                f"{url}: cannot be downloaded ({reason}); fetch it elsewhere and give its path"
            ) from error
        _check_hash(temporary, name, url)
    return path


def _check_hash(path: pathlib.Path, name: str, shown: str) -> None:
    """Compares the content of `path` with the digits in `name`; messages call it `shown`."""
    promised = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", name)
    try:
        digest = files.file_sha256(path)
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror})") from error
    if promised and not digest.startswith(promised[1]):
        raise InputError(
            f"{shown}: is damaged or another file: its SHA-256 starts with "
            f"{digest[: len(promised[1])]}, not {promised[1]}; delete it and fetch it again"
        )
