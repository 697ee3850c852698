"""PyTorch for tests that compare with packages built on it (extra `[parity]`)."""

import functools


def import_torch():
    """torch, prepared so that torchvision can be imported beside it."""
    import torch

    if torch.version.cuda is None:
        _declare_operators()
    return torch


@functools.cache
def _declare_operators():
    """What torchvision needs to be imported; for as long as the result is in the cache.

    Packaged torchvision is built for CUDA. Beside a CPU build of torch its operators are absent, and it
    imports only if these two, which our tests have no use of, are declared.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    return library
