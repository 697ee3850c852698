"""Checkpoints of training runs. Every call of Orbax is in this file."""

import contextlib
from typing import Any, TypedDict

import jax
import orbax.checkpoint as ocp
from absl import logging
from jaxtyping import PyTree

from diffc_jax.errors import InputError
from diffc_jax.runtime.digests import DAMAGE, digest
from diffc_jax.runtime.disk import writing
from diffc_jax.runtime.files import AnyPath, is_remote, to_json
from diffc_jax.runtime.parsing import one_line
from diffc_jax.typed import Count, NotNegative, mismatch

# A pytree of arrays with a scalar `step`, the number of finished updates.
State = Any


class _Progress(TypedDict, total=False):
    """What readers need of the progress that is saved with a state."""

    num_images: Count
    images: str
    seconds: NotNegative
    cpu_seconds: NotNegative
    accelerator: str
    limit_seconds: NotNegative
    end: Count | None


class Checkpoints:
    """The checkpoints under W/checkpoints; the step of the state is also the position in the data.

    Saving is asynchronous, from all processes, and atomic: a process that is killed while saving leaves
    the one before. A checkpoint can be restored on other devices and by more or fewer processes. It has a
    digest of the state and of what is saved with it, since Orbax does not notice every flipped bit.
    """

    def __init__(self, workdir: AnyPath, keep: int = 1):
        self._path = (workdir if is_remote(workdir) else workdir.resolve()) / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self._path, options=ocp.CheckpointManagerOptions(max_to_keep=keep)
        )

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: State, progress: dict[str, Any]) -> None:
        """Saves the state, and `progress` as JSON (size of the data, time spent).

        Raises:
            InputError: the disk is full; this or another call says so of the checkpoint before.
        """
        with writing(self._path):
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    progress=ocp.args.JsonSave(progress),
                    digest=ocp.args.JsonSave({"digest": digest(state, to_json(progress))}),
                ),
            )

    def restore(self, template: State) -> tuple[State, dict[str, Any]]:
        """Restores the newest checkpoint with the shapes and shardings of `template`.

        Raises:
            InputError: no checkpoint, or a damaged one.
        """
        step = self.latest_step()
        if step is None:
            raise InputError(f"{self._path}: has no checkpoint; run experiments/train.py first")
        try:
            parts: dict[str, Any] = {
                "state": ocp.args.StandardRestore(abstract(template)),
                "progress": ocp.args.JsonRestore(),
            }
            if has_digest := (self._path / str(step) / "digest").exists():
                parts["digest"] = ocp.args.JsonRestore()
            restored = self._manager.restore(step, args=ocp.args.Composite(**parts))
            if not has_digest:
                logging.info(
                    "%s/%d: is of an older version, without a digest of its contents",
                    self._path,
                    step,
                )
            elif restored.digest["digest"] != digest(restored.state, to_json(restored.progress)):
                raise ValueError(DAMAGE)
        except Exception as error:  # Orbax raises plain Exception for damaged arrays
            raise self._damaged(step, one_line(error)[:200]) from error
        if flaw := mismatch(restored.progress, _Progress):
            raise self._damaged(step, flaw)
        return restored.state, restored.progress

    def _damaged(self, step: int, why: str) -> InputError:
        return InputError(
            f"{self._path}/{step}: is damaged ({why}); delete it to go on from the checkpoint before it"
        )

    def wait(self) -> None:
        """Returns when everything is on disk."""
        with writing(self._path):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the threads that save."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Closes, unless one of several processes failed: the others may be gone or wait for it."""
        if error_type is None:
            self.close()
        elif jax.process_count() == 1:
            # What cannot be saved any more is no news, and must not hide the error.
            with contextlib.suppress(Exception):
                self.close()


def abstract(tree: PyTree) -> PyTree:
    """Shapes, types and shardings of the arrays of a tree."""
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
