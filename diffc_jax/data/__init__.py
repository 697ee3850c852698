"""Images for training and evaluation: interchangeable sources, one pipeline."""

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.pipeline import Batch, eval_batches, train_iterator
from diffc_jax.data.sources import open_source
from diffc_jax.data.spec import ImageSource
from diffc_jax.data.stored_images import StoredImages

__all__ = [
    "Batch",
    "ImageSource",
    "SourceSpec",
    "StoredImages",
    "eval_batches",
    "open_source",
    "train_iterator",
]
