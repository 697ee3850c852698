#!/usr/bin/env bash
# NumPy's default_rng([seed, 0]) is default_rng(seed): zeros at the end of a list of seeds count for nothing.
#
# Guess:  different lists of integers give different streams: default_rng(seed) for the data and
#         default_rng([seed, index]) for the noise of each image are independent. The documentation offers
#         such lists for workers and batches, with "about the same" safety as spawning.
# Seen:   [5], [5, 0], [5, 0, 0] and [5, 0, 0, 0] are one stream, that of 5, with every bit generator. So the
#         noise of image 0 is the data; epoch 3 is image 0 of epoch 3; and in the order that the documentation
#         advises, [worker, seed], the seed 0 makes no difference to a worker's number alone. [5, 1] is 2^32 +
#         5.
# Why:    SeedSequence writes integers as 32-bit words, one after the other, without saying how many there
#         are, and fills its pool of four words up with zeros. Five words and more differ again, and children
#         of spawn were told apart from their parents in 2020; lists were left, as streams had to stay as they
#         were. The legacy RandomState mixes the length in.
# Source: https://github.com/numpy/numpy/blob/main/numpy/random/bit_generator.pyx (mix_entropy)
#         https://github.com/numpy/numpy/pull/16551 (the repair for spawn)
#         https://numpy.org/doc/stable/reference/random/parallel.html#sequence-of-integer-seeds
# Hurts:  who derives streams by lists of different lengths, or from the root seed itself beside lists: the
#         first image, worker or epoch repeats random numbers that were used already, and averages are biased.
#         Lists of one and the same length are safe where all numbers are below 2^32.
# Here:   diffc_jax/rng.py: a stream's seed is a hash of its name and of the experiment's seed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np

print("numpy", np.__version__)
GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64, np.random.MT19937]


def same(first, second):
    """Whether two seeds give one stream, with all bit generators or with none."""
    equal = {
        bool(np.array_equal(generator(first).random_raw(100), generator(second).random_raw(100)))
        for generator in GENERATORS
    }
    assert len(equal) == 1
    return equal.pop()


def legacy(first, second):
    """The same of RandomState."""
    streams = [np.random.RandomState(seed).tomaxint(100) for seed in (first, second)]
    return bool(np.array_equal(*streams))


child = np.random.SeedSequence(5).spawn(1)[0]
looks = {
    # controls: different
    "5 and [5, 1]": same(5, [5, 1]),
    "[1, 5] and [5, 1]": same([1, 5], [5, 1]),
    "5 and [0, 5]": same(5, [0, 5]),
    "5 and its first child": same(5, child),
    "[1, 2, 3, 4] and [1, 2, 3, 4, 0]": same([1, 2, 3, 4], [1, 2, 3, 4, 0]),
    "[5] and [5, 0], RandomState": legacy([5], [5, 0]),
    # cases
    "5 and [5, 0]": same(5, [5, 0]),
    "[5, 3] and [5, 3, 0]": same([5, 3], [5, 3, 0]),
    "5 and [5, 0, 0, 0]": same(5, [5, 0, 0, 0]),
    "worker 3 of seed 0, [3, 0], and 3": same([3, 0], 3),
    "2^32 + 5 and [5, 1]": same(2**32 + 5, [5, 1]),
}
for name, equal in looks.items():
    print(f"{name}: {'the same' if equal else 'different'}")

SEED, SIZE = 5, 10_000
data = np.random.default_rng(SEED).normal(size=SIZE)
correlations = [
    np.corrcoef(data, np.random.default_rng([SEED, image]).normal(size=SIZE))[0, 1] for image in range(4)
]
print("correlation of the data with the noise of images 0, 1, 2, 3:", np.round(correlations, 3))

expected = list(looks.values()) == 6 * [False] + 5 * [True]
if not expected or correlations[0] < 0.999 or np.abs(correlations[1:]).max() > 0.1:
    sys.exit("no longer seen: other seeds share streams, or none")
print("seen: zeros at the end of a list of seeds count for nothing")
PYTHON
