"""Collect demonstrations with ManiSkill's motion-planning solutions, in ManiSkill's own format.

    python tasks/collect_demos.py env=PegInsertion demos.count=500

Source actions are joint positions (``pd_joint_pos``); they are then converted to ``demos.control_mode``. Both files lie in
``demos/<ManiSkill id>/motionplanning``. A killed run goes on where it stopped.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.maniskill import sources
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.tasks import Task, configured_task
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.shell.progress import progress_bar


def demonstrations(cfg: DictConfig, task: Task) -> DemonstrationSet:
    """The demonstrations that a configuration asks for: those of ``demos.path``, or collected ones."""
    asked = {name: cfg.demos[name] for name in ("count", "first_seed", "processes", "path")}
    return sources.demonstrations(task, cfg.paths.demos, **asked, progress=progress_bar, tell=print)


@hydra_main("collect_demos")
def main(cfg: DictConfig) -> None:
    task = configured_task(cfg.env.task)
    sources.collect(task, cfg.paths.demos, **cfg.demos, progress=progress_bar, tell=print)


if __name__ == "__main__":
    main()
