"""Where demonstrations come from: a file that is there, or ManiSkill's motion planning, asked until there are enough."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from infoatlas_rl.maniskill.collect import CollectionReport, collect_demonstrations, convert_demonstrations
from infoatlas_rl.maniskill.demos import DemonstrationSet, load_demonstrations
from infoatlas_rl.maniskill.envs import CONTROL_MODES
from infoatlas_rl.maniskill.recording import SOURCE_MODE
from infoatlas_rl.maniskill.tasks import Task

Bar = Callable[[str, int], AbstractContextManager[Callable[[int, str], None]]]
"""Opens a progress bar of a title and a total; what it gives is called with (done, note)."""
Tell = Callable[[str], None]
"""Called with lines for people, ``print`` for one."""


def no_bar(title: str, total: int) -> AbstractContextManager[Callable[[int, str], None]]:
    """Shows nothing."""
    return nullcontext(lambda done, note: None)


def demonstrations(
    task: Task,
    root: Path | str,
    *,
    count: int = 500,
    first_seed: int = 0,
    processes: int = 2,
    path: Path | str | None = None,
    progress: Bar = no_bar,
    tell: Tell = lambda text: None,
) -> DemonstrationSet:
    """All demonstrations of the file ``path``, or, without one, ``count`` collected ones, which are kept below ``root``.

    Raises:
        DemonstrationFileError: there is no such file, or it cannot be used.
        ValueError, RuntimeError, FullDiskError: see :func:`~infoatlas_rl.maniskill.collect.collect_demonstrations`.
    """
    if path is not None:
        return load_demonstrations(path, task)
    report = collect(task, root, count, first_seed=first_seed, processes=processes, progress=progress, tell=tell)
    return load_demonstrations(report.path, task, count=count)


def collect(
    task: Task,
    root: Path | str,
    count: int,
    *,
    first_seed: int = 0,
    processes: int = 2,
    control_mode: str = SOURCE_MODE,
    progress: Bar = no_bar,
    tell: Tell = lambda text: None,
) -> CollectionReport:
    """Solve scenes, and convert where another control mode than the planner's is asked for, until there are ``count``.

    Raises:
        ValueError: an unknown ``control_mode``; further ones and others as
            :func:`~infoatlas_rl.maniskill.collect.collect_demonstrations`.
    """
    if control_mode not in CONTROL_MODES:
        raise ValueError(f"demos.control_mode={control_mode} is unknown; choose one of {', '.join(CONTROL_MODES)}")
    sources = count
    while True:
        with progress(f"solving {task.name}", sources) as bar:
            report = collect_demonstrations(
                task,
                root,
                sources,
                first_seed=first_seed,
                processes=processes,
                progress=lambda done, _, note, bar=bar: bar(done, note),
            )
        tell(report.text("motion planning"))
        if control_mode == SOURCE_MODE:
            return report
        with progress(f"converting to {control_mode}", count) as bar:
            report = convert_demonstrations(
                task,
                root,
                count,
                control_mode,
                processes=processes,
                progress=lambda done, _, note, bar=bar: bar(done, note),
            )
        tell(report.text(f"conversion to {control_mode}"))
        if report.successes >= count:
            return report
        # Some demonstrations cannot be followed with the other actions: solve as many more scenes as that takes.
        sources = -(-sources * count // report.successes) + 2
