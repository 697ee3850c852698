"""Named random streams.

A stream is a function of the experiment's seed and of a name, nothing else: adding a stream never
changes another one, and the same image gets the same noise in any batch and on any number of
devices because per-image keys depend on the image's index only.
"""

import hashlib

import jax
from jaxtyping import Array, Int, Key, UInt32


def name_hash(name: str) -> int:
    """32-bit hash of a stream's name, stable between processes (Python's own `hash` is not)."""
    return int.from_bytes(hashlib.sha1(name.encode()).digest()[:4], "big")


def stream(seed: int, name: str) -> Key[Array, ""]:
    """The key of the stream `name` of an experiment."""
    return jax.random.fold_in(jax.random.key(seed), name_hash(name))


def per_index(
    key: Key[Array, ""], indices: Int[Array, " b"] | UInt32[Array, " b"]
) -> Key[Array, " b"]:
    """One key for each index (of an image, a step, ...)."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)


def numpy_seed(seed: int, name: str) -> int:
    """32-bit seed for NumPy or Grain, from the same naming scheme."""
    digest = hashlib.sha1(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
