"""The log of a stage: progress bar, `metrics.jsonl`, other writers, and profiler traces."""

import contextlib
import errno
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from srgan_jax.runtime import atomic
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.messages import report
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.writers import WRITERS, Writer

MIN_FREE_BYTES = 1 << 20  # with less free disk space, writers are not called: a failed write ends TensorBoard's thread


def format_terms(terms: Mapping[str, float]) -> str:
    """Returns weighted loss terms and their fractions: "pixel 0.0210 (87.5 %), adversarial 0.0030 (12.5 %)"."""
    total = sum(abs(value) for value in terms.values()) or 1.0
    return ", ".join(f"{name} {value:.3g} ({100 * abs(value) / total:.1f} %)" for name, value in terms.items())


def format_fractions(values: Mapping[str, float]) -> str:
    """Returns fractions as percentages: "pixel 25.0 %, adversarial 75.0 %"."""
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in values.items())


def format_scores(scores: Mapping[str, float]) -> str:
    """Returns scores as text: "psnr_y 32.05, ssim_y 0.9019"."""
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())


def report_terms(stage: str, step: int, values: Mapping[str, float], terms: Sequence[str]) -> None:
    """Reports the weighted terms of a loss and, where they were computed, their fractions of the gradient on SR."""
    report(f"{stage}: loss at update {step}: {format_terms({term: values[term] for term in terms})}")
    if shares := {term: values[key] for term in terms if (key := f"grad_share/{term}") in values}:
        report(f"{stage}: norms of the gradient on SR: {format_fractions(shares)}")


def truncate_metrics(file: Path, stage_names: Sequence[str], stage: str, step: int) -> int:
    """Deletes lines later than `step` of `stage`, which a resumed run writes again. Returns their number."""
    if jax.process_index() or not file.exists():
        return 0
    order = {name: index for index, name in enumerate(stage_names)}
    lines, kept = file.read_text(encoding="utf-8", errors="replace").splitlines(), []
    for line in lines:
        try:
            row = json.loads(line)
            keep = (order.get(row["stage"], -1), row["step"]) <= (order[stage], step)
        except (ValueError, LookupError, TypeError, RecursionError):  # the process ended while writing this line
            continue
        kept += [line + "\n"] if keep else []
    atomic.write_text(file, "".join(kept))
    return len(lines) - len(kept)


class Trace:
    """A profiler trace of a few updates, for TensorBoard or Perfetto."""

    FIRST, LAST = 10, 14  # updates after the start; compilation is over by then

    def __init__(self, folder: Path | None, start: int):
        """Traces updates `start + FIRST` to `start + LAST` to `folder`; None for no trace."""
        self._folder, self._start = folder, start
        self._started, self._running = folder is None, False

    def before(self, step: int) -> None:
        """Starts the trace if it is due before update `step`."""
        if step - self._start >= self.FIRST and not self._started:
            jax.profiler.start_trace(str(self._folder))
            self._running = self._started = True

    def after(self, step: int, state: PyTree) -> None:
        """Ends the trace if it is due after update `step`. Waits for `state` first."""
        if self._running and step - self._start >= self.LAST:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            report(f"trace of updates in {self._folder}")


class StageLog:
    """Progress bar and metrics of one stage. Only process 0 writes."""

    def __init__(
        self,
        workdir: Path,
        stage: str,
        start: int,
        total: int,
        batch_size: int,
        writers: Sequence[str] = ("tensorboard",),
        report_seconds: float = 60.0,
    ):
        """Opens the log of a stage.

        Args:
          workdir: folder of the run.
          stage: name of the stage.
          start: updates so far.
          total: updates of the stage.
          batch_size: for the throughput in the progress bar.
          writers: names in `WRITERS`.
          report_seconds: time between two reported lines if there is no terminal for a progress bar.
        """
        self._workdir, self._stage, self._batch_size = workdir, stage, batch_size
        self._start_time, self._pending, self._disk_full = time.time(), "", False
        self._quiet = jax.process_index() > 0
        self._names = writers
        self._writers: dict[str, Writer] = {}
        self._failed: set[str] = set()
        self._total, self._report_seconds = total, report_seconds
        self._bar = tqdm(
            total=total, initial=start, desc=stage, unit=" updates", dynamic_ncols=True, mininterval=0.5, smoothing=0.1,
            disable=self._quiet or None,  # None: no bar unless standard error is a terminal
        )  # fmt: skip
        self.rewind(start)

    def rewind(self, step: int) -> None:
        """Sets the progress bar to `step`, and reopens the writers, which discard later updates."""
        self._bar.n, self._calls = step, 0
        self._reported = step, time.time()
        self._close_writers()
        for name in self._names if not self._quiet else ():
            with self._tolerated(name):
                self._writers[name] = WRITERS[name](self._workdir, self._stage, step)

    @contextlib.contextmanager
    def _tolerated(self, name: str) -> Iterator[None]:
        """Reports once that a writer failed, and continues without it."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # writers use other libraries, which raise any exception
            self._writers.pop(name, None)
            if name not in self._failed:
                self._failed.add(name)
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                report(f"WARNING: {name} can't write ({reason}); training continues without it")

    def _close_writers(self) -> None:
        for name, writer in list(self._writers.items()):
            with self._tolerated(name):
                writer.close()
        self._writers.clear()

    def advance(self, updates: int = 1) -> None:
        """Advances the progress bar. Its clock starts at the second call: before that, programs are compiled."""
        self._calls += 1
        if self._calls > 2:
            self._bar.update(updates)
            return
        self._bar.n += updates
        self._bar.initial = self._bar.last_print_n = self._bar.n
        self._bar.unpause()
        self._bar.refresh()
        self._reported = self._bar.n, time.time()

    def write(self, step: int, values: Mapping[str, float], shown: Sequence[str] = ()) -> None:
        """Writes values to the files, non-finite ones as null. Shows those named in `shown` in the progress bar.

        Without a terminal, those values are reported as a line, at most once in `report_seconds`.
        """
        if self._quiet:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        row = {"stage": self._stage, "step": step, "seconds": round(time.time() - self._start_time, 3), **finite}
        self._append(json.dumps(row) + "\n")
        numbers = {name: value for name, value in finite.items() if value is not None}
        for name, writer in list(self._writers.items()) if self._has_free_space() else ():
            with self._tolerated(name):
                writer.write(step, numbers)
        text = {name: f"{values[name]:.3g}" for name in shown if name in values}
        if self._bar.disable and text:
            self._report_progress(step, text)
        elif text:
            rate = self._bar.format_dict["rate"]
            self._bar.set_postfix(
                {"images/s": f"{rate * self._batch_size:.3g}"} | text if rate else text, refresh=False
            )

    def _report_progress(self, step: int, text: Mapping[str, str]) -> None:
        (before, since), now = self._reported, time.time()
        if now - since >= self._report_seconds:
            self._reported = step, now
            rate = (step - before) * self._batch_size / (now - since)
            listed = ", ".join(f"{name} {value}" for name, value in text.items())
            report(f"{self._stage}: update {step} of {self._total}: {rate:.3g} images/s, {listed}")

    def _append(self, line: str) -> None:
        """Appends to `metrics.jsonl`. If the disk is full, the lines are kept in memory until the next call."""
        self._pending += line
        try:
            with open(self._workdir / "metrics.jsonl", "ab", buffering=0, opener=atomic.no_follow) as file:
                size = file.tell()
                try:
                    if file.write(self._pending.encode()) == len(self._pending.encode()):
                        self._pending, self._disk_full = "", False
                        return
                    reason = os.strerror(errno.ENOSPC)
                except OSError as error:
                    reason = error.strerror
                file.truncate(size)
        except OSError as error:  # it can't be opened
            reason = error.strerror
        if not self._disk_full:
            report(f"WARNING: metrics.jsonl can't be written ({reason}); the lines are kept in memory until it can")
        self._disk_full = True

    def _has_free_space(self) -> bool:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self._workdir).free >= MIN_FREE_BYTES
        return False

    def warn(self, step: int, *lines: str | None, everywhere: bool = False) -> None:
        """Reports those of `lines` that are not None, with the number of the update."""
        for line in lines:
            if line:
                report(f"{self._stage}: update {step}: {line}", everywhere=everywhere)

    def image(self, step: int, image: np.ndarray) -> None:
        """Writes a preview `[H, W, 3]` uint8."""
        for name, writer in list(self._writers.items()) if self._has_free_space() else ():
            with self._tolerated(name):
                writer.image(step, image)

    def close(self) -> None:
        """Flushes and closes the files and the bar."""
        if self._pending:
            self._append("")
        self._bar.close()
        self._close_writers()
