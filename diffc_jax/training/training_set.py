"""The images that a run is trained on: one source, or a mixture of several."""

import dataclasses

from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.config.sources import batch_composition, training_sources
from diffc_jax.data.order import TrainingOrder
from diffc_jax.errors import UsageError
from diffc_jax.training.experiment import open_spec


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Opened sources and the order of their images.

    Attributes:
        sources: one or several.
        clean: the one that is used at all noise levels, which models are fitted to.
        order: which images each batch has.
    """

    sources: tuple[data.StoredImages, ...]
    clean: data.StoredImages
    order: TrainingOrder

    def __len__(self) -> int:
        """Number of images of all sources."""
        return sum(map(len, self.sources))

    @property
    def name(self) -> str:
        """What results call the data."""
        return "+".join(dict.fromkeys(source.name for source in self.sources))

    @property
    def split(self) -> str:
        """Its split."""
        return "+".join(dict.fromkeys(source.split for source in self.sources))

    def check_unchanged(self, recorded: int) -> None:
        """Compares the number of images with that of an earlier part of the run.

        Raises:
            UsageError: it is another one.
        """
        if recorded != len(self):
            raise UsageError(
                f"has {len(self)} images now and had {recorded} when the run was saved; its"
                " order cannot be continued. Use the old data or another --workdir",
                field="data.train",
            )


def open_training_set(config: ConfigDict) -> TrainingSet:
    """Opens config.data.train.

    Raises:
        UsageError: a field of it that cannot be used.
        InputError: a file that cannot.
    """
    specs = training_sources(config)
    several = len(specs) > 1
    sources = tuple(
        open_spec(config, spec, f"data.train[{number}]" if several else "data.train")
        for number, spec in enumerate(specs)
    )
    clean = next(
        source for source, spec in zip(sources, specs, strict=True) if spec.get("min_gamma") is None
    )
    order = TrainingOrder(
        [len(source) for source in sources],
        batch_composition(config),
        config.seed,
        config.data.random_flip,
    )
    return TrainingSet(sources, clean, order)
