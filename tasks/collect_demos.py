"""Collect demonstrations with ManiSkill's motion-planning solutions, in ManiSkill's own format.

    python tasks/collect_demos.py env=PegInsertion demos.count=500

Source actions are joint positions (``pd_joint_pos``); they are then converted to ``demos.control_mode``. Both files lie in
``demos/<ManiSkill id>/motionplanning``. A killed run goes on where it stopped.
"""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.maniskill.collect import (
    SOURCE_MODE,
    CollectionReport,
    collect_demonstrations,
    convert_demonstrations,
)
from infoatlas_rl.maniskill.demos import DemonstrationSet, load_demonstrations
from infoatlas_rl.maniskill.envs import CONTROL_MODES
from infoatlas_rl.maniskill.tasks import Task, get_task
from infoatlas_rl.tasks.options import hydra_main
from infoatlas_rl.tasks.progress import progress_bar


def collect(task: Task, root: Path, count: int, first_seed: int, processes: int, control_mode: str) -> CollectionReport:
    """Collect, and convert where another control mode than the source's is asked for."""
    if control_mode not in CONTROL_MODES:
        raise ValueError(f"demos.control_mode={control_mode} is unknown; choose one of {', '.join(CONTROL_MODES)}")
    sources = count
    while True:
        with progress_bar(f"solving {task.name}", sources) as bar:
            report = collect_demonstrations(
                task,
                root,
                sources,
                first_seed=first_seed,
                processes=processes,
                progress=lambda done, _, note, bar=bar: bar(done, note),
            )
        _print_report(report, "motion planning")
        if control_mode == SOURCE_MODE:
            return report
        with progress_bar(f"converting to {control_mode}", count) as bar:
            report = convert_demonstrations(
                task,
                root,
                count,
                control_mode,
                processes=processes,
                progress=lambda done, _, note, bar=bar: bar(done, note),
            )
        _print_report(report, f"conversion to {control_mode}")
        if report.successes >= count:
            return report
        # Some demonstrations cannot be followed with the other actions: solve as many more scenes as that takes.
        sources = -(-sources * count // report.successes) + 2


def _print_report(report: CollectionReport, what: str) -> None:
    if report.reused:
        print(f"{what}: {report.successes} demonstrations are there already")
    else:
        print(f"{what}: {report.successes} demonstrations, {report.failures} of {report.attempts} attempts failed")
    if not report.reused and report.failures:
        reasons: dict[str, int] = {}
        for failure in json.loads(report.path.with_suffix(".json").read_text())["collection"]["failures"]:
            reasons[failure["reason"]] = reasons.get(failure["reason"], 0) + 1
        for reason, times in sorted(reasons.items(), key=lambda item: -item[1]):
            print(f"  {times} x {reason}")
    print(f"  {report.path}")


def demonstrations(cfg: DictConfig, task: Task) -> DemonstrationSet:
    """The demonstrations that a configuration asks for: those of ``demos.path``, or collected ones."""
    if cfg.demos.path is not None:
        return load_demonstrations(cfg.demos.path, task)
    root, demos = Path(cfg.paths.demos), cfg.demos
    report = collect(task, root, demos.count, demos.first_seed, demos.processes, control_mode=SOURCE_MODE)
    return load_demonstrations(report.path, task, count=demos.count)


@hydra_main("collect_demos")
def main(cfg: DictConfig) -> None:
    demos = cfg.demos
    task = get_task(**cfg.env.task)
    collect(task, Path(cfg.paths.demos), demos.count, demos.first_seed, demos.processes, demos.control_mode)


if __name__ == "__main__":
    main()
