"""How programs are compiled that run once or never."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

# Their machine code need not be good: the compiler takes a half to a fifth of its time without optimising it.
QUICKLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def run_once(function: Callable[..., PyTree], shardings: PyTree, *arguments: Any) -> PyTree:
    """Results of a compiled function, laid out as `shardings` says."""
    return jax.jit(function, out_shardings=shardings).lower(*arguments).compile(QUICKLY)(*arguments)
