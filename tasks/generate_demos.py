"""Make many demonstrations from a few: stretches between key states are replayed in new scenes.

    python tasks/generate_demos.py env=StackCube demos.count=5 generate.count=500
    python tasks/generate_demos.py env=PickCube demos.path=my.h5 generate.count=200
    python tasks/generate_demos.py env=PickCube cuts=even            # to compare: other cuts than key states

Finds the key states of the few demonstrations, and which object each stretch between them belongs to, by mutual information;
moves the stretches with these objects into new scenes; and keeps what ManiSkill says solves the task, in ManiSkill's own format,
below ``demos/<ManiSkill id>/generated``. A killed run goes on where it stopped. Policies are trained on it with ``demos.path=``.
"""

from __future__ import annotations

import time

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.maniskill.tasks import configured_task
from infoatlas_rl.policies.cuts import CUTS, find_cuts
from infoatlas_rl.policies.generation import check_generation, generate_demonstrations, generated_path, make_plan
from infoatlas_rl.policies.references import describe
from infoatlas_rl.tasks.shell.options import defaults_of_discovery, hydra_main, typed_env
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.shell.sources import demonstrations

defaults_of_discovery()


@hydra_main("generate_demos")
def main(cfg: DictConfig) -> None:
    began = time.monotonic()
    task, config = configured_task(cfg.env.task), OmegaConf.to_object(cfg.discovery)
    if cfg.cuts not in CUTS:
        raise ValueError(f"cuts has to be one of {', '.join(CUTS)}, not {cfg.cuts!r}")
    check_generation(**cfg.generate)
    estimator = instantiate(cfg.estimator) if cfg.estimator else None
    demos = demonstrations(cfg, task)
    print(f"{len(demos)} demonstrations from {demos.path}, cut at: {cfg.cuts}")
    plan = make_plan(demos, find_cuts(cfg.cuts, demos, estimator, config))
    print(describe(plan.cuts, plan.references).text())
    path = generated_path(cfg.paths.demos, task, cfg.name)
    with progress_bar(f"generating {task.name}", cfg.generate.count) as bar:
        report = generate_demonstrations(demos, plan, path, **cfg.generate, progress=lambda done, _, note: bar(done, note))
    print(report.text("replayed in new scenes"))
    print(f"{time.monotonic() - began:.0f} s")
    print(f"train on them: python tasks/train_policy.py env={typed_env(cfg.env.name)} keystates=none demos.path={path}")


if __name__ == "__main__":
    main()
