"""Grids and strips of reconstructions: every pixel, the numbers beside them, broken files."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from diffc_jax.errors import InputError
from diffc_jax.evaluation import results
from diffc_jax.plotting import figures, grids, reconstructions
from tests.support.figures import pixels_of

SIZE = 8
GAMMAS = np.array([2.0, 0.0, -3.0, -6.0], np.float32)
BPP = np.array([0.1, 0.5, 1.5, 4.0])
FIELDS = ("index", "model", "decoder", "level", "gamma", "bits_kl", "bits_bound", "mse", "psnr")
INDEX = np.array([3, 0, 5])
_POINT = results.RatePoint(
    method="diffc",
    model="unet",
    decoder="flow",
    rate_kind="bound",
    bpp=1.0,
    psnr=30.0,
    n_images=6,
    dataset="photos",
)


def _images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, SIZE, SIZE, 3), dtype=np.uint8)


def _write_sweep(workdir, model="unet", rows=None, **arrays) -> dict[str, np.ndarray]:
    folder = workdir / "eval"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "index": INDEX,
        "original": _images(3),
        "gammas": GAMMAS,
        "flow": _images(3, 4, seed=1),
        "mean": _images(3, 4, seed=2),
    } | arrays
    np.savez(folder / "reconstructions.npz", **arrays)
    if rows is None:
        rows = [
            {"index": i, "model": model, "decoder": decoder, "gamma": float(gamma) + 1e-7}
            | {"bits_bound": (bpp + i / 100) * SIZE**2, "psnr": 20.0 + better + i + bpp}
            for decoder, better in (("flow", 0.0), ("mean", 1.0))
            for gamma, bpp in zip(GAMMAS, BPP, strict=True)
            for i in range(6)
        ]
    results.write_table(folder / "per_image.csv", FIELDS, rows)
    return arrays


def _write_baselines(workdir, index=INDEX, original=None, **arrays) -> None:
    (workdir / "eval").mkdir(parents=True, exist_ok=True)
    n = len(index)
    codecs = {}
    for name, method, model in (("avif", "avif", ""), ("jpeg_420", "jpeg", "4:2:0")):
        codecs |= {
            f"{name}/images": _images(n, 3, seed=len(name)),
            f"{name}/level": np.array([1, 50, 90]),
            f"{name}/bpp": np.tile([0.5, 1.2, 2.0], (n, 1)),
            f"{name}/psnr": np.tile([22.0, 30.0, math.inf], (n, 1)),
            f"{name}/method": np.array(method),
            f"{name}/model": np.array(model),
        }
    original = _images(3)[[list(INDEX).index(i) for i in index]] if original is None else original
    np.savez(
        workdir / "eval" / "reconstructions_baselines.npz",
        **{"index": np.asarray(index), "original": original} | codecs | arrays,
    )


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def _column(images, group="DiffC-F", psnr=31.25):
    n = len(images)
    return grids.GridColumn(group, images, np.linspace(0.5, 1.9, n), np.full(n, psnr))


def test_reconstruction_grid_shows_every_pixel_as_a_square():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 16, 16, 3), dtype=np.uint8)
    columns = [_column(images[1]), _column(images[2], "DiffC-A", psnr=math.inf)]
    figure = grids.reconstruction_grid(images[0], columns)
    drawn = pixels_of(figure)
    for column, row in np.ndindex(3, 2):
        cell = images[column, row].repeat(12, axis=0).repeat(12, axis=1)
        x, y = 16 + column * 202, 56 + row * 236
        np.testing.assert_array_equal(drawn[y : y + 192, x : x + 192], cell)
    assert _texts(figure) == [
        *("0.500 bpp", "31.2 dB", "0.500 bpp", "exact"),
        *("1.90 bpp", "31.2 dB", "1.90 bpp", "exact"),
        *("original", "DiffC-F", "DiffC-A"),
    ]
    reds = {t.get_text() for t in figure.axes[0].texts if to_hex(t.get_color()) == "#c00000"}
    assert reds == {"31.2 dB", "exact"}


def test_neighbouring_columns_share_their_heading():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    columns = [_column(images, group) for group in ("F", "F", "A")]
    assert _texts(grids.reconstruction_grid(images, columns))[-3:] == ["original", "F", "A"]


def test_grid_names_the_column_that_does_not_fit():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(InputError) as error:
        grids.reconstruction_grid(images, [_column(images), _column(images[:1], "F")])
    assert str(error.value) == (
        "column 'F': images, bpp and psnr have shapes ((1, 8, 8, 3), (1,), (1,)), "
        "but the originals have (2, 8, 8, 3)"
    )
    with pytest.raises(InputError) as error:
        grids.reconstruction_grid(images[:0], [])
    assert str(error.value) == "originals: a reconstruction grid needs at least one image"


def test_sweep_takes_its_numbers_from_the_table(tmp_path):
    arrays = _write_sweep(tmp_path)
    loaded = reconstructions.load_sweep(tmp_path / "eval")
    np.testing.assert_array_equal(loaded.index, INDEX)
    np.testing.assert_array_equal(loaded.originals, arrays["original"])
    flow, mean = loaded.series
    assert (flow.method, flow.model, flow.decoder) == ("diffc", "unet", "flow")
    np.testing.assert_array_equal(mean.images, arrays["mean"])
    np.testing.assert_allclose(flow.bpp, BPP[None] + INDEX[:, None] / 100)
    np.testing.assert_allclose(mean.psnr, 21.0 + INDEX[:, None] + BPP[None])


def test_numbers_are_those_of_the_same_noise_and_of_all_pixels(tmp_path):
    wide = {name: _images(3, n, seed=1)[:, :, :4] for name, n in (("flow", 4), ("mean", 4))}
    _write_sweep(tmp_path, original=_images(3)[:, :4], **wide)
    path = tmp_path / "eval" / "per_image.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    others = [row | {"gamma": "2.5", "psnr": "99"} for row in rows]
    results.write_table(path, FIELDS, [*rows, *others])
    flow, _ = reconstructions.load_sweep(tmp_path / "eval").series
    np.testing.assert_allclose(flow.bpp, 2 * (BPP[None] + INDEX[:, None] / 100))
    assert flow.psnr.max() < 99


def test_methods_on_the_same_images_are_joined(tmp_path):
    _write_sweep(tmp_path / "unet")
    _write_sweep(tmp_path / "gaussian", model="gaussian")
    _write_baselines(tmp_path / "codecs", index=[5, 3])
    _write_baselines(tmp_path / "elsewhere", original=_images(3, seed=9))
    joined, other = reconstructions.collect_reconstructions(
        [tmp_path / name for name in ("unet", "gaussian", "codecs", "elsewhere", "nothing")]
    )
    assert joined.index.tolist() == [3, 5]
    np.testing.assert_array_equal(joined.originals, _images(3)[[0, 2]])
    assert [(s.method, s.model, s.decoder) for s in joined.series] == [
        *(("diffc", model, d) for model in ("unet", "gaussian") for d in ("flow", "mean")),
        *(("avif", None, None), ("jpeg", "4:2:0", None)),
    ]
    np.testing.assert_array_equal(joined.series[0].images, _images(3, 4, seed=1)[[0, 2]])
    np.testing.assert_array_equal(joined.series[4].images, _images(2, 3, seed=4)[[1, 0]])
    np.testing.assert_allclose(joined.series[0].psnr[:, 0], [23.1, 25.1])
    np.testing.assert_allclose(joined.series[0].bpp[:, 0], [0.13, 0.15])
    assert len(other.series) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"flow": _images(3, 3)},
            "'flow' is uint8 of shape (3, 3, 8, 8, 3), not uint8 of shape (3, 4, 8, 8, 3)",
        ),
        (
            {"flow": np.zeros((3, 4, SIZE, SIZE, 3))},
            "'flow' is float64 of shape (3, 4, 8, 8, 3), not uint8 of shape (3, 4, 8, 8, 3)",
        ),
        (
            {"original": np.zeros((3, SIZE, SIZE), np.uint8)},
            "'original' is uint8 of shape (3, 8, 8), not uint8 of shape (3, any, any, 3)",
        ),
        ({"index": np.array([0, 0, 1])}, "index is [0, 0, 1], not at least one image, each once"),
    ],
)
def test_broken_arrays_are_named(tmp_path, change, message):
    _write_sweep(tmp_path, **change)
    with pytest.raises(InputError) as error:
        reconstructions.load_sweep(tmp_path / "eval")
    assert str(error.value) == f"{tmp_path}/eval/reconstructions.npz: {message}"


def test_missing_arrays_and_files_are_named(tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    path = folder / "reconstructions.npz"

    def message(load=reconstructions.load_sweep):
        with pytest.raises(InputError) as error:
            load(folder)
        return str(error.value)

    def load_files(folder):
        reconstructions.load_files(folder / "reconstructions_baselines.npz")

    assert message() == f"{path}: cannot be read (No such file or directory)"
    path.write_bytes(b"")
    assert message().startswith(f"{path}: is not an npz file of arrays (")
    _write_sweep(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert message() == f"{path}: is not an npz file of arrays (File is not a zip file)"
    np.savez(path, original=_images(1))
    assert message() == f"{path}: has no array 'index'"
    np.savez(path, index=[0], original=_images(1), gammas=GAMMAS)
    assert message() == f"{path}: holds no reconstructions"
    np.savez(path, index=np.array([{}]), original=_images(1))
    assert message().startswith(f"{path}: is not an npz file of arrays (Object arrays cannot be")
    path = folder / "reconstructions_baselines.npz"
    np.savez(path, index=[0], original=_images(1))
    assert message(load_files) == f"{path}: holds no reconstructions"
    np.savez(path, **{"index": [0], "original": _images(1), "webp/level": [1]})
    assert message(load_files) == f"{path}: has no array 'webp/method'"


def test_images_without_numbers_are_refused(tmp_path):
    _write_sweep(tmp_path, rows=[])
    path = tmp_path / "eval" / "per_image.csv"
    with pytest.raises(InputError) as error:
        reconstructions.load_sweep(tmp_path / "eval")
    assert str(error.value) == (
        f"{path}: has no row for image 3, decoder 'flow', gamma 2, which reconstructions.npz shows"
    )
    path.write_text("index,gamma\n")
    with pytest.raises(InputError) as error:
        reconstructions.load_sweep(tmp_path / "eval")
    assert str(error.value) == f"{path}: has no column 'bits_bound'"
    path.write_text("index,gamma,bits_bound,psnr,model,decoder\n0,x,1,1,unet,flow\n")
    with pytest.raises(InputError) as error:
        reconstructions.load_sweep(tmp_path / "eval")
    assert str(error.value) == f"{path}, line 2: column 'gamma' is not a number: 'x'"


def _strips(tmp_path, **kwargs) -> grids.Strips:
    _write_sweep(tmp_path)
    _write_baselines(tmp_path)
    (joined,) = reconstructions.collect_reconstructions([tmp_path])
    flow, _, _, jpeg = joined.series
    return grids.make_strips(joined, flow, [jpeg], **kwargs)


def test_codecs_stand_below_at_matched_rates(tmp_path):
    chosen = _strips(tmp_path, max_images=2)
    assert chosen.index == (3, 0)
    assert chosen.labels == ("DiffC-F", "JPEG 4:2:0")
    flow, jpeg = chosen.cells[1]
    np.testing.assert_allclose([cell.bpp for cell in flow], BPP)
    assert [cell.bpp for cell in jpeg] == [None, 0.5, 1.2, 2.0]
    assert jpeg[0].image is None
    for cell, level in zip(jpeg[1:], range(3), strict=True):
        np.testing.assert_array_equal(cell.image, _images(3, 3, seed=8)[1, level])
    for cell, level in zip(flow, range(4), strict=True):
        np.testing.assert_array_equal(cell.image, _images(3, 4, seed=1)[1, level])
    assert grids.strips_rows(chosen)[-4:-2] == [
        {"index": 0, "method": "JPEG 4:2:0", "column": 0, "bpp": None, "psnr": None},
        {"index": 0, "method": "JPEG 4:2:0", "column": 1, "bpp": 0.5, "psnr": 22.0},
    ]


def test_codecs_may_have_a_tenth_more_bits(tmp_path):
    _write_sweep(tmp_path)
    _write_baselines(tmp_path, **{"jpeg_420/bpp": np.tile([0.56, 1.64, 5.0], (3, 1))})
    (joined,) = reconstructions.collect_reconstructions([tmp_path])
    flow, _, _, jpeg = joined.series
    _, below = grids.make_strips(joined, flow, [jpeg], max_images=1).cells[0]
    assert [cell.bpp for cell in below] == [None, 0.56, 1.64, 1.64]


def test_files_of_the_model_stand_below_at_the_same_noise(tmp_path):
    _write_sweep(tmp_path)
    _write_baselines(tmp_path)
    images = _images(3, 4, seed=9)
    codec = {
        "images": images[:, ::-1],
        "level": GAMMAS[::-1] + 0.2,
        "bpp": np.tile(1.25 * BPP[::-1], (3, 1)),
        "psnr": np.full((3, 4), 25.0),
        "method": np.array("diffc_codec"),
        "model": np.array("unet"),
        "decoder": np.array("flow"),
    }
    np.savez(
        tmp_path / "eval" / "reconstructions_codec.npz",
        **{"index": INDEX, "original": _images(3)}
        | {f"codec/flow/{name}": array for name, array in codec.items()},
    )
    (joined,) = reconstructions.collect_reconstructions([tmp_path])
    methods = [(series.method, series.decoder) for series in joined.series]
    assert methods == [
        *(("diffc", "flow"), ("diffc", "mean"), ("diffc_codec", "flow")),
        *(("avif", None), ("jpeg", None)),
    ]
    flow, _, files, _, jpeg = joined.series
    chosen = grids.make_strips(joined, flow, [files, jpeg], columns=2)
    assert chosen.labels == ("DiffC-F", "DiffC-F files", "JPEG 4:2:0")
    for image in range(3):
        _, own, _ = chosen.cells[image]
        assert [cell.bpp for cell in own] == pytest.approx(1.25 * BPP[[0, 3]])
        for cell, level in zip(own, (0, 3), strict=True):
            np.testing.assert_array_equal(cell.image, images[image, level])
    (caption,) = (text.get_text().replace("\n", " ") for text in grids.plot_strips(chosen).texts)
    assert (
        "DiffC-F files: file bytes at about the same noise. JPEG 4:2:0: file bytes, the" in caption
    )
    results.write_rate_points(tmp_path / "eval" / "rd.csv", [_POINT])
    figures.make_figures([tmp_path], tmp_path / "figures")
    with (tmp_path / "figures" / "strips_unet.csv").open() as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == set(chosen.labels)


def test_columns_are_spread_over_the_rates_that_print_well(tmp_path):
    chosen = _strips(tmp_path, columns=2, max_images=1)
    np.testing.assert_allclose([c.bpp for c in chosen.cells[0][0]], BPP[[0, 3]] + 0.03)
    (joined,) = reconstructions.collect_reconstructions([tmp_path])
    flow = joined.series[0]
    # Levels from high to low rates, some or all of them outside of what is shown.
    for factor, expected in ((4.0, [0, 1]), (1000.0, [0, 3]), (1e-4, [0, 3])):
        scaled = dataclasses.replace(flow, bpp=factor * flow.bpp[:, ::-1])
        first = grids.make_strips(joined, scaled, columns=2).cells[0][0]
        rates = factor * (BPP + 0.03)
        np.testing.assert_allclose([cell.bpp for cell in first], rates[expected])


def test_strips_show_images_numbers_dashes_and_originals(tmp_path):
    chosen = _strips(tmp_path, max_images=1)
    figure = grids.plot_strips(chosen)
    assert _texts(figure) == [
        *("0.130 bpp", "23.1 dB", "0.530 bpp", "23.5 dB", "1.53 bpp", "24.5 dB"),
        *("4.03 bpp", "27.0 dB", "\N{EN DASH}", "0.500 bpp", "22.0 dB", "1.20 bpp", "30.0 dB"),
        *("2.00 bpp", "exact", "reconstructions at rising rates", "original"),
        *("DiffC-F", "JPEG 4:2:0"),
    ]
    colours = {to_hex(t.get_color()) for t in figure.axes[0].texts if " dB" in t.get_text()}
    assert colours == {"#c00000"}
    drawn = pixels_of(figure)
    left, top, step_x, step_y, cell = 56, 56, 202, 236, 192

    def at(column, row):
        x, y = left + column * step_x, top + row * step_y
        return drawn[y : y + cell, x : x + cell]

    def enlarged(image):
        return image.repeat(24, axis=0).repeat(24, axis=1)

    np.testing.assert_array_equal(at(4, 0), enlarged(chosen.originals[0]))
    for column in range(4):
        np.testing.assert_array_equal(at(column, 0), enlarged(chosen.cells[0][0][column].image))
    np.testing.assert_array_equal(at(1, 1), enlarged(chosen.cells[0][1][1].image))
    assert (at(4, 1) == 255).all()
    assert (at(0, 1) == 255).mean() > 0.98
    (caption,) = (text.get_text().replace("\n", " ") for text in figure.texts)
    assert caption == (
        "Rates and PSNRs are those of each image. DiffC-F: upper bound C + log2(C + 1) + 5 bits. "
        "JPEG 4:2:0: file bytes, the highest rate that is at most 1.1 times that of DiffC-F; a dash where "
        "no file is that small."
    )
    assert all(t.get_window_extent().x0 >= 0 for t in figure.texts)
    assert all(t.get_window_extent().x1 <= figure.bbox.x1 for t in figure.texts)


def test_make_figures_draws_strips_of_every_model(tmp_path):
    for name, model in (("a", "unet"), ("b", "unet"), ("c", "gaussian")):
        _write_sweep(tmp_path / name, model=model)
        results.write_rate_points(tmp_path / name / "eval" / "rd.csv", [_POINT])
    _write_baselines(tmp_path / "c")
    # Two runs of the same model on other images each.
    _write_sweep(tmp_path / "b", original=_images(3, seed=7))
    written = figures.make_figures([tmp_path / n for n in "abc"], tmp_path / "out")
    names = {path.stem for path in written if path.stem.startswith("strips")}
    assert names == {"strips_unet", "strips_unet_2", "strips_gaussian"}
    methods = {}
    for name in names:
        with (tmp_path / "out" / f"{name}.csv").open() as stream:
            methods[name] = {row["method"] for row in csv.DictReader(stream)}
    assert methods == {
        "strips_unet": {"DiffC-F", "JPEG 4:2:0"},
        "strips_gaussian": {"DiffC-F", "JPEG 4:2:0"},
        "strips_unet_2": {"DiffC-F"},
    }
