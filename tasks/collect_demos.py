"""Collect demonstrations with ManiSkill's motion-planning solutions, in ManiSkill's own format.

    python tasks/collect_demos.py env=PegInsertion demos.count=500

Source actions are joint positions (``pd_joint_pos``); they are then converted to ``demos.control_mode``. Both files lie in
``demos/<ManiSkill id>/motionplanning``. A killed run goes on where it stopped.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.maniskill import sources
from infoatlas_rl.maniskill.tasks import configured_task
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.shell.progress import progress_bar


@hydra_main("collect_demos")
def main(cfg: DictConfig) -> None:
    task = configured_task(cfg.env.task)
    sources.collect(task, cfg.paths.demos, **cfg.demos, progress=progress_bar, tell=print)


if __name__ == "__main__":
    main()
