"""Training states on disk, by Orbax: the only file that imports it.

A checkpoint counts once its manifest is written. Before a save its step is noted in `FOLDER.saving`, and the note goes
with the manifest: so a checkpoint without one is known as unfinished (and passed over, with a line), or as damaged.
"""

import functools
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from srgan_jax.runtime import atomic, processes
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import checksums, optimizer_layouts

ITEM = "default"  # Orbax' name of the folder with the state in a checkpoint
WITHOUT_SCORE = float("-inf")


def _open_manager(folder: Path, keep: int, best_metric: str, lower_is_better: bool) -> ocp.CheckpointManager:
    def score(metrics):
        if best_metric not in (metrics or {}):
            return WITHOUT_SCORE
        return -metrics[best_metric] if lower_is_better else metrics[best_metric]

    kept = [policies.LatestN(keep)]
    if best_metric:
        kept += [policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)]
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        best_fn=score if best_metric else None,  # without it the scores are not stored, and forgotten at a resume
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(folder, options=options)


class Checkpoints:
    """The checkpoints of one stage: written in the background, whole or not at all, verified before they are used.

    Attributes:
      saved: the step of the newest one that is known to be complete; None before the first.
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
        """Opens `folder`, which is made where absent.

        Args:
          folder: of this stage alone.
          keep: how many of the newest to keep.
          best_metric: the one with the best value of this metric is kept too; "" for none.
          lower_is_better: which value is the best.
          report: called with a line on each checkpoint that is passed over or can't be written.
        """
        absl_logging.set_verbosity(absl_logging.FATAL)  # Orbax' errors reach us as exceptions, and are told in a line
        logging.getLogger("orbax").setLevel(logging.CRITICAL)
        self.folder, self.saved = Path(os.path.abspath(folder)), None
        self._note = self.folder.with_name(f"{self.folder.name}.saving")
        self._report = report
        self._open = functools.partial(_open_manager, self.folder, keep, best_metric, lower_is_better)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._opened: ocp.CheckpointManager | None = None  # opened when the folder is tidy
        self._writing: threading.Thread | None = None
        self._step, self._failure = 0, ""

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            self._reopen()
        assert self._opened is not None
        return self._opened

    # ------------------------------------------------------------------------------------------ writing

    def save(self, step: int, state: PyTree, metrics: dict[str, float] | None = None) -> None:
        """Starts writing `state`; returns once it is copied, so that the next update may donate it.

        What goes wrong while it is written is told at the next call, or when the checkpoints are closed, and leaves
        the earlier ones as they are.

        Raises:
          RuntimeError: Orbax refused the step (it is not above the latest).
        """
        self._settle()
        self._step = step
        try:
            if jax.process_index() == 0:
                atomic.write_text(self._note, str(step))
            saved = self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics or None)
        except Exception as error:  # a full disk shows in all kinds of exceptions
            self._failure = _reason(error)
            return
        if not saved:
            raise RuntimeError(f"checkpoint {step} was not saved: {self.folder} holds {self._manager.latest_step()}")
        self._writing = threading.Thread(target=self._finish, args=(step,), name="checkpoint")
        self._writing.start()

    def _finish(self, step: int) -> None:
        try:
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                checksums.write(self.folder / str(step))
                self._note.unlink()
        except Exception as error:  # told by the next call in the main thread
            self._failure = _reason(error)

    def _join(self) -> str:
        """Waits for what is being written; why it failed, or ""."""
        if self._writing:
            self._writing.join()
            self._writing = None
            self.saved = self.saved if self._failure else self._step
        failure, self._failure = self._failure, ""
        return failure

    def _settle(self) -> None:
        failures = [failure for failure in processes.gather(self._join()) if failure]
        if not failures:
            return
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would tell the same again, at length
        if jax.process_index() == 0:
            self._forget(self._step)
        self._report(f"WARNING: checkpoint {self._step} could not be written ({failures[0]}); training goes on, "
                  f"checkpoint {self.saved} is the newest, the next save tries again")  # fmt: skip
        self._reopen()

    def _reopen(self) -> None:
        processes.gather(None)  # no process looks at the folder before process 0 has tidied it
        self._shut()
        self._opened = self._open()

    def _shut(self) -> str:
        try:
            if self._opened is not None:
                self._opened.close()
        except Exception as error:  # after a failed save Orbax raises its error again
            return _reason(error)
        return ""

    def _forget(self, step: int) -> None:
        """Deletes a checkpoint, or what there is of it."""
        for path in [self.folder / str(step), *self.folder.glob(f"{step}.orbax-checkpoint-tmp*")]:
            shutil.rmtree(path, ignore_errors=True)
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """Waits for what is being written."""
        failure = self._join()
        failure = self._shut() or failure
        if failure:
            if jax.process_index() == 0:
                self._forget(self._step)
            self._report(f"WARNING: checkpoint {self._step} could not be written ({failure})")

    # ------------------------------------------------------------------------------------------ reading

    def restore(self, like: PyTree, accept: Callable[[PyTree], bool] = lambda state: True) -> PyTree:
        """The newest sound state that `accept` takes, laid out over devices as `like` is; later ones are deleted.

        Returns:
          None where there is no checkpoint, or none that is accepted.

        Raises:
          UserError: the checkpoint doesn't fit `like`, or all are damaged.
        """
        self._settle()
        while True:
            step = processes.on_first_process(self._newest_sound)
            self._reopen()
            if step is None:
                return None
            state = self._read(step, like)
            if accept(state):
                self.saved = step
                return state
            processes.on_first_process(functools.partial(self._forget, step))

    def _steps(self) -> list[int]:
        return sorted((int(path.name) for path in self.folder.iterdir() if path.name.isdigit()), reverse=True)

    def _newest_sound(self) -> int | None:
        """The step of the newest checkpoint whose files are as they were written; what is newer is put aside."""
        if self._note.exists():
            unfinished = self._note.read_text()
            known = unfinished.isdigit() and (self.folder / unfinished).is_dir()  # else the kill came before the save
            if known and not checksums.exists(self.folder / unfinished):
                self._report(f"checkpoint {unfinished} was being written when the run ended: passed over")
                self._forget(int(unfinished))
            self._note.unlink(missing_ok=True)
        steps, found = self._steps(), []
        for step in steps:
            damages = checksums.damages(self.folder / str(step))
            if not damages:
                return step
            found.append(f"checkpoint {step} is damaged: {'; '.join(damages)}")
            if step != steps[-1]:
                self._report(f"WARNING: {found[-1]}; moved to {self._put_aside(step)}, the one before it is used")
        if found:
            raise UserError(f"no sound checkpoint is left in {self.folder}: {found[-1]}; put a copy in its place, or "
                            "delete the folder to begin this stage again")  # fmt: skip
        return None

    def _put_aside(self, step: int) -> Path:
        aside = self.folder.with_name(f"{self.folder.name}.damaged") / str(step)
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        return (self.folder / str(step)).rename(aside)

    def _read(self, step: int, like: PyTree) -> PyTree:
        expected = _leaves(like)
        stored: PyTree = ocp.StandardCheckpointer().metadata(self.folder / str(step) / ITEM).item_metadata
        stored = stored.tree
        found = {name: tuple(leaf.shape) for name, leaf in _leaves(stored).items()}
        names = optimizer_layouts.names_of(found.keys(), expected.keys())  # as this checkpoint calls our leaves
        wanted = {names.get(name, name): tuple(leaf.shape) for name, leaf in expected.items()}
        wrong = [
            f"{name}: expected {wanted.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name)
        ]
        if wrong:
            raise UserError(
                f"checkpoint {step} in {self.folder} doesn't fit this config: {len(wrong)} tensors differ "
                f"({'; '.join(wrong[:3])}); use another --workdir, or the config it was trained with"
            )
        ours = {names.get(name, name): leaf for name, leaf in expected.items()}
        target = jax.tree_util.tree_map_with_path(
            lambda path, _: ocp.utils.to_shape_dtype_struct(ours[_name(path)]), stored
        )
        read = _leaves(self._manager.restore(step, args=ocp.args.StandardRestore(target)))
        return jax.tree_util.tree_map_with_path(lambda path, _: read[names.get(_name(path), _name(path))], like)


def _name(path: tuple) -> str:
    """The name of a leaf, the same for dicts, dataclasses and tuples."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _leaves(tree: PyTree) -> dict[str, PyTree]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    known = [line for line in text if "No space left" in line or "File too large" in line]
    return (known or text or [type(error).__name__])[0][:300]
