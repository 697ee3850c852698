"""Devices that `training.cost` estimates times for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Datasheet numbers of one device."""

    flops: float  # dense bfloat16 operations a second
    memory: float  # bytes
    bandwidth: float  # of the memory, bytes a second
    link: float  # bytes a second that it sends to its neighbours, in one direction
    network: float  # the same between nodes
    node: int  # devices of a node, within which `link` counts
    kinds: tuple[str, ...]  # what JAX calls the device


# H100 SXM5 80 GB and A100 SXM4 80 GB: NVIDIA's datasheets (dense rates; NVLink 900 and 600 GB/s in both
# directions), eight to a DGX node with one adapter each of 400 and 200 Gbit/s. TPU v5e and v5p: Google
# Cloud's "system architecture" pages (links of 400 and 1200 GB/s in both directions; pods of 256, 8960).
ACCELERATORS = {
    "h100": Accelerator(989e12, 80e9, 3.35e12, 450e9, 50e9, 8, ("NVIDIA H100 80GB HBM3",)),
    "a100": Accelerator(312e12, 80e9, 2.039e12, 300e9, 25e9, 8, ("NVIDIA A100-SXM4-80GB",)),
    "tpu_v5e": Accelerator(*(197e12, 16e9, 819e9, 200e9, 200e9, 256), ("TPU v5 lite", "TPU v5e")),
    "tpu_v5p": Accelerator(459e12, 95e9, 2765e9, 600e9, 600e9, 8960, ("TPU v5", "TPU v5p")),
}
