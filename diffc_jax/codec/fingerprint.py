"""Four bytes that tell denoisers apart: a stream says which one it needs."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from diffc_jax.models import Variables


def fingerprint(description: Mapping[str, Any], variables: Variables) -> bytes:
    """First bytes of the SHA-256 of what a denoiser is.

    Args:
        description: plain values that, besides the variables, decide what it computes.
        variables: of the denoiser; names, shapes and float32 values count.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        values = np.asarray(leaf, "<f4")
        digest.update(f"{jax.tree_util.keystr(path)}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.digest()[:4]
