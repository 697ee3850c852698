"""Strict settings for every test: eight CPU devices, no silent rank promotion, checked shapes."""

import atexit
import gc
import importlib.metadata
import os
import shutil
import signal
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they compute, and so do the programs that they start: machine code that is made
# quickly saves much of their time. Flags that are given win, and users have these:
# XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true".
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=1",
        # Each process has about a core: threads that share a program, or wait for each other, only cost.
        "--xla_cpu_parallel_codegen_split_count=1",
        *os.environ.get("XLA_FLAGS", "").split(),
    ]
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# XLA ends a process that has a flag which it does not know, and 0.12 no longer knows this one.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = f"--xla_cpu_use_fusion_emitters=false {os.environ['XLA_FLAGS']}"
# What is compiled in one process or test is kept for all others, until the last of them has ended.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="diffc-tests-")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import jaxtyping
import pytest

from tests.support.type_checks import check_shapes_where_named

# Folders whose programs are networks that do a step or two.
NETWORKS = ("baselines", "conversion", "models", "runtime", "training")
# Files in them that compare programs bit by bit, or nearly.
EXACT = ("test_experts", "test_join_experts", "test_optimizer")
# What --jaxtyping-packages puts before every function.
jaxtyping.jaxtyped = check_shapes_where_named
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish():
    """What was imported and collected stays; looking for garbage in it took one second in twenty."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="module", autouse=True)
def _quick_programs(request):
    """Programs of `NETWORKS` are not optimised at all; those of trellises would run for minutes."""
    quick = request.path.parent.name in NETWORKS and request.path.stem not in EXACT
    jax.config.update("jax_disable_most_optimizations", quick)


@pytest.fixture
def foreground():
    """As if the tests were started by hand: what runs in the background, and its programs, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def subset_images(tmp_path_factory):
    """The folder of images of `tests.support.subset_images`; not to be changed."""
    from tests.support.subset_images import write_images

    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def subset_features():
    """Evaluations of those images take their features from a small network."""
    from diffc_jax.evaluation import measures
    from tests.support.feature_network import small_network
    from tests.support.subset_images import FEATURES, SIDE

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "load_feature_network", lambda *_: small_network(SIDE, FEATURES))
        yield
