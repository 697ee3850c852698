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

    def restore(self, *templates: State) -> tuple[State, dict[str, Any]]:
        """Restores the newest checkpoint with the shapes and shardings of a template.

        Of several it is the first one with the arrays that were saved.

        Raises:
            InputError: no checkpoint, a damaged one, or one with other arrays than any template.
        """
        step = self.latest_step()
        if step is None:
            raise InputError(f"{self._path}: has no checkpoint; run experiments/train.py first")
        try:
            template = self._fitting(step, templates)
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
        except _OtherArraysError as error:
            # Not damage: what that message asks for would delete a good checkpoint.
            raise InputError(str(error)) from None
        except Exception as error:  # Orbax raises plain Exception for damaged arrays
            raise self._damaged(step, one_line(error)[:200]) from error
        if flaw := mismatch(restored.progress, _Progress):
            raise self._damaged(step, flaw)
        return restored.state, restored.progress

    def _fitting(self, step: int, templates: tuple[State, ...]) -> State:
        path = self._path / str(step) / "state"
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            saved = _names(handler.metadata(path).tree)
        for template in templates:
            if _names(template) == saved:
                return template
        first = min(_names(templates[0]) ^ saved)
        raise _OtherArraysError(
            f"{self._path}/{step}: was saved with other train.* fields (optimizer, second_ema_decay,"
            f" max_seconds) or by another version: {first!r} is only in"
            f" {'it' if first in saved else 'what is needed'}; use those of"
            f" {self._path.parent / 'config.json'}"
        )

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


class _OtherArraysError(Exception):
    """A checkpoint has other arrays than are asked for."""


def _names(tree: PyTree) -> set[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}


def abstract(tree: PyTree) -> PyTree:
    """Shapes, types and shardings of the arrays of a tree."""
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
