"""The analysis as an experiment: tables, simulation against closed forms and quadrature, errors."""

import importlib.util
import pathlib
import re

import numpy as np
import pytest
import scipy.special
import scipy.stats

from diffc_jax import data
from diffc_jax.errors import InputError, UsageError
from diffc_jax.studies.gaussian_analysis import closed_forms, patches, run, simulation
from diffc_jax.studies.gaussian_analysis.closed_forms import read_spectrum, scalar_source
from diffc_jax.studies.gaussian_analysis.config import analysis_config, validate, vector_mixture
from diffc_jax.studies.gaussian_analysis.run import analyse_theory
from diffc_jax.theory.curves import CURVES
from diffc_jax.theory.mixture import Mixture
from diffc_jax.theory.scalar import analyse
from tests.support.run_files import table
from tests.support.spectra import POWER_LAW


def changed(**fields):
    config = analysis_config()
    for field, value in fields.items():
        path, _, name = field.replace("__", ".").rpartition(".")
        part = config
        for step in filter(None, path.split(".")):
            part = part[step]
        part[name] = value
    return config


@pytest.fixture(scope="module")
def spectrum_run(tmp_path_factory):
    """A run with a given spectrum, saved in no order."""
    folder = tmp_path_factory.mktemp("spectrum")
    np.save(folder / "e.npy", np.random.default_rng(0).permutation(POWER_LAW))
    config = changed(source__eigenvalues=str(folder / "e.npy"))
    analyse_theory(config, folder / "run")
    return folder / "run"


def test_curves_of_a_given_spectrum(spectrum_run):
    rows = table(spectrum_run / "gaussian" / "curves.csv")
    assert list(rows[0]) == [
        *("curve", "parameter", "bits", "bits_per_pixel", "distortion", "snr_db"),
    ]
    at_100_bits = {r["curve"]: r for r in rows if float(r["bits"]) == pytest.approx(100, rel=1e-9)}
    expected = {
        "diffc_a": 43.101,
        "diffc_a_star": 35.391,
        "diffc_f": 28.157,
        "diffc_f_star": 26.238,
        "diffc_d": 43.101 / 2,
        "rd": 17.695,
        "rd_half": 35.391,
    }
    assert set(at_100_bits) == set(expected)
    for name, distortion in expected.items():
        row = {k: float(v) for k, v in at_100_bits[name].items() if k != "curve"}
        assert row["distortion"] == pytest.approx(distortion, abs=6e-4)
        assert row["bits_per_pixel"] == pytest.approx(100 / 256, rel=1e-9)
        assert row["snr_db"] == pytest.approx(10 * np.log10(192 / row["distortion"]), rel=1e-9)


def test_components_add_up_to_the_curves(spectrum_run):
    rows = table(spectrum_run / "gaussian" / "components.csv")
    for name in CURVES:
        part = [r for r in rows if r["curve"] == name and float(r["bits_per_pixel"]) == 0.5]
        assert [int(r["component"]) for r in part] == list(range(1, 769))
        assert sum(float(r["bits"]) for r in part) == pytest.approx(128, rel=1e-9)
        expected = CURVES[name].at_rate(POWER_LAW, 128).distortion
        assert sum(float(r["distortion"]) for r in part) == pytest.approx(expected, rel=1e-9)
        snr = float(part[0]["eigenvalue"]) / float(part[0]["distortion"])
        assert float(part[0]["snr_db"]) == pytest.approx(10 * np.log10(snr), rel=1e-9)


def test_a_given_spectrum_is_not_simulated_unless_asked(spectrum_run):
    assert not (spectrum_run / "gaussian" / "simulation.csv").exists()
    assert not (spectrum_run / "vector").exists()


def test_an_earlier_simulation_is_not_left_beside_other_curves(tmp_path):
    np.save(tmp_path / "e.npy", np.array([2.0]))
    simulated = ["gaussian/simulation.csv", "scalar/simulation.csv"]
    simulated += [f"vector/curves.{kind}" for kind in ("csv", "png", "pdf")]
    for name in (*simulated, "gaussian/eigenvalues.npy", "vector/mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("of an earlier source")
    config = changed(source__eigenvalues=str(tmp_path / "e.npy"), scalar__sources=("uniform",))
    config.gaussian.points_per_decade = config.scalar.points_per_decade = 1
    analyse_theory(config, tmp_path)
    assert not [name for name in simulated if (tmp_path / name).exists()]
    # What the command itself may read, and what others have left.
    assert (tmp_path / "gaussian" / "eigenvalues.npy").exists()
    assert (tmp_path / "vector" / "mine.txt").exists()


def test_a_mixture_of_an_earlier_run_is_not_left_beside_other_scalars(tmp_path):
    folder = tmp_path / "scalar"
    folder.mkdir()
    (folder / "simulation.csv").write_text("of an earlier mixture")
    config = changed(scalar__sources=("uniform",), scalar__points_per_decade=1)
    run._analyse_scalar(config, folder, simulated=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("curves.csv", "curves.pdf", "curves.png"),
    ]


def test_the_folder_of_a_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"train": {}}')
    with pytest.raises(UsageError) as error:
        analyse_theory(changed(), tmp_path)
    assert str(error.value) == (
        f"--workdir {tmp_path}: holds a run of experiments/train.py, whose config.json would be replaced;"
        " use another --workdir"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == '{"train": {}}'


def test_scalar_table(spectrum_run):
    rows = table(spectrum_run / "scalar" / "curves.csv")
    assert list(rows[0])[:8] == [
        *("source", "sigma2", "bits", "d_a", "d_f", "d_d", "ratio", "shannon_lower_bound"),
    ]
    assert {r["source"] for r in rows} == {"mixture", "narrow", "laplace", "uniform"}
    (row,) = [r for r in rows if r["source"] == "mixture" and float(r["sigma2"]) == 0.01]
    assert float(row["bits"]) == pytest.approx(2.0754, abs=5e-5)
    assert float(row["d_a"]) == pytest.approx(0.0141087, abs=5e-8)
    assert float(row["d_f"]) == pytest.approx(0.00760899, abs=5e-9)


def test_one_component_has_curves_too(tmp_path):
    np.save(tmp_path / "e.npy", np.array([2.0]))
    config = changed(source__eigenvalues=str(tmp_path / "e.npy"))
    config.gaussian.points_per_decade = config.scalar.points_per_decade = 1
    analyse_theory(config, tmp_path)
    bits = {float(r["bits"]) for r in table(tmp_path / "gaussian" / "curves.csv")}
    assert max(bits) == pytest.approx(10.0)


def test_rates_that_no_component_can_hold():
    config = analysis_config().gaussian
    config.min_bits = 100.0
    message = (
        "gaussian.min_bits: from 100 to 10000 bits, and at most 64 a component, there is no rate"
    )
    for eigenvalues in ([2.0], [2.0, 0.0]):
        with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
            closed_forms.curve_rows(np.array(eigenvalues), config)


def test_simulation_of_every_curve_agrees_with_its_closed_form():
    """Four standard errors; 1 % for the steps of decoders, 2 % and 0.3 bits for those of the rate."""
    config = analysis_config().gaussian
    config.samples, config.sample_bpp = 200, (2.0,)
    config.rate_steps, config.ancestral_steps = 300, 80
    eigenvalues = 4.0 * np.arange(1, 49) ** -1.2
    rows = list(simulation.gaussian_rows(eigenvalues, config, seed=1))
    assert len(rows) == 6
    for row in rows:
        error = abs(row["distortion"] - row["exact_distortion"])
        assert row["distortion_stderr"] < 0.05 * row["distortion"]
        assert error < 4 * row["distortion_stderr"] + 0.01 * row["distortion"], row
        # Of ten times a logarithm to the base of ten.
        relative = row["distortion_stderr"] / row["distortion"]
        assert row["snr_db_stderr"] == pytest.approx(10 / np.log(10) * relative)
        excess = row["bits"] - row["exact_bits"]
        assert abs(excess) < 4 * row["bits_stderr"] + 0.02 * row["bits"] + 0.3, row


def test_simulation_of_a_scalar_mixture_agrees_with_quadrature():
    config = analysis_config()
    config.mixture.samples, config.mixture.sigma2, config.mixture.steps = 4000, (0.3, 0.01), 300
    source = scalar_source("mixture", config.scalar)
    mixture = run._one_dimensional(source)
    for row in simulation.mixture_rows("mixture", mixture, config.mixture, seed=0):
        exact = analyse(source, row["sigma2"])
        for column, few_steps in (("d_a", 0.01), ("d_f", 0.005), ("d_d", 0.0)):
            expected = getattr(exact, column)
            allowed = 4 * row[f"{column}_stderr"] + few_steps * expected
            assert abs(row[column] - expected) < allowed, (column, row["sigma2"])
        assert abs(row["bits"] - exact.bits) < 4 * row["bits_stderr"] + 0.02 * exact.bits
        for column in ("gaussian_bits", "gaussian_d_a"):
            assert row[column] == pytest.approx(getattr(exact, column), rel=1e-9)


def test_simulation_of_a_plane_mixture_agrees_with_quadrature():
    """Rate and posterior variance by sums over a fine grid of the plane."""
    config = analysis_config()
    config.mixture.samples, config.mixture.sigma2, config.mixture.steps = 3000, (0.1,), 300
    source = vector_mixture(config)
    (row,) = simulation.mixture_rows("vector", source, config.mixture, seed=0)

    noise = 0.1 / 0.9
    axis = np.linspace(-4, 4, 401)
    y = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    cell = (axis[1] - axis[0]) ** 2
    joint, first, second, clean = 0.0, 0.0, 0.0, 0.0
    for weight, mean, covariance in zip(
        source.weights, source.means, source.covariances, strict=True
    ):
        total = covariance + noise * np.eye(2)
        density = weight * scipy.stats.multivariate_normal(mean, total).pdf(y)
        gain = covariance @ np.linalg.inv(total)
        posterior = mean + (y - mean) @ gain.T
        spread = np.trace(covariance - gain @ covariance)
        joint = joint + density
        clean = clean + weight * scipy.stats.multivariate_normal(mean, covariance).pdf(y)
        first = first + density[..., None] * posterior
        second = second + density * (spread + np.sum(posterior**2, -1))
    bits = -np.sum(cell * joint * np.log2(joint)) - np.log2(2 * np.pi * np.e * noise)
    variance = np.sum(cell * (second - np.sum(first**2, -1) / joint))
    entropy = -np.sum(cell * scipy.special.xlogy(clean, clean)) / np.log(2)
    bound = entropy - np.log2(2 * np.pi * np.e * row["d_f"] / 2)
    assert row["shannon_lower_bound"] == pytest.approx(bound, abs=0.05)
    assert abs(row["bits"] - bits) < 4 * row["bits_stderr"] + 0.02 * bits
    assert abs(row["d_d"] - variance) < 4 * row["d_d_stderr"]
    assert row["shannon_lower_bound"] < bits < row["gaussian_bits"]


def test_the_mean_of_a_mixture_costs_nothing():
    config = analysis_config()
    config.mixture.samples, config.mixture.sigma2, config.mixture.steps = 50, (0.5,), 20
    weights, means, covariances = (
        np.array([0.5, 0.5]),
        np.array([[-1.0], [1.0]]),
        np.ones((2, 1, 1)),
    )
    rows = [
        next(simulation.mixture_rows("one", source, config.mixture, seed=0))
        for source in (Mixture(weights, means + shift, covariances) for shift in (0.0, 30.0))
    ]
    for column in ("bits", "d_a", "d_f", "d_d"):
        assert rows[0][column] == pytest.approx(rows[1][column], rel=1e-3), column


def test_weights_of_a_mixture_sum_to_one():
    source = Mixture(np.full(3, 0.3333333), np.zeros((3, 1)), np.ones((3, 1, 1)))
    assert source.weights.sum() == 1.0
    assert source.sample(5, np.random.default_rng(0)).shape == (5, 1)


def test_simulation_of_hardly_any_bits():
    config = analysis_config().gaussian
    config.samples, config.sample_bpp = 20, (5e-4,)
    config.rate_steps = config.ancestral_steps = config.flow_steps = 4
    rows = list(simulation.gaussian_rows(np.array([3.0, 2.0, 1.0]), config, seed=0))
    assert len(rows) == 6
    assert all(np.isfinite([row["bits"], row["distortion"]]).all() for row in rows)


def test_entropy_of_a_mixture_of_one():
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    source = Mixture(np.ones(1), np.zeros((1, 2)), covariance[None])
    bits, stderr = source.entropy(200_000, np.random.default_rng(0))
    exact = 0.5 * np.log2(np.linalg.det(2 * np.pi * np.e * covariance))
    assert abs(bits - exact) < 4 * stderr < 0.02


def test_patches_are_cut_on_a_grid():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    vectors = patches.cut_patches(images, 4)
    assert vectors.shape == (8, 48)
    expected = 2 * (images[1, 4:8, 4:8].astype(np.float64) + 0.5) / 256 - 1
    np.testing.assert_allclose(vectors[-1].reshape(4, 4, 3), expected, atol=1e-6)


def test_fit_is_the_covariance_of_all_patches():
    source = data.open_source(data.SourceSpec(image_size=16, max_images=600))
    moments = patches.fit_patches(source, 8)
    images = np.stack([source[i] for i in range(600)])
    vectors = patches.cut_patches(images, 8).astype(np.float64)
    assert moments.count == 2400
    np.testing.assert_allclose(moments.covariance(), np.cov(vectors.T), rtol=1e-9, atol=1e-12)


def test_a_rank_deficient_fit_is_analysed(tmp_path, caplog):
    """Five patches span at most four of 48 dimensions."""
    config = changed(monte_carlo="never", source__patch_size=4, source__image_size=4)
    config.source.images.max_images = 5
    config.gaussian.points_per_decade = config.scalar.points_per_decade = 1
    analyse_theory(config, tmp_path)
    eigenvalues = np.load(tmp_path / "gaussian" / "eigenvalues.npy")
    assert np.count_nonzero(eigenvalues) == 4
    assert "5 patches span 4 of 48 dimensions" in caplog.text
    rows = table(tmp_path / "gaussian" / "curves.csv")
    assert all(float(row["distortion"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (
            b"",
            "is not a .npy file of numbers (no header of an array: EOF: reading magic string, expected 8"
            " bytes got 0); save one vector with numpy.save",
        ),
        (np.array(["a"]), "is an array of <U1, not of numbers"),
        (
            np.array([1.0, -0.5]),
            "eigenvalues: must not be negative, nor all zero; they run from -0.5 to 1",
        ),
        (np.array([1.0, np.nan]), "eigenvalues: 1 of 2 are not finite"),
        (np.ones(0), "eigenvalues: an array of shape (0,) is not a non-empty vector"),
        (np.eye(2), "eigenvalues: an array of shape (2, 2) is not a non-empty vector"),
    ],
)
def test_bad_spectrum_files(tmp_path, content, message):
    path = tmp_path / "e.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_spectrum(path)


def test_spectrum_files_with_objects_or_garbage_are_not_executed(tmp_path):
    path = tmp_path / "e.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"is not a \.npy file of numbers"):
        read_spectrum(path)
    np.savez(tmp_path / "e.npz", a=np.ones(2))
    with pytest.raises(InputError, match="save one vector with"):
        read_spectrum(tmp_path / "e.npz")
    path.write_bytes(b"eigenvalues")
    with pytest.raises(InputError, match=r"is not a \.npy file of numbers"):
        read_spectrum(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"scalar__mixtures__mixture__weights": (0.5, 0.6)},
            "scalar.mixtures.mixture.weights: (0.5, 0.6) sum to 1.1, not to 1; divide them by their sum",
        ),
        (
            {"scalar__sources": ("uniform", "uniform")},
            "scalar.sources: ('uniform', 'uniform') must name at least one, and each once",
        ),
        (
            {"scalar__sources": ("cauchy",)},
            "scalar.sources: unknown 'cauchy'; choose among laplace, uniform, mixture, narrow",
        ),
        (
            {"vector__weights": (0.5, 0.5)},
            "vector.weights: shape is (2,), and that of means asks for (3,)",
        ),
        (
            {"vector__weights": (0.5, 0.5, 0.5)},
            "vector.weights: [0.5, 0.5, 0.5] are not positive numbers that sum to one",
        ),
        (
            {"mixture__sigma2": (0.1, 1.0)},
            "mixture.sigma2: (0.1, 1.0) must be numbers above 0 and below 1.0, at least one",
        ),
        (
            {"mixture__sigma2": ("small",)},
            "mixture.sigma2: 'small' is not a number; give a tuple of numbers, without quotes",
        ),
        ({"source__patch_size": 65}, "source.patch_size: 65 is not in [1, 65)"),
        (
            {"gaussian__component_bpp": (2000.0,)},
            "gaussian.component_bpp: (2000.0,) must be numbers above 0 and below 192.0, at least one",
        ),
        ({"gaussian__samples": 1}, "gaussian.samples: 1 is not at least 2"),
        (
            {"monte_carlo": "maybe"},
            "monte_carlo: unknown 'maybe'; choose one of auto, always, never",
        ),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        validate(changed(**fields))


def test_uncommon_mixtures_may_be_named_in_a_config_file(tmp_path):
    path = pathlib.Path(__file__).parents[2] / "configs" / "gaussian.py"
    spec = importlib.util.spec_from_file_location("gaussian_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("smoke")
    with config.unlocked():
        config.scalar.mixtures.mine = {"weights": (1.0,), "means": (0.3,), "stds": (2.0,)}
        config.scalar.sources = ("mine",)
    config.monte_carlo = "never"
    config.source.images.max_images = 8
    validate(config)
    analyse_theory(config, tmp_path)
    assert {row["source"] for row in table(tmp_path / "scalar" / "curves.csv")} == {"mine"}
