"""Small valid files of every kind that the package reads, as its own writers or those of others make them."""

import io
import json
import pathlib
import pickle
import shutil
import tarfile
import zipfile

import flax.serialization
import imagecodecs
import jax
import numpy as np
import PIL.Image
import PIL.ImageCms
import safetensors.numpy

from diffc_jax.baselines.hific.config import build_architecture, hific_config
from diffc_jax.baselines.hific.model import Hific
from diffc_jax.codec.container import CodedStep, StreamWriter
from diffc_jax.codec.header import DEFAULT_MEMORY
from diffc_jax.codec.stream import Header
from diffc_jax.config import base_config
from diffc_jax.config.sources import SourceSpec, plain
from diffc_jax.data.prepare import prepare
from diffc_jax.evaluation import results
from diffc_jax.evaluation.store import Store
from diffc_jax.metrics.feature_sets import FeatureSet, save_features
from diffc_jax.models.gaussian import fit_statistics
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.files import write_json
from diffc_jax.studies.channel_comparison.rows import FIELDS

SIDE = 8
GAMMAS = (2.0, -3.0)
SCHEDULE = {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0}
_COSTS = {
    "trained_parameters": 3,
    "images_seen": 48,
    "train_cpu_seconds": 1.5,
    "train_seconds": 1.0,
}


def pixels(*shape: int) -> np.ndarray:
    """Random 8-bit images of `SIDE` pixels."""
    return np.random.default_rng(0).integers(0, 256, (*shape, SIDE, SIDE, 3), np.uint8)


def run_config(folder: pathlib.Path) -> None:
    """config.json of a run."""
    write_json(folder / "config.json", plain(base_config()))


def gaussian(folder: pathlib.Path) -> None:
    """Exported parameters of the fitted Gaussian."""
    tree = {"params": {"model": {}, "schedule": {}}, "fixed": fit_statistics([pixels(4)])}
    card = {"model": {"name": "gaussian"}, "schedule": SCHEDULE, "image_size": SIDE, **_COSTS}
    export_params(folder / "params.safetensors", tree, card)


def unet_card(folder: pathlib.Path) -> None:
    """The card of a U-Net, beside other weights: it is read first."""
    gaussian(folder)
    fields = {"patch": 2, "widths": [8], "blocks": [1], "heads": 1, "gamma_range": [-13.3, 5.0]}
    model = {"name": "unet", **fields, "dropout": 0.0, "dtype": "float32", "remat": False}
    card = {"model": model, "schedule": SCHEDULE, "image_size": SIDE, **_COSTS}
    write_json(folder / "params.json", card)


def hific(folder: pathlib.Path) -> None:
    """Exported parameters of a tiny HiFiC."""
    config = hific_config("smoke", 1 / 16, 1)
    model = Hific(build_architecture(config.model.to_dict()))
    shapes = jax.eval_shape(lambda: model.init_autoencoder(jax.random.key(0)))
    tree = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    card = {"model": config.model.to_dict(), "hific": config.hific.to_dict(), **_COSTS}
    export_params(folder / "params.safetensors", {"autoencoder": tree}, card)


def images(folder: pathlib.Path) -> None:
    """Two pictures in a tar archive, one of them under a link."""
    with tarfile.open(folder / "images.tar", "w") as archive:
        for number, image in enumerate(pixels(3)):
            info, content = tarfile.TarInfo(f"images/{number}.png"), picture("PNG", image)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind in (
            ("images/link.png", tarfile.SYMTYPE),
            ("images/hard.png", tarfile.LNKTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0.png" if kind == tarfile.SYMTYPE else "images/0.png"
            archive.addfile(info)


def prepared(layout: str, folder: pathlib.Path) -> None:
    """Prepared images, with their manifest."""
    source = folder.parent / f"{folder.name}-source"
    source.mkdir(exist_ok=True)
    images(source)
    spec = SourceSpec(source="tar", path=f"{source}/images.tar", name="x", image_size=SIDE)
    prepare(spec, folder, layout=layout)


def tfds(folder: pathlib.Path) -> None:
    """A data set of TFDS with five pictures, in the folder x/1.0.0."""
    import tensorflow_datasets  # takes seconds, and only this function needs it

    core, features = tensorflow_datasets.core, tensorflow_datasets.features

    with core.registered.skip_registration():

        class X(core.GeneratorBasedBuilder):
            VERSION = core.Version("1.0.0")

            def _info(self) -> object:
                kinds = {"image": features.Image(shape=(SIDE, SIDE, 3))}
                return core.DatasetInfo(builder=self, features=features.FeaturesDict(kinds))

            def _split_generators(self, dl_manager: object) -> dict[str, object]:
                del dl_manager
                return {
                    "train": (
                        (n, {"image": io.BytesIO(picture("PNG", pixels()))}) for n in range(5)
                    )
                }

            def _generate_examples(self) -> None:
                raise NotImplementedError

    X(data_dir=folder, file_format="array_record").download_and_prepare()


def official(folder: pathlib.Path, *, compressed: bool = False) -> None:
    """The files of down-sampled ImageNet, as npz and as pickles, with those of CIFAR's layout."""
    data = pixels(5).transpose(0, 3, 1, 2).reshape(5, -1)
    content = {"data": data, "labels": list(range(5)), "mean": data.mean(0)}
    (np.savez_compressed if compressed else np.savez)(folder / "train_data.npz", **content)
    (folder / "train_data_batch_1").write_bytes(pickle.dumps(content, 2))


def arrays(folder: pathlib.Path) -> None:
    """A pickle of arrays, a spectrum, features, and a batch of an evaluation."""
    with (folder / "weights.pkl").open("wb") as stream:
        pickle.dump({"a": {"b": np.ones((2, 3), np.float32)}, "c": np.zeros(2)}, stream, 4)
    np.save(folder / "spectrum.npy", np.array([3.0, 2.0, 1.0]))
    save_features(folder / "network-1.npz", FeatureSet.of([np.eye(5, 3, dtype=np.float32)]))
    write_json(folder / "known.json", {"network images": "network-1.npz"})
    batch = {"index": np.arange(4), "mse/flow": np.ones((4, 2)), "pixels/flow": pixels(2, 2)}
    Store(folder / "store").save(batch | {"made_from/images": np.zeros((4, 16), np.uint8)})


def torch_files(folder: pathlib.Path) -> None:
    """A state dict as PyTorch writes it, in its present format and in the one before."""
    storage = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06"
    tensor = b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)R"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"

    def content(pid: bytes) -> bytes:
        return b"\x80\x02}X\x01\0\0\0w" + rebuild + b"((" + storage + pid + b"tQ" + tensor + b"tRs."

    values = np.arange(6, dtype=np.float32).tobytes()
    with zipfile.ZipFile(folder / "weights.pth", "w") as archive:
        archive.writestr("model/data.pkl", content(b""))
        archive.writestr("model/byteorder", b"little")
        archive.writestr("model/data/0", values)
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, info)]
    parts += [content(b"N"), pickle.dumps(["0"], 2), (6).to_bytes(8, "little"), values]
    (folder / "legacy.pth").write_bytes(b"".join(parts))


def vdm(folder: pathlib.Path) -> None:
    """A checkpoint of Flax."""
    state = {"ema_params": {"gamma": {"w": np.ones(1, np.float32)}}, "step": 3}
    (folder / "ckpt.flax").write_bytes(flax.serialization.msgpack_serialize(state))


def diffusers(folder: pathlib.Path) -> None:
    """The two descriptions of a network of diffusers."""
    unet = {
        "_class_name": "UNet2DModel",
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": [32, 64],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "in_channels": 3,
        "layers_per_block": 1,
        "norm_eps": 1e-6,
        "out_channels": 3,
        "sample_size": 16,
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    }
    scheduler = {
        "_class_name": "DDPMScheduler",
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "num_train_timesteps": 1000,
        "trained_betas": None,
    }
    (folder / "config.json").write_text(json.dumps(unet, allow_nan=False))
    (folder / "scheduler_config.json").write_text(json.dumps(scheduler, allow_nan=False))


def uqdm(folder: pathlib.Path) -> None:
    """The description of a network of UQDM."""
    model = {
        "attention_everywhere": False,
        "dropout_prob": 0.0,
        "embedding_dim": 32,
        "gamma_max": 6.0,
        "gamma_min": -12.3,
        "learned_prior_scale": True,
        "n_attention_heads": 1,
        "n_blocks": 1,
        "n_channels": 3,
        "norm_groups": 8,
        "use_fourier_features": True,
        "vocab_size": 256,
    }
    (folder / "config.json").write_text(json.dumps({"model": model}, allow_nan=False))


def tensors(folder: pathlib.Path) -> None:
    """A file of tensors."""
    values = {"a/b": np.ones((2, 3), np.float32), "c": np.zeros(2, np.float16)}
    safetensors.numpy.save_file(values, folder / "x.safetensors")


def stream(folder: pathlib.Path) -> None:
    """A compressed picture of two tiles."""
    writer = StreamWriter(Header(2 * SIDE, SIDE, SIDE, DEFAULT_MEMORY, 3, b"dc"))
    for number in range(6):
        offer = writer.next_sizes.offer(())
        path = bytes(-(-offer.path_bits(0) // 8))
        writer.append(CodedStep((), 0, path, number))
    (folder / "x.diffc").write_bytes(writer.to_bytes())


def stream_1(folder: pathlib.Path) -> None:
    """A compressed picture of version 1, which is only read."""
    streams = pathlib.Path(__file__).parents[1] / "tests" / "codec" / "streams"
    shutil.copy(streams / "v1_64x64.diffc", folder / "x.diffc")


def picture(kind: str, image: np.ndarray, **options: object) -> bytes:
    """An encoded picture; `kind` is the name of a format of Pillow's, or JPEGXL."""
    if kind == "JPEGXL":
        return bytes(imagecodecs.jpegxl_encode(image))
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def pictures(kind: str, folder: pathlib.Path) -> None:
    """One picture, of a shape that is no square."""
    image = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    options = {"icc_profile": profile} if kind in ("JPEG", "TIFF", "WEBP") else {}
    (folder / "x").write_bytes(picture(kind, image, **options))


def run(folder: pathlib.Path) -> None:
    """The results of a sweep and of codecs in two workdirs, and the closed forms beside them."""
    for name, decoders in (("a", ("flow", "ancestral")), ("b", ("flow",))):
        run_config(folder / name)
        _results(folder / name / "eval", decoders)
    settings = json.loads((folder / "b" / "config.json").read_text())
    settings["train"]["learning_rate"] = 0.5
    write_json(folder / "b" / "config.json", settings)
    curves = [
        {"curve": name, "bits_per_pixel": bpp, "snr_db": 10 + bpp}
        for name in ("diffc_f", "diffc_a", "diffc_f_star", "diffc_a_star", "rd")
        for bpp in (0.5, 1.0)
    ]
    table = folder / "theory" / "gaussian" / "curves.csv"
    results.write_table(table, ("curve", "bits_per_pixel", "snr_db"), curves)


def _results(folder: pathlib.Path, decoders: tuple[str, ...]) -> None:
    shared = {"dataset": "x", "split": "eval", "n_images": 2, "seed": 0, "checkpoint": "step 4"}
    points = [
        results.RatePoint(
            method=method,
            model="unet",
            decoder=decoder,
            rate_kind=kind,
            gamma=gamma,
            bpp=1.0 + level,
            bpp_kl=0.5 + level,
            psnr=20.0 + level,
            level=0.9 - level / 2,
            mse=2.0,
            psnr_mean=21.0,
            fid=3.0 - level,
            fid_features="efficientnet_lite0",
            **shared,
        )
        for method, kind in (("diffc", "bound"), ("diffc_codec", "file"), ("jpeg", "file"))
        for decoder in decoders
        for level, gamma in enumerate(GAMMAS)
    ]
    results.write_rate_points(folder / "rd.csv", points)
    rows = [
        {
            "index": index,
            "model": "unet",
            "decoder": decoder,
            "gamma": gamma,
            "bits_bound": 9.0,
            "psnr": 20.0,
        }
        for index in range(2)
        for decoder in decoders
        for gamma in GAMMAS
    ]
    results.write_table(folder / "per_image.csv", tuple(rows[0]), rows)
    shown = {"index": np.arange(2), "original": pixels(2)}
    swept = {decoder: pixels(2, 2) for decoder in decoders}
    np.savez_compressed(folder / "reconstructions.npz", gammas=np.array(GAMMAS), **swept, **shown)
    of_codec = {"images": pixels(2, 2), "level": np.arange(2), "method": np.array("jpeg")}
    of_codec |= {"model": np.array(""), "bpp": np.ones((2, 2)), "psnr": np.ones((2, 2))}
    coded = {f"jpeg/{name}": value for name, value in of_codec.items()}
    np.savez_compressed(folder / "reconstructions_baselines.npz", **shown, **coded)
    marks = {"bits_per_dim": 3.5, "bits_per_dim_stderr": 0.1}
    summary = {"model": "unet", "checkpoint": "step 4", "n_images": 2, **marks, "chain_steps": 20}
    summary |= {"chain_bits_per_dim": 3.6, "chain_bits_per_dim_stderr": None}
    summary |= {
        "denoiser_evaluations_per_image": {"flow": [5, 4]},
        "rate_evaluations_per_image": 20,
    }
    write_json(
        folder / "summary.json", summary | {"seconds_per_image": {"sweep": 1.5, "files": None}}
    )
    write_json(
        folder / "lossless.json", {"png": marks, "webp": marks, "jpegxl": marks, "n_images": 2}
    )
    write_json(folder / "environment.json", {"python": "3.11", "packages": {"jax": "0.10.2"}})
    images = {"dataset": "x", "split": "eval", "n_images": 2, "digest": "0" * 32}
    write_json(folder / "images.json", images)


def metrics(folder: pathlib.Path) -> None:
    """Lines of metrics.jsonl."""
    lines = [
        json.dumps({"step": step, "train/loss": 3.0 - step / 10}, allow_nan=False)
        for step in range(1, 5)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def schemes(folder: pathlib.Path) -> None:
    """Rows of one job of the comparison of channels."""
    texts = {"scheme": "ordered", "setting": "2^8", "source": "race"}
    write_json(folder / "job.json", [dict.fromkeys(FIELDS, 1.5) | texts] * 2)


def lock(folder: pathlib.Path) -> None:
    """The lock of a process on another machine."""
    holder = {"host": "there", "place": "0123abcd", "pid": 4242, "start": 123, "since": "today"}
    write_json(
        folder / "lock.json", {**holder, "command": "train.py", "job": None, "token": "0" * 16}
    )
