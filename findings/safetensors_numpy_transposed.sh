#!/usr/bin/env bash
# safetensors.numpy saves transposed and sliced arrays with their elements in another order.
#
# Guess:  `save_file({"w": kernel.T}, path)` and `load_file(path)` give `kernel.T` again, as with
#         version 0.7.0 and with numpy.savez; or it is refused, as safetensors.torch does for such
#         a tensor.
# Seen:   with 0.8.0 the shape is right and the numbers are those of
#         `kernel.reshape(kernel.T.shape)`. Slices such as `w[:, :2]` and `w[::2]` come back with
#         elements that were not in the slice. `save` does the same. No error or warning; names,
#         shapes and norms (of transposed arrays) are as expected.
# Why:    until 0.7.0 bytes were taken by `tobytes`, which is in C order for all arrays. 0.8.0
#         hands a pointer and a length over, to save a copy, and does not look at strides.
# Source: safetensors/numpy.py, _flatten
#         https://github.com/safetensors/safetensors/issues/825 (open, with pull requests 826 and
#         829). The docstring has always asked for contiguous tensors; those in Fortran order are,
#         too.
# Hurts:  who converts checkpoints with NumPy, as kernels of PyTorch are transposed for JAX and
#         Flax, and who saves what LAPACK or scikit-learn return (often in Fortran order): a model
#         that loads and is noise. JAX arrays by safetensors.flax are saved rightly.
# Here:   diffc_jax/runtime/export.py brings all arrays into C order before they are saved: not
#         affected.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 0.7.0 0.8.0; do
  "${PYTHON:-python3}" -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --disable-pip-version-check \
    "safetensors==$version" numpy==2.4.6
done

for version in 0.7.0 0.8.0; do
  (cd "$folder" && "$folder/$version/bin/python" -) <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save, save_file

version = safetensors.__version__
kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
arrays = {
    "C order": kernel,
    "transposed": kernel.T,
    "Fortran order": np.asfortranarray(kernel),
    "columns 0 and 1": kernel[:, :2],
    "every second row": kernel[::2],
}
wrong = []
for name, array in arrays.items():
    save_file({"w": array}, "w.safetensors")
    loaded = load_file("w.safetensors")["w"]
    if not np.array_equal(loaded, array):
        wrong.append(name)
        print(f"  {name}: saved {array.tolist()}, loaded {loaded.tolist()}")
    assert np.array_equal(loaded, load(save({"w": array}))["w"])
print(f"safetensors {version}: changed are {len(wrong)} of {len(arrays)}: {', '.join(wrong)}")
if len(wrong) != (0 if version == "0.7.0" else 4):
    sys.exit("no longer seen: arrays that are not in C order are saved as they are")
PYTHON
done
echo "seen: 0.8.0 saves arrays that are not in C order with their elements shuffled"
