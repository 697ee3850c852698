#!/usr/bin/env bash
# constriction codes with the wrong distributions if the matrix of probabilities is transposed.
#
# Guess:  `encode(symbols, Categorical(perfect=False), probabilities)` codes symbol i with row i
#         of the matrix, however NumPy has the matrix in memory, or refuses it.
# Seen:   for matrices in Fortran order (`p.T`, or channels moved to the end and reshaped) the
#         numbers are taken in the order of memory: rows are made of pieces of columns. The code
#         is about 3 times as long as it should be, longer than without any model. A decoder with
#         the same matrix in C order says that the data are invalid or returns other symbols. Both
#         coders (AnsCoder, RangeEncoder) do it. A decoder with the same layout returns what was
#         encoded, so that tests of the round trip pass. Other strides, such as p[::2], are
#         refused with "not contiguous".
# Why:    the binding takes `as_slice()` of the matrix and cuts it into chunks of the length of a
#         row. rust-numpy's `as_slice` succeeds for arrays contiguous in C or in Fortran order.
# Source: https://github.com/bamler-lab/constriction, parameterize_categorical in
#         src/pybindings/stream/model/internals.rs; no issue was found. The documentation asks for
#         shape (m, n) and says nothing about the order.
# Hurts:  who codes with a network that has channels first (PixelCNN, learned hyperpriors). For a
#         batch of one image, moving channels to the end and reshaping makes no copy, in NumPy and
#         in PyTorch, so the result is in Fortran order; with two images it is a copy, and right.
#         It looks like a bad model. If the decoder gets its probabilities in another way (a loop
#         over pixels, a file), it fails or returns garbage.
# Cure:   np.ascontiguousarray(probabilities).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  constriction==0.5.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import constriction
import numpy as np

print("constriction", version("constriction"), "numpy", np.__version__)
stream = constriction.stream
CLASSES, SIDE = 8, 100
rng = np.random.default_rng(0)


def code(images, perfect):
    """Length of the code relative to the information, and whether a C-order copy decodes it."""
    weights = np.exp(2 * rng.normal(size=(images, CLASSES, SIDE, SIDE)))
    channels_first = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    rows = np.moveaxis(channels_first, 1, -1).reshape(-1, CLASSES)  # One row for each pixel.
    copy = np.ascontiguousarray(rows)
    assert np.array_equal(rows, copy) and np.allclose(rows.sum(1), 1, atol=1e-5)

    uniform = rng.random((len(rows), 1))
    symbols = (rows.cumsum(1)[:, :-1] < uniform).sum(1).astype(np.int32)
    information = -np.log2(rows[np.arange(len(rows)), symbols].astype(np.float64)).mean()
    model = stream.model.Categorical(perfect=perfect)

    stack = stream.stack.AnsCoder()
    stack.encode_reverse(symbols, model, rows)
    queue = stream.queue.RangeEncoder()
    queue.encode(symbols, model, rows)
    words = queue.get_compressed()
    same = stream.queue.RangeDecoder(words).decode(model, rows)
    assert np.array_equal(same, symbols)
    try:
        right = f"{np.mean(stream.queue.RangeDecoder(words).decode(model, copy) == symbols):.0%}"
    except AssertionError:
        right = "refused"
    bits = 32 * words.size / len(rows), stack.num_bits() / len(rows)
    order = "C" if rows.flags.c_contiguous else "Fortran"
    print(f"{images} image(s), perfect={perfect!s:5}, {order:7} order: information "
          f"{information:.2f} bits a symbol, coded in {bits[0]:.2f} (range) and {bits[1]:.2f} "
          f"(ANS); right after decoding with a C-order copy: {right}")
    return min(bits) / information, right == "100%"


one = [code(1, perfect) for perfect in (False, True)]
two = [code(2, perfect) for perfect in (False, True)]
print("without a model:", np.log2(CLASSES), "bits a symbol")
wrong = all(excess > 2 and not right for excess, right in one)
control = all(excess < 1.01 and right for excess, right in two)
if not (wrong and control):
    sys.exit("no longer seen: codes have the right length, or others do not")
print("seen: rows of a matrix in Fortran order are not the distributions used")
PYTHON
