"""The examples of how to add something run as they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "docs/extending.md").read_text()


def example(heading):
    """What the code below a heading leaves behind."""
    (code,) = re.findall(rf"## {heading}\n.*?```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names = {"__name__": "example"}
    exec(compile(code, heading, "exec"), names)
    return names


def test_an_estimator():
    names = example("An estimator")
    assert (np.abs(names["steps"][:, 0] - names["corners"]) <= 2).mean() > 0.9


@pytest.mark.simulator
def test_an_environment():
    pytest.importorskip("mani_skill")
    from omegaconf import OmegaConf

    from infoatlas_rl.maniskill.envs import make_env, read_state
    from infoatlas_rl.maniskill.tasks import configured_task

    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    config = OmegaConf.create({"env": OmegaConf.create(text)})
    there = OmegaConf.load(ROOT / "configs/env/LiftPegUpright.yaml")
    assert set(config.env) == set(there)
    assert set(config.env.task) == set(there.task)
    task = configured_task(config.env.task)
    env = make_env(task)
    env.reset(seed=0)
    assert np.isfinite(read_state(env, task)).all()
    env.close()


@pytest.mark.simulator
def test_a_policy():
    pytest.importorskip("stable_baselines3")
    episode = example("A policy")["episode"]
    assert (episode.success, episode.steps) == (False, 150)
