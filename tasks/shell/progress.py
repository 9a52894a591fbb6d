"""What a command shows and keeps while it runs: a progress bar, and scalars as TensorBoard and CSV files."""

from __future__ import annotations

import csv
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class RunLog:
    """Scalars of a run, to TensorBoard and to ``log.csv``; with ``keep`` a resumed run appends to what is there."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        if not keep:
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"))
        self._file = open(folder / "log.csv", "a" if keep else "w", newline="")  # noqa: SIM115 (closed by close)
        self._csv = csv.writer(self._file)
        if self._file.tell() == 0:
            self._csv.writerow(["step", "name", "value"])

    def write(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._tensorboard.add_scalar(name, value, step)
            self._csv.writerow([step, name, f"{value:.6g}"])
        self._file.flush()

    def close(self) -> None:
        self._tensorboard.close()
        self._file.close()


@contextmanager
def progress_bar(title: str, total: int, *, start: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A bar with a running figure and the remaining time; one line per tenth where the output is not a terminal."""
    if sys.stdout.isatty():
        from rich import progress as rich

        columns = (
            rich.TextColumn(title),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}"),
        )
        with rich.Progress(*columns) as progress:
            task = progress.add_task(title, total=total, completed=start, note="")
            yield lambda done, note="": progress.update(task, completed=done, note=note)
        return
    began, shown = time.monotonic(), [-1]

    def update(done: int, note: str = "") -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > shown[0]:
            shown[0] = tenth
            print(f"{title}: {done}/{total}, {time.monotonic() - began:.0f} s, {note}", flush=True)

    yield update
