"""Our own shards: losslessly encoded images in ArrayRecord files, described by a manifest."""

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.manifest import listed_file, open_manifests
from diffc_jax.errors import InputError
from diffc_jax.runtime.optional import require


class ArrayRecordStore:
    """Images of one or more folders that `scripts/prepare_imagenet64.py` wrote.

    The number of images in each shard is compared with the manifest when the store is opened;
    `manifest.verify_hashes` compares the contents.
    """

    def __init__(self, spec: SourceSpec):
        self._shards: list[tuple[str, int]] = []
        module = require("array_record.python.array_record_module")
        variants = []
        for path, manifest in open_manifests(spec, "array_record"):
            for shard in manifest["shards"]:
                file = listed_file(path, shard)
                # A damaged file counts as empty. Closing it would raise an error without a message.
                count = module.ArrayRecordReader(str(file)).num_records()
                if count != shard["images"]:
                    raise InputError(
                        f"{file}: holds {count} readable images, {path.name} says "
                        f"{shard['images']}; prepare it again"
                    )
                self._shards.append((str(file), count))
            variants.append(manifest["variant"])
        self.name = "+".join(variants)
        self.files = [file for file, _ in self._shards]
        data_source = require("array_record.python.array_record_data_source")
        self._records = data_source.ArrayRecordDataSource(self.files)

    def __len__(self) -> int:
        return len(self._records)

    def label(self, index: int) -> str:
        """Shard and record."""
        for file, count in self._shards:
            if index < count:
                return f"{file}, record {index}"
            index -= count
        raise IndexError(index)

    def read(self, index: int) -> bytes:
        """The encoded image."""
        try:
            return self._records[index]
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(
                f"{self.label(index)}: is damaged ({error}); prepare it again"
            ) from error
