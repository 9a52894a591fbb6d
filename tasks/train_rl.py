"""Reinforcement learning with stable-baselines3, with and without key states, from scratch or from a cloned policy.

    python tasks/train_rl.py env=PickCube                                  # SAC
    python tasks/train_rl.py env=PickCube conditioning=predicted              # conditioned on key states, and shaped
    python tasks/train_rl.py env=PickCube reward=sparse prior=true            # half of every batch from demonstrations (RLPD)
    python tasks/train_rl.py env=PegInsertion start=cloned                    # corrections of the cloned policy

Writes to ``runs/rl/<env>/<name>-<seed>``, see ``policies/reinforcement.py``, whose ``load`` reads the learner again: success on
fresh scenes against environment steps is in ``curve.json``. A killed run goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.files import lock_folder
from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.policies.learner import ALGORITHMS, CurveConfig, LearnerConfig, Nearest
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task
from infoatlas_rl.policies.reinforcement import Learning, finished
from infoatlas_rl.policies.training import key_states_of
from infoatlas_rl.records import provenance
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import hydra_main, typed_env
from infoatlas_rl.tasks.shell.sources import demonstrations

GIVEN = ("task", "options")
"""Fields of a learner that follow from other options."""
_usual = OmegaConf.to_container(OmegaConf.structured(LearnerConfig))
# On the top level, beside options that are no field of a learner: as a plain node, which takes further ones.
ConfigStore.instance().store(group="train_rl", name="learner", node={k: v for k, v in _usual.items() if k not in GIVEN})


def train(cfg: DictConfig) -> dict[str, Any]:
    config, out = learner(cfg), Path(cfg.out)
    if config.uses_policy:  # it fits, before anything is started
        KeyStatePolicy.load(config.policy_file, cfg.env.name, key_states=config.conditioning == "predicted")
    nearest, demos = _nearest(cfg) if config.conditioning == "nearest" else (None, None)
    prior = (demos or demonstrations(cfg, policy_task(cfg.env.task))) if config.prior else None
    torch.set_float32_matmul_precision("medium")  # products of bfloat16 numbers, summed in float32: a third less time on CPUs
    with lock_folder(out):
        if cfg.resume and (found := finished(config, out, nearest, prior)) is not None:
            print(f"{out / 'curve.json'} is there already, with all {config.steps} steps")
            return found
        with Learning(config, out, nearest, prior, resume=cfg.resume) as learning:
            if learning.checkpoint is not None:
                print(f"resumed from {learning.checkpoint} at step {learning.done}")
            seconds = learning.fit()
            content = learning.write(seconds, provenance("train_rl", threads=cfg.threads))
    rows = [[str(point["steps"]), str(point["k"])] for point in content["curve"]]
    print(f"\nsuccess at any step, {config.eval.episodes} fresh scenes at a time")
    print(Table(["environment steps", "solved"], rows).text())
    print(f"{config.steps - learning.done} steps in {seconds:.0f} s; results: {out / 'curve.json'}, learner: {out / 'model.pt'}")
    return content


def learner(cfg: DictConfig) -> LearnerConfig:
    """The learner that the options describe."""
    given = {field.name: cfg[field.name] for field in fields(LearnerConfig) if field.name not in (*GIVEN, "eval")}
    options = OmegaConf.to_container(cfg[cfg.algorithm], resolve=True) if cfg.algorithm in ALGORITHMS else {}
    return LearnerConfig(
        task=OmegaConf.to_container(cfg.env.task, resolve=True) if cfg.env.task else None,
        options=options,
        eval=CurveConfig(**cfg.eval),
        **given,
    )


def _nearest(cfg: DictConfig) -> tuple[Nearest, DemonstrationSet]:
    """Key states and first states of the demonstrations, and these."""
    try:
        read_key_states(cfg.keystates_path, [])  # there before anything is collected
        demos = demonstrations(cfg, policy_task(cfg.env.task))
        _, states = key_states_of(demos, cfg.keystates_path)
    except ValueError as error:
        raise ValueError(f"{error}; make them with: python tasks/discover_keystates.py env={typed_env(cfg.env.name)}") from error
    return (states, np.stack([demo.states[0] for demo in demos])), demos


@hydra_main("train_rl")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
