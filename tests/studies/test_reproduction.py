"""What `reproduce` asks of its parts."""

import pathlib

import pytest

from diffc_jax.config import base_config
from diffc_jax.errors import DiffcError, InputError, UsageError
from diffc_jax.studies import reproduction

SHIPPED = pathlib.Path(__file__).parents[2] / "weights"
PARTS = (
    *("train", "evaluate", "evaluate_baselines", "analyse_theory"),
    *("make_figures", "make_report", "write_claims"),
)


@pytest.fixture
def calls(monkeypatch):
    """(part, path that it is given last, config if any) in the order of the calls."""
    made = []

    def record(part):
        def called(first, *others, **_options):
            (*_, path) = [other for other in others if isinstance(other, pathlib.Path)]
            made.append((part, path.name, first))
            return []

        return called

    for part in PARTS:
        monkeypatch.setattr(reproduction, part, record(part))
    return made


def test_given_parameters_are_evaluated_and_not_trained(calls, tmp_path):
    config = base_config()
    config.model.unlock()
    config.model.name = "unet"
    config.train.num_steps = 3
    config.eval.params = str(tmp_path / "x.safetensors")
    config.train.init_params = "y.safetensors"
    with pytest.raises(
        InputError, match=r"^eval\.params: there is no .*x\.safetensors; it is looked"
    ):
        reproduction.reproduce(config, tmp_path)
    assert calls == []
    (tmp_path / "x.safetensors").touch()
    reproduction.reproduce(config, tmp_path)
    assert [call[:2] for call in calls] == [
        ("train", "gaussian"),
        ("evaluate", "gaussian"),
        ("evaluate", "unet"),
        ("evaluate_baselines", "baselines"),
        ("analyse_theory", "theory"),
        ("make_figures", "figures"),
        ("make_report", "report.html"),
        ("write_claims", "claims.md"),
    ]
    # The Gaussian baseline is fitted to the images, and never comes from the file.
    assert calls[0][2].eval.params == calls[1][2].eval.params == ""
    assert calls[0][2].train.init_params == ""
    assert calls[2][2].eval.params == config.eval.params
    # Its denoiser is exact, costs nothing, and gets more steps.
    for field in ("flow_steps", "ancestral_steps"):
        exact, network = (calls[number][2].eval[field] for number in (1, 2))
        assert (exact, network) == (6 * config.eval[field], config.eval[field])


def test_theory_is_that_of_the_training_images(calls, tmp_path):
    config = base_config()
    config.seed, config.data.image_size = 7, 8
    config.baselines.codecs = ("jpeg",)  # HEVC takes no images of this size
    config.data.train.name = "mine"
    reproduction.reproduce(config, tmp_path)
    (theory,) = (call[2] for call in calls if call[0] == "analyse_theory")
    assert (theory.seed, theory.source.image_size, theory.source.patch_size) == (7, 8, 8)
    assert theory.source.images.name == "mine"
    assert theory.monte_carlo == "never"


def test_trained_codecs_have_the_seed_the_devices_and_the_images_of_the_config():
    config = base_config()
    config.seed, config.mesh.fsdp, config.data.image_size = 7, 2, 32
    config.data.train.max_images, config.data.eval.max_images = 5, 6
    config.baselines.targets = (0.4, 1.6)
    found = reproduction.baseline_configs(config)
    names = [f"{name}_{target}bpp" for target in ("0.4", "1.6") for name in ("hyperprior", "hific")]
    assert list(found) == names
    for own in found.values():
        assert (own.seed, own.mesh.fsdp, own.data.image_size) == (7, 2, 32)
        assert (own.data.train.max_images, own.data.eval.max_images) == (5, 6)


def test_unknown_published_curves_are_found_before_any_work(calls, tmp_path):
    config = base_config()
    config.baselines.published = ("vvc",)
    with pytest.raises(UsageError, match=r"^baselines\.published: unknown 'vvc'; name a method"):
        reproduction.reproduce(config, tmp_path)
    assert calls == []


def test_trained_networks_are_looked_at_before_any_work(calls, tmp_path):
    """A broken one, and one that would be trained a second time."""
    given = tmp_path / "given"
    given.mkdir()
    config = base_config()
    config.baselines.trained = str(given)
    with pytest.raises(InputError, match=r"given: there is no params\.safetensors"):
        reproduction.reproduce(config, tmp_path)

    config.baselines.trained = f"{SHIPPED}/hific64_0.4bpp,{SHIPPED}/hific64_1.6bpp"
    config.baselines.targets = (0.8, 0.4)
    message = (
        r"^baselines\.targets: hific of width 0\.25 at 0\.4 bpp is in baselines\.trained, too;"
    )
    with pytest.raises(UsageError, match=message):
        reproduction.reproduce(config, tmp_path)
    assert calls == []

    # A run of this folder that is named once more is not trained again.
    (tmp_path / "hific_0.4bpp").symlink_to(SHIPPED / "hific64_0.4bpp")
    config.baselines.trained = str(tmp_path / "hific_0.4bpp")
    reproduction.reproduce(config, tmp_path)
    assert [call[1] for call in calls if call[0] == "train"] == [
        "gaussian",
        *("hyperprior_0.8bpp", "hific_0.8bpp", "hyperprior_0.4bpp", "hific_0.4bpp"),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codecs": ()}, r"^baselines\.codecs, baselines\.trained: both are empty"),
        (
            {"size": 100, "trained": f"{SHIPPED}/hific64_0.4bpp"},
            r"^data\.image_size: .*hific64_0\.4bpp takes no images of 100x100; sides must be multiples of 8$",
        ),
        ({"size": 12, "codecs": ("hevc",)}, r"^hevc: x265 takes no image of 12x12"),
    ],
)
def test_baselines_that_cannot_be_measured_are_refused_before_any_work(
    calls, tmp_path, fields, message
):
    config = base_config()
    config.data.image_size = fields.pop("size", 64)
    config.baselines.update(fields)
    with pytest.raises(DiffcError, match=message):
        reproduction.reproduce(config, tmp_path)
    assert calls == []
