"""Reinforcement learning as a command, on a small scale."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest

pytest.importorskip("hydra")
pytest.importorskip("stable_baselines3")

from stable_baselines3.common.evaluation import evaluate_policy

from infoatlas_rl.files import lock_folder, sha256
from infoatlas_rl.policies.protocol import released_policy
from infoatlas_rl.policies.reinforcement import load
from infoatlas_rl.tasks.train_rl import learner, train
from tests.conftest import compose, kill_when, refusal, run


@pytest.mark.simulator
@pytest.mark.parametrize("options", [["conditioning=predicted", "start=cloned", "envs=2"], ["algorithm=ppo"]], ids=["sac", "ppo"])
def test_reinforcement_learning_trains_evaluates_and_resumes(trained, options):
    root, out, _ = trained
    command = [
        "env=PickCube",
        f"policy={out}/policy.safetensors",
        f"paths.root={root}",
        "horizon=10",
        "eval.every=60",
        "eval.episodes=2",
        "sac.learning_starts=20",
        "ppo.n_steps=60",
        "ppo.batch_size=30",
        *options,
    ]
    folders = f"runs/rl/PickCube/{'ppo' if 'algorithm=ppo' in options else 'sac'}*"

    def kept():
        return any(root.glob(f"{folders}/checkpoints/model_60_steps.pt"))

    kill_when(kept, signal.SIGTERM if "algorithm=ppo" in options else signal.SIGKILL, "tasks/train_rl.py", *command, "steps=120")
    assert not list(root.glob(f"{folders}/curve.json"))
    second = run("tasks/train_rl.py", *command, "steps=120")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed from" in second.stdout
    (curve,) = root.glob(f"{folders}/curve.json")
    assert [point["steps"] for point in json.loads(curve.read_text())["curve"]] == [60, 120]
    before = curve.read_bytes()
    third = run("tasks/train_rl.py", *command, "steps=120")
    assert "is there already" in third.stdout
    other = run("tasks/train_rl.py", *command, "steps=120", "reward=sparse")
    assert other.returncode == 1
    assert "reward: normalized_dense there, sparse here" in other.stderr
    assert curve.read_bytes() == before

    model, env = load(curve.parent)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=1)
    assert np.isfinite(mean)
    env.close()
    checkpoints = curve.parent / "checkpoints"
    buffers = [path.name for path in checkpoints.glob("replay_buffer_*")]
    assert buffers == ([] if "algorithm=ppo" in options else ["replay_buffer_120_steps.safetensors"])
    last = checkpoints / "model_120_steps.pt"
    last.write_bytes(last.read_bytes()[:100])
    broken = run("tasks/train_rl.py", *command, "steps=180")
    assert f"{last} is damaged" in broken.stderr
    assert curve.read_bytes() == before


def test_episodes_are_as_long_as_the_start_needs():
    def horizon(*options):
        return learner(compose("train_rl", "env=PegInsertion", *options)).episode

    assert horizon() == 50
    assert horizon("start=cloned") is None  # the task's
    assert horizon("start=cloned", "horizon=80") == horizon("horizon=80") == 80


def test_runs_differ_by_what_has_an_effect():
    def identity(*options):
        return learner(compose("train_rl", "env=PickCube", *options)).identity()

    assert identity() == identity("shaping=0.5", "ppo.gamma=0.5", "residual=0.1", "demos.count=9", "steps=20000")
    for option in ("sac.gamma=0.5", "reward=sparse", "horizon=80", "seed=3"):
        assert identity() != identity(option)
    predicted = identity("conditioning=predicted")
    assert predicted["policy_sha256"] == sha256(released_policy("PickCube"))
    assert predicted != identity("conditioning=predicted", "shaping=0.5")


def test_the_shaping_is_neutral_where_demonstrations_show_what_else_is_paid_for():
    def discount(*options):
        return learner(compose("train_rl", "env=PickCube", "reward=sparse", "conditioning=predicted", *options)).shaping_gamma

    assert discount() == 1
    assert discount("prior=true", "sac.gamma=0.7") == 0.7
    assert discount("prior=true", "shaping_gamma=1") == 1


@pytest.mark.simulator
def test_wrong_choices_in_reinforcement_learning_are_answered(trained):
    root = f"paths.root={trained[0]}"
    assert "algorithm=td3 is unknown; choose one of sac, ppo" in refusal("train_rl", "env=PickCube", "algorithm=td3", root)
    parts = refusal("train_rl", "env=StackPyramid", "conditioning=nearest", "reward=sparse", root)
    assert "key states of a task in several parts are of different objects" in parts
    missing = refusal("train_rl", "env=PickCube", "conditioning=nearest", root)
    assert "make them with: python tasks/discover_keystates.py env=PickCube" in missing


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("horizon=0", "horizon has to be a number of steps, at least 1, or null, not 0"),
        ("steps=0", "steps=0: all have to be at least 1"),
        ("eval.episodes=0", "eval.episodes has to be at least 1, not 0"),
        ("shaping=nan", "shaping has to be 0 or more, not nan"),
        ("residual=2", "residual has to be in [0, 1], not 2"),
        ("sac.learning_rate=nan", "sac.learning_rate has to be positive and finite, not nan"),
        ("sac.gamma=2", "sac.gamma has to be in [0, 1], not 2"),
    ],
)
def test_bad_options_of_a_learner_are_answered_before_it_starts(option, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        learner(compose("train_rl", "env=PickCube", option))


def test_a_second_learner_in_the_same_folder_is_refused(tmp_path):
    with (
        lock_folder(tmp_path),
        pytest.raises(ValueError, match=rf"^another run is at work in {tmp_path} \(process {os.getpid()}: "),
    ):
        train(compose("train_rl", "env=PickCube", f"out={tmp_path}"))
