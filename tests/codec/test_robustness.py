"""One stream on other machines, as far as one machine can play them."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.targets import Target
from diffc_jax.diffusion.schedules import build_schedule
from diffc_jax.models import gaussian
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.sharding import make_mesh, put_batch
from tests.support.streams import scene

ROOT = pathlib.Path(__file__).parents[2]
SIDE = 8
MEMORY = 8
BATCH = 8
GAMMA_RANGE = (-13.3, 5.0)
DRIFT = (
    " are not the sender's: this machine computes the model differently, "
    "or data are damaged; the image may be wrong"
)


def statistics():
    """Statistics of smooth images."""
    frequency = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2)[..., np.newaxis]
    return {
        "mean": np.zeros(3, np.float32),
        "rotation": np.eye(3, dtype=np.float32),
        "variances": (8 / (1 + frequency) ** 1.5 * np.ones(3)).astype(np.float32),
    }


def eps_hat(variables, z, gamma):
    """A network for float noise to go through: convolutions with random weights beside the Gaussian."""

    def convolve(x, weights):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, weights, (1, 1), "SAME", dimension_numbers=dimensions
        )

    hidden = jnp.tanh(convolve(z, variables["params"]["first"]))
    correction = convolve(hidden, variables["params"]["second"])
    return gaussian.eps_hat(variables, z, gamma) + correction


@pytest.fixture(scope="module")
def codec():
    rng = np.random.default_rng(0)
    params = {
        "first": rng.normal(size=(3, 3, 3, 16)).astype(np.float32),
        "second": 0.02 * rng.normal(size=(3, 3, 16, 3)).astype(np.float32),
    }
    variables = {"params": params, "fixed": statistics()}
    return ProgramCache(eps_hat, variables, (SIDE, SIDE, 3), GAMMA_RANGE, b"abcd", BATCH)


@pytest.fixture(scope="module")
def image():
    """Larger than the denoiser's: eight tiles."""
    y, x = np.mgrid[:14, :30][..., np.newaxis] / 7.0
    waves = 128 + 80 * np.sin(y + np.arange(3)) * np.cos(0.7 * x)
    return (waves + 8 * np.random.default_rng(0).normal(size=waves.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def stream(codec, image):
    return encode_image(codec, image, Target(bpp=16.0), memory=MEMORY)


@pytest.fixture(scope="module")
def exact_stream(codec, image):
    return encode_image(codec, image, Target(lossless=True), memory=MEMORY)


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


@pytest.fixture(scope="module")
def check(codec, image, stream, exact_stream):
    """Another machine's codec decodes both."""
    expected = psnr(decode_stream(codec, parse(stream)).image, image)

    def same(other):
        decoded = decode_stream(other, parse(stream))
        assert decoded.warnings == []
        assert psnr(decoded.image, image) == pytest.approx(expected, abs=0.05)
        exact = decode_stream(other, parse(exact_stream))
        assert (exact.lossless, exact.warnings) == (True, [])
        np.testing.assert_array_equal(exact.image, image)

    return same


def changed(codec, denoiser=eps_hat, batch_size=BATCH, place=jnp.asarray):
    """Another machine's codec."""
    shape = (SIDE, SIDE, 3)
    return ProgramCache(denoiser, codec.variables, shape, GAMMA_RANGE, b"abcd", batch_size, place)


@pytest.fixture(scope="module")
def noisy(codec):
    """With relative noise of size `variables["noise"]` in the network's output, new for each call.

    `variables["draw"]`, if there is one, chooses among such noises.
    """

    def denoiser(variables, z, gamma):
        seed = jax.lax.bitcast_convert_type(jnp.sum(z) + jnp.sum(gamma), jnp.uint32)
        seed += variables.get("draw", jnp.uint32(0))
        noise = jax.random.normal(jax.random.key(seed), z.shape)
        return (1 + variables["noise"] * noise) * eps_hat(variables, z, gamma)

    return changed(codec, denoiser)


def test_the_network_matters(codec, image, stream, monkeypatch):
    """Without its weights the image is another one."""
    good = psnr(decode_stream(codec, parse(stream)).image, image)
    zeros = jax.tree.map(jnp.zeros_like, codec.variables["params"])
    monkeypatch.setattr(codec, "variables", {**codec.variables, "params": zeros})
    decoded = decode_stream(codec, parse(stream))
    assert [warning.endswith(DRIFT) for warning in decoded.warnings] == [True]
    assert psnr(decoded.image, image) < good - 3


def test_other_batches(codec, check):
    check(changed(codec, batch_size=3))


def put_on_all_devices():
    mesh = make_mesh()
    return lambda batch: put_batch(mesh, {"batch": batch})["batch"]


@pytest.mark.parametrize("devices", [2, 8])
def test_other_devices(codec, check, devices, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    check(changed(codec, place=put_on_all_devices()))


def test_fewer_tiles_than_devices(codec):
    spread = changed(codec, place=put_on_all_devices())
    image = scene(SIDE, 3 * SIDE)
    stream = parse(encode_image(spread, image, Target(bpp=16.0), memory=MEMORY, tiled=True))
    found, expected = (decode_stream(one, stream) for one in (spread, codec))
    assert found.warnings == expected.warnings == []
    assert psnr(found.image, expected.image + 1e-3) > 50


def test_float_noise(codec, noisy, check):
    noisy.variables = {**codec.variables, "noise": 1e-6}
    check(noisy)


def test_noise_that_matters_is_told(codec, noisy, image):
    """In tiles: noise of a thousandth costs them nearly nothing, but is told now and then.

    Of 80 draws 13 were told, and none at a fifth of that noise.
    """
    stream, exact_stream = (
        encode_image(codec, image, target, memory=MEMORY, tiled=True)
        for target in (Target(bpp=16.0), Target(lossless=True))
    )
    expected = psnr(decode_stream(codec, parse(stream)).image, image)
    noisy.variables = {**codec.variables, "noise": 0.03}
    decoded = decode_stream(noisy, parse(stream))
    assert psnr(decoded.image, image) < expected - 1
    assert [warning.endswith(DRIFT) for warning in decoded.warnings] == [True]
    for noise, most_told in ((1e-3, 10), (2e-4, 0)):
        decoded = []
        for draw in range(20):
            noisy.variables = {**codec.variables, "noise": noise, "draw": jnp.uint32(draw)}
            decoded.append(decode_stream(noisy, parse(stream)))
        mean = np.mean([psnr(one.image, image) for one in decoded])
        assert mean == pytest.approx(expected, abs=0.05)
        assert sum(bool(one.warnings) for one in decoded) <= most_told
    # Exact pixels need more than a good image, and say so.
    noisy.variables = {**codec.variables, "noise": 1e-3}
    exact = decode_stream(noisy, parse(exact_stream))
    assert not exact.lossless
    assert exact.warnings[0].endswith(" is not exact: its pixels do not fit their checksum")
    assert psnr(exact.image, image) > 50
    # Where the pixels fit their checksum there is nothing to warn of.
    noisy.variables = {**codec.variables, "noise": 2e-5}
    exact = decode_stream(noisy, parse(exact_stream))
    np.testing.assert_array_equal(exact.image, image)
    assert exact.warnings == []


# Each on one core of its own: without AVX and fused multiply-add; with sums in another order.
VARIANTS = (
    "--xla_cpu_max_isa=SSE4_2",
    "--xla_cpu_multi_thread_eigen=false --xla_cpu_enable_fast_math=true",
)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_other_compilers(image, tmp_path):
    """Programs that decode a file with other instructions, and on one core."""
    run = tmp_path / "run"
    schedule = {"name": "linear", "gamma_min": GAMMA_RANGE[0], "gamma_max": GAMMA_RANGE[1]}
    tree = {
        "params": {"model": {}, "schedule": build_schedule(**schedule).init(jax.random.key(0))},
        "fixed": statistics(),
    }
    card = {"model": {"name": "gaussian"}, "schedule": schedule, "image_size": SIDE}
    export_params(run / "params.safetensors", tree, card)
    codec = load_codec(run, BATCH).programs
    lossy = encode_image(codec, image, Target(bpp=16.0), memory=MEMORY)
    (tmp_path / "lossy.diffc").write_bytes(lossy)
    exact = encode_image(codec, image, Target(lossless=True), memory=MEMORY)
    (tmp_path / "exact.diffc").write_bytes(exact)
    programs = []
    for number, flags in enumerate(VARIANTS):
        command = [
            *(
                sys.executable,
                "experiments/decompress.py",
                f"--model={run}",
                f"--batch_size={BATCH}",
            ),
            *(f"--input={tmp_path}/*.diffc", f"--output={tmp_path / str(number)}"),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
        programs.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        )
        os.sched_setaffinity(programs[-1].pid, {sorted(os.sched_getaffinity(0))[-1 - number % 2]})
    expected = psnr(decode_stream(codec, parse(lossy)).image, image)
    for number, program in enumerate(programs):
        _, log = program.communicate()
        assert program.returncode == 0, log
        assert "exact pixels" in log, log
        assert not any(line.startswith("W") for line in log.splitlines()), log
        found = {
            name: np.asarray(PIL.Image.open(tmp_path / str(number) / f"{name}.png"))
            for name in ("lossy", "exact")
        }
        np.testing.assert_array_equal(found["exact"], image)
        assert psnr(found["lossy"], image) == pytest.approx(expected, abs=0.05)
