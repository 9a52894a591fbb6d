"""Demonstrations that options ask for."""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.maniskill import sources
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.tasks import Task
from infoatlas_rl.tasks.shell.progress import progress_bar


def demonstrations(cfg: DictConfig, task: Task) -> DemonstrationSet:
    """The demonstrations that a configuration asks for: those of ``demos.path``, or collected ones."""
    asked = {name: cfg.demos[name] for name in ("count", "first_seed", "processes", "path")}
    return sources.demonstrations(task, cfg.paths.demos, **asked, progress=progress_bar, tell=print)
