"""Networks on one CPU, whose convolutions are Winograd's: as XLA's, and the same from prepared variables."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.codec.loading import make_codec
from diffc_jax.diffusion.schedules import build_schedule
from diffc_jax.evaluation.trained import Trained
from diffc_jax.models import build_model, convolution
from diffc_jax.models.convolution import KERNELS

SHAPE = (32, 32, 3)
UNET = {"widths": (32, 48), "blocks": (1, 1), "heads": 2}
FIELDS = {
    "unet": UNET,
    "unet_experts": {"split_gamma": -2.0, "fine": UNET, "noisy": UNET},
    "vdm": {"blocks": 1, "width": 32},
    "diffusers_unet": {"widths": (32, 64), "blocks": 1, "groups": 8},
    "improved_diffusion": {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (16,)},
}
N_PREPARED = {"unet": 14, "unet_experts": 28}
Z = jax.random.normal(jax.random.key(2), (4, *SHAPE))
GAMMAS = jnp.linspace(-5.0, 1.0, 4)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)


def make(name):
    """A small model, and variables none of whose layers is zero, as some are at first."""
    model = build_model({"name": name, **FIELDS[name]}, SHAPE)
    statistics = {field: jnp.ones(s.shape) for field, s in (model.statistics or {}).items()}
    leaves, tree = jax.tree.flatten(jax.jit(model.init)(jax.random.key(0), statistics or None))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    # Variances stay positive.
    return model, jax.tree.unflatten(tree, [jnp.abs(x) if x.shape == SHAPE else x for x in noisy])


@pytest.mark.parametrize("name", FIELDS)
def test_networks_are_those_of_several_devices(name, monkeypatch):
    model, variables = make(name)
    convolve = convolution.convolve
    results, calls = {}, {}
    for n_devices in (1, 8):
        monkeypatch.setattr(jax, "device_count", lambda n=n_devices: n)
        calls[n_devices] = traced = []
        monkeypatch.setattr(
            convolution, "convolve", lambda *a, traced=traced: traced.append(a) or convolve(*a)
        )
        # A function of its own, or the first program would be used again.
        results[n_devices] = jax.jit(lambda *a: model.eps_hat(*a))(variables, Z, GAMMAS)
    assert calls[1]
    assert not calls[8]
    np.testing.assert_allclose(results[1], results[8], atol=2e-5 * np.std(results[8]))


@pytest.mark.parametrize("name", FIELDS)
def test_prepared_variables_give_the_same_result(name):
    model, variables = make(name)
    prepared = model.prepare(variables)
    assert len(jax.tree.leaves(prepared.get(KERNELS, {}))) == N_PREPARED.get(name, 0)
    found, expected = (jax.jit(model.eps_hat)(v, Z, GAMMAS) for v in (prepared, variables))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", N_PREPARED)
def test_prepared_kernels_are_used(name):
    model, variables = make(name)
    prepared = model.prepare(variables)
    silent = {**prepared, KERNELS: jax.tree.map(jnp.zeros_like, prepared[KERNELS])}
    program = jax.jit(model.eps_hat)
    found, expected = (program(v, Z, GAMMAS) for v in (silent, prepared))
    assert jnp.max(jnp.abs(found - expected)) > 1e-3


def test_a_codec_prepares_its_model_and_keeps_its_name():
    model, variables = make("unet")
    schedule = build_schedule("linear", -13.3, 5.0)
    description = {"model": {"name": "unet", **UNET}, "schedule": {}, "image_size": 32}
    params = {"model": variables["params"], "schedule": schedule.init(jax.random.key(0))}
    unprepared = dataclasses.replace(model, prepare=lambda variables: variables)
    codec, other = (
        make_codec(one, schedule, description, params, variables["fixed"], batch_size=2)
        for one in (model, unprepared)
    )
    assert KERNELS in codec.programs.variables
    assert KERNELS not in other.programs.variables
    # It names the parameters, however they are kept in memory.
    assert codec.programs.fingerprint == other.programs.fingerprint


def test_an_evaluation_prepares_its_model_once():
    model, variables = make("unet")
    trained = object.__new__(Trained)  # without a checkpoint
    state = types.SimpleNamespace(ema={"model": variables["params"]}, fixed=variables["fixed"])
    vars(trained).update(model=model, state=state)
    assert KERNELS in trained.variables
    assert trained.variables is trained.variables
