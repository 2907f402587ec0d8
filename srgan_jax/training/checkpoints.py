"""Saving and restoring training states by Orbax. No other module imports Orbax.

A checkpoint is complete once its checksums are written. Before a save, its step is written to the marker file
`FOLDER.saving`, which is deleted after the checksums are written. A checkpoint without checksums is therefore
unfinished if the marker names it (it is then deleted, with a message), and damaged otherwise.
"""

import contextlib
import functools
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from srgan_jax.runtime import atomic, json_files, processes, storage
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import checksums, optimizer_layouts
from srgan_jax.training.old_checkpoints import OldCheckpoints

ITEM = "default"  # name that Orbax gives the folder of the state in a checkpoint
SUMS = "interval.json"  # the sums of metrics since the last logged update


def _open_manager(folder: Any, old: OldCheckpoints, has_scores: bool) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=old,
        # Without best_fn, Orbax doesn't store the scores, and a resumed run would not know them.
        best_fn=old.score if has_scores else None,
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(folder, options=options)


class Checkpoints:
    """The checkpoints of one stage, written in the background and verified before they are restored.

    Attributes:
      saved: step of the newest complete checkpoint of this run; None before the first.
      sums: sums of the log interval at the restored checkpoint, as given to `save`; {} without any.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        keep: int = 3,
        best_metric: str = "",
        lower_is_better: bool = False,
        report: Callable[[str], object] = print,
    ):
        """Opens `folder`, which is created if it doesn't exist.

        Args:
          folder: a folder for this stage only; local, or `etils.epath.Path` of a bucket.
          keep: number of newest checkpoints to keep.
          best_metric: the checkpoint with the best value of this metric is kept too; "" for none.
          lower_is_better: whether the lowest value is the best.
          report: called with a message for each checkpoint that is deleted, damaged or can't be written.
        """
        absl_logging.set_verbosity(absl_logging.FATAL)  # Orbax' errors are reported in a line, by their exceptions
        logging.getLogger("orbax").setLevel(logging.CRITICAL)
        self.folder: Any = folder if storage.is_bucket(folder) else Path(os.path.abspath(folder))
        self.saved: int | None = None
        self.sums: Mapping[str, tuple[float, float]] = {}
        self._marker = self.folder.with_name(f"{self.folder.name}.saving")
        self._report = report
        self._old = OldCheckpoints(self.folder, keep, best_metric, lower_is_better, report)
        self._open = functools.partial(_open_manager, self.folder, self._old, bool(best_metric))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._current: ocp.CheckpointManager | None = None  # opened after damaged checkpoints are removed
        self._writing: threading.Thread | None = None
        self._step, self._failure = 0, ""

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._current is None:
            self._reopen_manager()
        assert self._current is not None
        return self._current

    # ------------------------------------------------------------------------------------------ writing

    def save(
        self,
        step: int,
        state: PyTree,
        metrics: dict[str, float] | None = None,
        sums: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    ) -> None:
        """Starts writing `state`. Returns once it is copied, so that the next update may donate it.

        The `sums` of the log interval are kept beside the state, so that a resumed run logs the same means. An error
        during writing is reported at the next call or by `close`. Earlier checkpoints are not affected.

        Raises:
          RuntimeError: Orbax did not save the step, because it is not above the latest.
        """
        self._finish_pending()
        self._step = step
        try:
            if jax.process_index() == 0:
                atomic.write_text(self._marker, str(step))
            saved = self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics or None)
        except Exception as error:  # a full disk causes exceptions of many types
            self._failure = _reason(error)
            return
        if not saved:
            raise RuntimeError(
                f"checkpoint {step} was not saved: expected a step above {self._manager.latest_step()}, the latest in "
                f"{self.folder}"
            )
        self._writing = threading.Thread(target=self._finish, args=(step, sums), name="checkpoint")
        self._writing.start()

    def _finish(self, step: int, sums: Mapping[str, tuple[float, float]]) -> None:
        try:
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                atomic.write_text(self.folder / str(step) / SUMS, json.dumps(dict(sums)))
                checksums.write(self.folder / str(step))
                self._marker.unlink()
                self._old.delete()
        except Exception as error:  # reported by the next call in the main thread
            self._failure = _reason(error)

    def _wait_for_write(self) -> str:
        """Waits for the checkpoint that is being written. Returns the reason if it failed, else ""."""
        if self._writing:
            self._writing.join()
            self._writing = None
            self.saved = self.saved if self._failure else self._step
        failure, self._failure = self._failure, ""
        return failure

    def _finish_pending(self) -> None:
        failures = [failure for failure in processes.gather(self._wait_for_write()) if failure]
        if not failures:
            return
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would log the same error again, with a traceback
        if jax.process_index() == 0:
            self._delete(self._step)
        self._report(f"WARNING: checkpoint {self._step} could not be written ({failures[0]}); training continues, "
                  f"checkpoint {self.saved} is the newest, the next save tries again")  # fmt: skip
        self._reopen_manager()

    def _reopen_manager(self) -> None:
        processes.gather(None)  # all processes wait until process 0 has cleaned up the folder
        self._close_manager()
        self._current = self._open()

    def _close_manager(self) -> str:
        try:
            if self._current is not None:
                self._current.close()
        except Exception as error:  # after a failed save, Orbax raises the error again
            return _reason(error)
        return ""

    def _delete(self, step: int) -> None:
        """Deletes a checkpoint, complete or partial."""
        for path in [self.folder / str(step), *self.folder.glob(f"{step}.orbax-checkpoint-tmp*")]:
            with contextlib.suppress(OSError):
                storage.rmtree(path)
        self._marker.unlink(missing_ok=True)

    def close(self) -> None:
        """Waits for the checkpoint that is being written, and closes the manager."""
        failure = self._wait_for_write()
        failure = self._close_manager() or failure
        if failure:
            if jax.process_index() == 0:
                self._delete(self._step)
            self._report(f"WARNING: checkpoint {self._step} could not be written ({failure})")

    # ------------------------------------------------------------------------------------------ reading

    def restore(self, like: PyTree, accept: Callable[[PyTree], bool] = lambda state: True) -> PyTree:
        """Returns the newest intact state for which `accept` is true, with the shardings of `like`.

        Newer checkpoints that are not accepted are deleted.

        Returns:
          The state; None if there is no checkpoint, or none is accepted.

        Raises:
          UserError: the tensors of the checkpoint differ from those of `like`, or all checkpoints are damaged.
        """
        self._finish_pending()
        while True:
            step = processes.on_first_process(self._newest_intact)
            self._reopen_manager()
            self.sums = {}
            if step is None:
                return None
            state = self._read(step, like)
            if accept(state):
                self.saved = step
                file = self.folder / str(step) / SUMS
                self.sums = json_files.read_object(file, "delete the file") if file.is_file() else {}
                return state
            processes.on_first_process(functools.partial(self._delete, step))

    def _steps(self) -> list[int]:
        names = (name for name in storage.folders(self.folder) if name.isdecimal() and name.isascii())
        return sorted(map(int, names), reverse=True)

    def _newest_intact(self) -> int | None:
        """Returns the step of the newest checkpoint whose checksums match. Newer, damaged ones are moved away."""
        if self._marker.exists():
            unfinished = self._marker.read_text(errors="replace")
            # If the folder doesn't exist, the process ended before the save began.
            started = unfinished.isdigit() and (self.folder / unfinished).is_dir()
            if started and not checksums.exists(self.folder / unfinished):
                self._report(f"checkpoint {unfinished} was being written when the run ended: it is deleted")
                self._delete(int(unfinished))
            self._marker.unlink(missing_ok=True)
        steps, found = self._steps(), []
        for step in steps:
            differences = checksums.verify(self.folder / str(step))
            if not differences:
                return step
            found.append(f"checkpoint {step} is damaged: {'; '.join(differences)}")
            if step != steps[-1]:
                self._report(
                    f"WARNING: {found[-1]}; moved to {self._move_damaged(step)}; the checkpoint before it is used"
                )
        if found:
            raise UserError(f"no intact checkpoint is left in {self.folder}: {found[-1]}; restore it from a backup, or "
                            "delete the folder to start this stage again")  # fmt: skip
        return None

    def _move_damaged(self, step: int) -> Any:
        target = self.folder.with_name(f"{self.folder.name}.damaged") / str(step)
        with contextlib.suppress(OSError):
            storage.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        return (self.folder / str(step)).rename(target)

    def _read(self, step: int, like: PyTree) -> PyTree:
        expected = _leaves(like)
        stored: PyTree = ocp.StandardCheckpointer().metadata(self.folder / str(step) / ITEM).item_metadata
        stored = stored.tree
        found = {name: tuple(leaf.shape) for name, leaf in _leaves(stored).items()}
        names = optimizer_layouts.stored_names(found.keys(), expected.keys())  # names of our leaves in this checkpoint
        wanted = {names.get(name, name): tuple(leaf.shape) for name, leaf in expected.items()}
        wrong = [
            f"{name}: expected {wanted.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name)
        ]
        if wrong:
            raise UserError(
                f"checkpoint {step} in {self.folder} doesn't fit this config: {len(wrong)} tensors differ "
                f"({'; '.join(wrong[:3])}); use another --workdir, or the config of the earlier run"
            )
        ours = {names.get(name, name): leaf for name, leaf in expected.items()}
        target = jax.tree_util.tree_map_with_path(
            lambda path, _: ocp.utils.to_shape_dtype_struct(ours[_name(path)]), stored
        )
        read = _leaves(self._manager.restore(step, args=ocp.args.StandardRestore(target)))
        return jax.tree_util.tree_map_with_path(lambda path, _: read[names.get(_name(path), _name(path))], like)


def _name(path: tuple) -> str:
    """Returns the name of a leaf, which is the same for dicts, dataclasses and tuples."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _leaves(tree: PyTree) -> dict[str, PyTree]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    known = [line for line in text if "No space left" in line or "File too large" in line]
    return (known or text or [type(error).__name__])[0][:300]
