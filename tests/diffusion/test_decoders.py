"""A decoder is registered in one place, and is then in sweeps, files, configs, flags and legends."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.image_encoder import Target
from diffc_jax.config import base_config, validate
from diffc_jax.diffusion.decoders import (
    DECODERS,
    Decoder,
    describe_decoders,
    find_decoder,
    parse_decoder,
    register,
)
from diffc_jax.diffusion.samplers import step_grid
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.plan import SweepPlan
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.models import gaussian
from diffc_jax.plotting import rate_distortion, style
from tests.support.gaussian_run import SIDE, export_model
from tests.support.processes import run_program
from tests.support.rate_points import legend_of, make_points

SHIPPED = ("flow", "ancestral", "mean", "kappa")
KNOWN = "ancestral, flow, mean, kappa=K with K >= 1e-30"


def pale(denoise, z, x_hat, gammas, n_steps, keys, value):
    """`value` times the posterior mean."""
    del denoise, z, gammas, n_steps, keys
    return value * x_hat


@pytest.fixture
def toy():
    decoder = Decoder(
        name="pale",
        label="DiffC-P (pale)",
        description="the mean with half the contrast",
        reconstruct=pale,
        n_steps=lambda budget, fraction: 1 + round(fraction * budget.flow),
        value=0.5,
        color="#123456",
        marker="X",
    )
    register(decoder)
    yield decoder
    del DECODERS["pale"]


def check_absent():
    assert tuple(DECODERS) == SHIPPED
    with pytest.raises(UsageError, match=f"^eval.decoders: 'pale' is not one of {KNOWN}$"):
        parse_decoder("pale")


@pytest.fixture
def absent_before_and_after():
    check_absent()
    yield
    check_absent()


@pytest.mark.usefixtures("absent_before_and_after", "toy")
def test_registered_decoder_is_in_the_results_of_a_sweep():
    fixed = {
        "mean": jnp.full(3, 0.1),
        "rotation": jnp.eye(3),
        "variances": jnp.ones((4, 4, 3), jnp.float32),
    }
    gammas = np.linspace(4.0, -4.0, 9)
    plan = SweepPlan(gammas, np.arange(9), np.array([4, 6]), ("mean", "pale"), 1, 8)
    x = jnp.linspace(-1.0, 1.0, 96).reshape(2, 4, 4, 3)
    result = Sweep(gaussian.eps_hat, plan, seed=0).run({"fixed": fixed}, x, jnp.arange(2))
    mean, found = (np.stack(result.reconstructions[name]) for name in plan.decoders)
    np.testing.assert_allclose(found, 0.5 * mean, rtol=1e-6)
    assert [plan.n_steps("pale", level) for level in range(2)] == [5, 3]
    # Of the rate, of the estimate at both levels, and what the second decoder needs besides.
    assert plan.evaluations_per_image() == 8 + 2 + 4 + 2
    np.testing.assert_allclose(
        plan.decodings[1]["pale"][0][:4], step_grid(-2.0, -4.0, 3), rtol=1e-6
    )


def test_powers_of_the_steps_are_interpolated():
    powers = ((-2.0, 1.0), (2.0, 2.0))
    decoder = dataclasses.replace(DECODERS["mean"], powers=powers)
    for first, power in ((-5.0, 1.0), (0.0, 1.5), (3.0, 2.0)):
        found = (decoder.steps(first, -8.0, 4) - first) / (-8.0 - first)
        np.testing.assert_allclose(found, np.array([0.0, 0.25, 0.5, 0.75, 1.0]) ** power)
    np.testing.assert_allclose(np.diff(DECODERS["mean"].steps(0.0, -8.0, 4)), -2.0)


@pytest.mark.usefixtures("absent_before_and_after", "toy")
def test_registered_decoder_decodes_files(tmp_path):
    model = export_model(tmp_path, 0.0)
    pixels = np.random.default_rng(0).integers(80, 170, (SIDE, SIDE, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    coded = str(tmp_path / "a.diffc")
    target = Target(bpp=8.0)
    compress(model, [str(tmp_path / "a.png")], coded, target, memory=8, seed=0, batch_size=1)

    def decoded(decoder):
        made = tmp_path / f"{decoder}.png"
        options = {"n_steps": 4, "at_bpp": None, "batch_size": 1}
        decompress(model, [coded], str(made), decoder=decoder, **options)
        with PIL.Image.open(made) as image:
            return np.asarray(image, float)

    # Of two values that are rounded to whole numbers.
    np.testing.assert_allclose(decoded("pale") - 127.5, (decoded("mean") - 127.5) / 2, atol=0.75)


@pytest.mark.usefixtures("absent_before_and_after", "toy")
def test_registered_decoder_is_a_value_of_configs_and_flags():
    config = base_config()
    config.train.num_steps = 1
    config.eval.decoders = ("flow", "pale")
    config.eval.codec_decoders = ("pale",)
    validate(config)
    assert "pale: the mean with half the contrast; kappa=K with K >= 1e-30: " in describe_decoders()
    with pytest.raises(UsageError) as caught:
        parse_decoder("heun", "--decoder")
    assert str(caught.value) == (
        "--decoder: 'heun' is not one of ancestral, flow, mean, pale, kappa=K with K >= 1e-30"
    )


@pytest.mark.usefixtures("absent_before_and_after", "toy")
def test_registered_decoder_is_in_legends_with_its_look():
    points = [p for name in ("kappa=1.5", "pale", "flow") for p in make_points(decoder=name)]
    series = {one.label: one.line for one in style.series_of(points)}
    assert list(series) == ["DiffC-F (flow)", "DiffC-P (pale)", "κ = 1.5"]
    assert set(series) <= set(legend_of(rate_distortion.plot_rates(points)))
    line = series["DiffC-P (pale)"]
    assert (line["color"], line["marker"]) == ("#123456", "X")
    others = {style.series_of(make_points(decoder=name))[0].line["color"] for name in SHIPPED[:3]}
    assert others == {style.VERMILION, style.BLUE, style.GREEN}
    assert style.files_label("pale") == "DiffC-P files"


def test_a_name_is_registered_once(toy):
    with pytest.raises(ValueError, match="there is a decoder 'pale' already"):
        register(toy)


def test_help_of_the_flag_describes_every_decoder():
    text = " ".join(run_program("experiments/decompress.py", "--help").stdout.split())
    assert describe_decoders() in text
    assert all(decoder.description in describe_decoders() for decoder in DECODERS.values())


def test_numbers_of_a_family():
    decoder = parse_decoder("kappa=1.5")
    assert (decoder.name, decoder.value, decoder.label) == ("kappa=1.5", 1.5, "κ = 1.5")
    assert decoder.reconstruct is parse_decoder("flow").reconstruct
    assert parse_decoder("flow").value == 1.0
    assert find_decoder("kappa=1e1").value == 10.0


@pytest.mark.parametrize(
    "name",
    [
        *("kappa", "kappa=", "kappa=0", "kappa=-1", "kappa=nan", "kappa=inf", "kappa=x"),
        "kappa=1e-46",  # 0 in float32
        *("1.5", "flow=1.5", "", 1.5, None),
    ],
)
def test_names_that_are_refused(name):
    with pytest.raises(UsageError) as caught:
        parse_decoder(name)
    assert str(caught.value) == f"eval.decoders: {name!r} is not one of {KNOWN}"


@pytest.mark.parametrize(
    "name", ["kappa=1_5", "kappa= 1.5", "kappa=1.5\n", "kappa=+1", "kappa=", "kappa"]
)
def test_numbers_of_decoders_are_written_plainly(name):
    assert find_decoder(name) is None


def test_names_of_one_decoder_are_told_to_be_one():
    found = {name: find_decoder(name).kind for name in ("kappa=1.5", "kappa=1.50", "kappa=15e-1")}
    assert {*found.values()} == {("kappa", 1.5)}
    assert find_decoder("flow").kind != find_decoder("mean").kind
    config = base_config()
    config.eval.decoders = ("kappa=1.5", "kappa=1.50")
    with pytest.raises(UsageError, match=r"^eval\.decoders: .* must name each once"):
        validate(config)
