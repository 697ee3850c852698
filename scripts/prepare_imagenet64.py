r"""Turns ImageNet 64x64 (or any images) into files that training reads fast, with a manifest.

The official files, train_data_batch_1.npz ... and val_data.npz in one folder, need two runs:

    python scripts/prepare_imagenet64.py --source=npz --path=DOWNLOADS --split=train \
        --name=imagenet64-chrabaszcz --output=data/imagenet64/train
    python scripts/prepare_imagenet64.py --source=npz --path=DOWNLOADS --split=validation \
        --name=imagenet64-chrabaszcz --output=data/imagenet64/validation

A folder or tar of photographs of any size:

    python scripts/prepare_imagenet64.py --source=folder --path=PHOTOS --resize=crop \
        --name=my-photos64 --output=data/my-photos64

--format=array_record (the default) writes shards of losslessly encoded images, for all of ImageNet
64x64 some 8 GB; --format=packed writes the pixels as they are into one NumPy file of 15.7 GB, which
is memory-mapped and needs no decoding. Each can be made of the other: --source=array_record.

An interrupted run goes on where it was when the same command runs again. Experiments read the
result with --config.data.train.source=array_record (or packed)
--config.data.train.path=data/imagenet64/train. With --verify, only the files in --output are
compared with the hashes in their manifest.
"""

from absl import flags

from diffc_jax import cli
from diffc_jax.config.sources import MOST_PIXELS, NON_RGB_MODES, RESIZE_FILTERS, RESIZE_MODES
from diffc_jax.data import SourceSpec
from diffc_jax.data.manifest import LAYOUTS, verify_hashes
from diffc_jax.data.prepare import INPUTS, prepare
from diffc_jax.runtime.files import local_path

_SOURCE = flags.DEFINE_enum("source", "npz", INPUTS, "Kind of input.")
_PATH = flags.DEFINE_string("path", "", "File, folder or glob; several separated by commas.")
_NAME = flags.DEFINE_string("name", "", "What results call the data set and variant; required.")
_SPLIT = flags.DEFINE_string("split", "train", "Split; in a folder of official files it selects.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the files and manifest.json.")
_FORMAT = flags.DEFINE_enum("format", "array_record", LAYOUTS, "Encoded shards, or plain pixels.")
_SIZE = flags.DEFINE_integer("image_size", 64, "Height and width of the images.")
_RESIZE = flags.DEFINE_enum("resize", "refuse", RESIZE_MODES, "What to do with other sizes.")
_FILTER = flags.DEFINE_enum(
    "resize_filter", "box", RESIZE_FILTERS, "Pillow's BOX, as for ImageNet 64x64, or exact means."
)
_NON_RGB = flags.DEFINE_enum(
    "non_rgb", "refuse", NON_RGB_MODES, "What to do with grey, alpha, 16 bits or other colours."
)
_SKIP = flags.DEFINE_bool("skip_corrupt", False, "Leave out unreadable images, listing them.")
_MAX_IMAGES = flags.DEFINE_integer("max_images", 0, "Only the first so many images; 0 for all.")
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", MOST_PIXELS, "Largest image to decode, width times height.", lower_bound=1
)
_ENCODING = flags.DEFINE_string(
    "encoding", None, "Of shards, lossless: webp (if not given) or png."
)
_SHARD_SIZE = flags.DEFINE_integer("shard_size", None, "Images in a shard; if not given 50,000.")
_VERIFY = flags.DEFINE_bool("verify", False, "Only check the hashes of the files in --output.")


def main() -> None:
    """Prepares or verifies, as the flags say."""
    output = local_path(_OUTPUT.value)
    if _VERIFY.value:
        verify_hashes(output)
        return
    spec = SourceSpec(
        source=_SOURCE.value,
        path=_PATH.value,
        name=_NAME.value,
        split=_SPLIT.value,
        image_size=_SIZE.value,
        resize=_RESIZE.value,
        resize_filter=_FILTER.value,
        non_rgb=_NON_RGB.value,
        skip_corrupt=_SKIP.value,
        max_images=_MAX_IMAGES.value,
        max_pixels=_MAX_PIXELS.value,
    )
    prepare(
        spec,
        output,
        layout=_FORMAT.value,
        encoding=_ENCODING.value,
        shard_size=_SHARD_SIZE.value,
    )


if __name__ == "__main__":
    flags.mark_flag_as_required("output")
    cli.run(main)
