"""What JAX compiles for a program is kept for the next one, which starts in seconds."""

import hashlib
import os
import pathlib
import platform
from typing import Any

import jax

_LEAST_SECONDS = 0.2
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def keep_compiled() -> None:
    """Sets JAX's persistent compilation cache to a folder of the user, which may be deleted at any time.

    That is ~/.cache/diffc_jax, or diffc_jax in XDG_CACHE_HOME, with a folder for each kind of processor:
    machine code for one may not run on another that shares the home folder. Nothing is done where JAX's own
    settings choose a folder or turn the cache off, or where there is no folder to write to.
    """
    settings: Any = jax.config  # its type does not know them
    if settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache:
        return
    try:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(home) / "diffc_jax" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _processor() -> str:
    """A name for what the processor can do."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    words = [line for line in lines if line.partition(":")[0].strip() in ("flags", "Features")]
    digest = hashlib.sha256((words[0] if words else platform.processor()).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:8]}"
