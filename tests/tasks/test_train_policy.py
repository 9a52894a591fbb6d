"""Training a policy as a command, on a small scale."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest

pytest.importorskip("hydra")
pytest.importorskip("stable_baselines3")

from omegaconf import OmegaConf

from infoatlas_rl.files import lock_folder
from infoatlas_rl.policies.cloning import CloningConfig
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.training import ValidationConfig
from infoatlas_rl.tasks.shell.options import CONFIGS
from infoatlas_rl.tasks.train_policy import train
from tests.conftest import KEYSTATE_ARMS, SMALL_TRAINING, compose, kill_when, refusal, run


def test_every_arm_has_key_states_and_the_command_that_makes_them():
    assert (
        {path.stem for path in (CONFIGS / "keystates").glob("*.yaml")}
        == KEYSTATE_ARMS
        == set(compose("table2", "env=PickCube").seeds)
    )
    for arm in KEYSTATE_ARMS:
        keystates = compose("train_policy", "env=PickCube", f"keystates={arm}").keystates
        assert keystates.name == arm
        if keystates.path is not None:
            options = [option for option in keystates.command.split() if "=" in option]
            made = compose("discover_keystates", *options)
            assert keystates.path == f"{made.out}/keystates.npz"


def test_validation_scenes_are_neither_seen_nor_tested():
    cfg = compose("train_policy", "env=PegInsertion")
    validation = range(cfg.validation.first_seed, cfg.validation.first_seed + cfg.validation.episodes)
    # 500 PegInsertion demonstrations use fewer than 1000 seeds, 1000 fewer than 2000.
    assert validation.start > max(cfg.demos.first_seed + 2000, 2400)
    rl = compose("train_rl", "env=PegInsertion")
    assert rl.eval.first_seed > validation.stop


@pytest.mark.simulator
def test_training_writes_a_policy_and_says_how_it_was_made(trained):
    _, out, printed = trained
    record = json.loads((out / "training.json").read_text())
    policy, header = KeyStatePolicy.load_with_record(out / "policy.safetensors", "PickCube")
    assert policy.config.width == 32
    assert header == record
    assert KeyStatePolicy.load_with_record(out / "step_000019.safetensors")[1]["demonstrations"] == record["demonstrations"]
    assert record["keystates"] == {"arm": "even"}
    assert record["demonstrations"]["seeds"] == [0, 1, 2, 3]
    assert [r["step"] for r in record["validation"]] == [19, 24]
    assert record["chosen_step"] in (19, 24)
    assert record["steps_per_s"] > 0
    assert "steps/s" in printed
    assert list((out / "tensorboard").iterdir())


@pytest.mark.simulator
def test_a_killed_training_goes_on_to_the_same_policy(trained):
    root, _, _ = trained
    options = ["env=PickCube", "keystates=even", f"paths.root={root}", *SMALL_TRAINING, "name=killed", "training.steps=600"]
    folder = root / "runs/policies/PickCube/killed"
    kill_when((folder / "checkpoint.pt").is_file, signal.SIGKILL, "tasks/train_policy.py", *options)
    assert not (folder / "policy.safetensors").is_file()
    again = run("tasks/train_policy.py", *options)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resumed from" in again.stdout
    whole = run("tasks/train_policy.py", *options, "name=whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    policies = [
        KeyStatePolicy.load(root / f"runs/policies/PickCube/{name}/step_000600.safetensors") for name in ("killed", "whole")
    ]
    a, b = (policy.state_dict() for policy in policies)
    assert all((a[name] == b[name]).all() for name in a)

    other = run("tasks/train_policy.py", *options, "training.learning_rate=0.01")
    assert other.returncode == 1
    assert "learning_rate: 0.001 there, 0.01 here" in other.stderr


@pytest.mark.simulator
def test_missing_key_states_are_answered_with_the_command_that_makes_them(trained):
    root, _, _ = trained
    answer = run("tasks/train_policy.py", "env=PickCube", "keystates=mine-100", f"paths.root={root}", *SMALL_TRAINING)
    assert answer.returncode == 1
    command = "python tasks/discover_keystates.py env=PickCube name=mine-100 estimator=mine estimator.steps=100 demos.count=4"
    assert f"make them with: {command}" in answer.stderr

    path = root / "others.npz"
    np.savez(path, seed=np.arange(10, 14), step=np.zeros((4, 4), int), states=np.zeros((4, 4, 100)), weights_sha256="")
    answer = run("tasks/train_policy.py", "env=PickCube", f"keystates.path={path}", f"paths.root={root}", *SMALL_TRAINING)
    assert "4 of the 4 that are needed are not among them (seed 0, for one)" in answer.stderr
    np.savez(path, seed=np.arange(4), step=np.zeros((4, 3), int), states=np.zeros((4, 3, 100)), weights_sha256="")
    answer = run("tasks/train_policy.py", "env=PickCube", f"keystates.path={path}", f"paths.root={root}", *SMALL_TRAINING)
    assert "holds 3 key states a demonstration, the policy needs 4; make them with" in answer.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("env=LiftPegUpright", "env=LiftPegUpright has no 100-D state"),
        ("training.batch_size=0", "training.batch_size has to be at least 1, not 0"),
        ("training.displacement.share=2", "training.displacement.share has to be in [0, 1], not 2"),
        ("policy.width=30", "policy.width=30 has to be a multiple of policy.heads=4"),
        ("policy.heads=0", "policy.heads has to be at least 1, not 0"),
        ("validation.rounds=[1.2]", "validation.rounds=[1.2] have to be shares of the training in (0, 1]"),
        ("validation.processes=0", "validation.processes has to be at least 1, not 0"),
        ("demos.processes=0", "demos.processes has to be at least 1, not 0"),
        ("policy.task=StackCube", "policy.task=StackCube is no choice: with env=PickCube it is PickCube"),
    ],
)
def test_bad_options_are_answered_before_anything_is_collected(option, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        train(compose("train_policy", "env=PickCube", "keystates=even", f"paths.root={tmp_path}", option))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("training.steps=many", "training.steps has to be an integer, not 'many'"),
        ("validation.rounds=1", "validation.rounds has to be a list, as in [1,2], not '1'"),
    ],
)
def test_options_of_another_type_are_answered_in_one_line(option, message):
    assert refusal("train_policy", "env=PickCube", option) == f"error: {message}"


def test_the_defaults_of_options_are_those_of_the_code():
    cfg = compose("train_policy", "env=StackCube")
    assert OmegaConf.to_object(cfg.training) == CloningConfig(steps=cfg.env.training_steps)
    assert OmegaConf.to_object(cfg.policy) == PolicyConfig("StackCube", key_states=cfg.env.concepts)
    assert OmegaConf.to_object(cfg.validation) == ValidationConfig()


def test_the_quick_experiment_trains_with_its_own_key_states():
    quick, found = (compose(name, "env=PickCube", "experiment=quick") for name in ("train_policy", "discover_keystates"))
    assert quick.keystates.path == f"{found.out}/keystates.npz"
    # Discovery has two options more, of data sets that policies are not trained on.
    assert quick.demos == {name: value for name, value in found.demos.items() if name not in ("columns", "annotate")}
    assert quick.name == "quick-infoatlas-0"
    assert quick.training.steps < quick.env.training_steps
    even = compose("train_policy", "env=PickCube", "experiment=quick", "keystates=even")
    assert (even.keystates.path, even.name) == (None, "quick-even-0")


def test_quick_key_states_are_named_where_the_usual_ones_are_missing(tmp_path):
    options = ["train_policy", "env=PickCube", f"paths.root={tmp_path}"]
    with pytest.raises(ValueError, match=r"make them with: python tasks/discover_keystates.py env=PickCube experiment=quick$"):
        train(compose(*options, "experiment=quick"))
    there = tmp_path / "runs/keystates/PickCube-quick/keystates.npz"
    there.parent.mkdir(parents=True)
    there.touch()
    with pytest.raises(
        ValueError, match=f"there are key states of fewer demonstrations at {there}, experiment=quick trains with"
    ):
        train(compose(*options))


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    cfg = compose("train_policy", "env=PickCube", "keystates=even", f"paths.root={tmp_path}", f"out={tmp_path}/out")
    with (
        lock_folder(tmp_path / "out"),
        pytest.raises(ValueError, match=rf"^another run is at work in {tmp_path}/out \(process {os.getpid()}: .*\); wait"),
    ):
        train(cfg)
    assert not (tmp_path / "demos").exists()
