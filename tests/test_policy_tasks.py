"""The entry points of policies, on a small scale: training, evaluation, comparison, release, reinforcement learning."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hydra")
pytest.importorskip("stable_baselines3")

import hydra
import torch
from hydra.utils import instantiate
from stable_baselines3.common.evaluation import evaluate_policy

from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.maniskill.tasks import TASKS
from infoatlas_rl.policies.cloning import CloningConfig
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.protocol import evaluation_scenes, released_policy
from infoatlas_rl.tasks import benchmark_rl, benchmark_scale, release_policy, table2, train_rl
from infoatlas_rl.tasks.shell.options import CONFIGS
from infoatlas_rl.weights import WeightsError

ROOT = CONFIGS.parent
ARMS = {"infoatlas", "infonet", "mine-100", "mine-1000", "no-mi", "even", "none"}
SMALL = [
    "demos.count=4",
    "demos.processes=1",
    "training.steps=24",
    "training.batch_size=16",
    "policy.width=32",
    "policy.depth=1",
    "validation.episodes=2",
    "validation.processes=1",
    "threads=1",
]


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        return hydra.compose(name, list(overrides))


def scenes(cfg, task, record):
    return evaluation_scenes(task, record, cfg.eval.split, first_seed=cfg.eval.first_seed, episodes=cfg.eval.episodes)


def run(script, *options):
    command = [sys.executable, f"tasks/{script}.py", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_configs_state_all_defaults_as_they_are_in_the_code():
    cfg = compose("train_policy", "env=StackCube")
    assert instantiate(cfg.training) == CloningConfig(steps=cfg.env.training_steps)
    assert instantiate(cfg.policy) == PolicyConfig("StackCube", key_states=cfg.env.concepts)
    stated = set(cfg.policy) - {"_target_"} | {"control_mode", "state_layout"}
    assert stated == {field.name for field in fields(PolicyConfig)}


def test_every_arm_has_key_states_and_the_command_that_makes_them():
    assert {path.stem for path in (CONFIGS / "keystates").glob("*.yaml")} == ARMS == set(compose("table2", "env=PickCube").seeds)
    for arm in ARMS:
        keystates = compose("train_policy", "env=PickCube", f"keystates={arm}").keystates
        assert keystates.name == arm
        if keystates.path is not None:
            options = [option for option in keystates.command.split() if "=" in option]
            made = compose("discover_keystates", *options)
            assert keystates.path == f"{made.out}/keystates.npz"


def test_scenes_of_the_protocol():
    cfg = compose("evaluate_policy", "env=PegInsertion")
    record = {"demonstrations": {"seeds": [3, 5, 8]}, "config": {"validation": {"first_seed": 100, "episodes": 10}}}
    assert scenes(cfg, "PegInsertion", record) == list(range(2000, 2400))
    assert scenes(cfg, "PickCube", record) == list(range(2000, 2100))
    cfg.eval.split = "seen"
    assert scenes(cfg, "PegInsertion", record) == [3, 5, 8]
    cfg.eval.episodes = 2
    assert scenes(cfg, "PegInsertion", record) == [3, 5]
    cfg.eval.episodes = 4
    with pytest.raises(ValueError, match=r"eval.episodes=4, but the policy has seen 3 such scenes"):
        scenes(cfg, "PegInsertion", record)
    cfg.eval.first_seed, cfg.eval.episodes = 4, None
    assert scenes(cfg, "PegInsertion", record) == [5, 8]
    cfg.eval.split, cfg.eval.episodes = "unseen", 3
    assert scenes(cfg, "PegInsertion", record | {"demonstrations": {"seeds": [3]}}) == [4, 5, 6]
    cfg.eval.episodes = 5
    with pytest.raises(ValueError, match=r"2 of the scenes 4 to 8 are among the policy's demonstrations"):
        scenes(cfg, "PegInsertion", record)
    cfg.eval.first_seed = 107
    with pytest.raises(ValueError, match=r"3 of the scenes 107 to 111 are those of its validation"):
        scenes(cfg, "PegInsertion", record)
    cfg.eval.split = "test"
    with pytest.raises(ValueError, match="choose seen or unseen"):
        scenes(cfg, "PegInsertion", record)


def test_validation_scenes_are_neither_seen_nor_tested():
    cfg = compose("train_policy", "env=PegInsertion")
    validation = range(cfg.validation.first_seed, cfg.validation.first_seed + cfg.validation.episodes)
    # 500 PegInsertion demonstrations use fewer than 1000 seeds, 1000 fewer than 2000.
    assert validation.start > max(cfg.demos.first_seed + 2000, 2400)
    rl = compose("train_rl", "env=PegInsertion")
    assert rl.eval.first_seed > validation.stop


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A policy that was trained in a few steps on four demonstrations."""
    root = tmp_path_factory.mktemp("root")
    answer = run("train_policy", "env=PickCube", "keystates=even", f"paths.root={root}", *SMALL)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return root, root / "runs/policies/PickCube/even-0", answer.stdout


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
def test_evaluation_writes_every_episode_and_goes_on_where_it_was(trained, tmp_path):
    _, out, _ = trained
    policy = out / "policy.safetensors"
    options = [
        "env=PickCube",
        f"policy={policy}",
        "eval.first_seed=60000",
        f"run={tmp_path}",
        "eval.processes=1",
        "eval.stop_at_success=true",
    ]
    first = run("evaluate_policy", *options, "eval.episodes=1", f"out={tmp_path}/one.json")
    assert first.returncode == 0, first.stdout + first.stderr
    second = run("evaluate_policy", *options, "eval.episodes=2", f"out={tmp_path}/two.json")
    assert second.returncode == 0, second.stdout + second.stderr
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert (one["n"], two["n"]) == (1, 2)
    assert two["episodes"][0] == one["episodes"][0]
    assert [episode["seed"] for episode in two["episodes"]] == [60000, 60001]
    assert two["k"] == sum(episode["success"] for episode in two["episodes"])
    assert two["horizon"] == 150
    assert two["policy"]["sha256"] == sha256(policy)
    assert two["wilson95"][0] <= two["rate"] <= two["wilson95"][1]
    assert "of 2" in second.stdout

    other = run("evaluate_policy", "env=StackCube", f"policy={policy}")
    assert other.returncode == 1
    assert "a policy for PickCube, not for StackCube" in other.stderr
    missing = run("evaluate_policy", "env=PickCube", "policy=nowhere.safetensors")
    assert "nowhere.safetensors: no such file" in missing.stderr


@pytest.mark.simulator
def test_a_killed_training_goes_on_to_the_same_policy(trained):
    root, _, _ = trained
    options = ["env=PickCube", "keystates=even", f"paths.root={root}", *SMALL, "name=killed", "training.steps=600"]
    command = [sys.executable, "tasks/train_policy.py", *options]
    folder = root / "runs/policies/PickCube/killed"
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (folder / "checkpoint.pt").is_file()
    assert not (folder / "policy.safetensors").is_file()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resumed from" in again.stdout
    whole = run("train_policy", *options, "name=whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    policies = [
        KeyStatePolicy.load(root / f"runs/policies/PickCube/{name}/step_000600.safetensors") for name in ("killed", "whole")
    ]
    a, b = (policy.state_dict() for policy in policies)
    assert all((a[name] == b[name]).all() for name in a)

    other = run("train_policy", *options, "training.learning_rate=0.01")
    assert other.returncode == 1
    assert "learning_rate: 0.001 there, 0.01 here" in other.stderr


@pytest.mark.simulator
def test_missing_key_states_are_answered_with_the_command_that_makes_them(trained):
    root, _, _ = trained
    answer = run("train_policy", "env=PickCube", "keystates=mine-100", f"paths.root={root}", *SMALL)
    assert answer.returncode == 1
    command = "python tasks/discover_keystates.py env=PickCube name=mine-100 estimator=mine estimator.steps=100 demos.count=4"
    assert f"make them with: {command}" in answer.stderr

    path = root / "others.npz"
    np.savez(path, seed=np.arange(10, 14), step=np.zeros((4, 4), int), states=np.zeros((4, 4, 100)), weights_sha256="")
    answer = run("train_policy", "env=PickCube", f"keystates.path={path}", f"paths.root={root}", *SMALL)
    assert "4 of the 4 that are needed are not among them (seed 0, for one)" in answer.stderr
    np.savez(path, seed=np.arange(4), step=np.zeros((4, 3), int), states=np.zeros((4, 3, 100)), weights_sha256="")
    answer = run("train_policy", "env=PickCube", f"keystates.path={path}", f"paths.root={root}", *SMALL)
    assert "holds 3 key states a demonstration, the policy needs 4; make them with" in answer.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("env=LiftPegUpright", "env=LiftPegUpright has no 100-D state"),
        ("training.batch_size=0", "batch_size has to be at least 1, not 0"),
        ("validation.rounds=[1.2]", "shares of the training in (0, 1]"),
        ("training.steps=many", "training.steps has to be an integer, not 'many'"),
        ("validation.rounds=1", "validation.rounds has to be a list, as in [1,2], not '1'"),
        ("demos.processes=0", "demos.processes has to be at least 1, not 0"),
    ],
)
def test_bad_options_are_answered_before_anything_is_collected(option, message, tmp_path):
    answer = run("train_policy", "env=PickCube", "keystates=even", f"paths.root={tmp_path}", option)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert not (tmp_path / "demos").exists()


def test_paired_differences_are_those_of_the_same_scenes(tmp_path):
    cfg = compose("table2", "env=PickCube", f"run={tmp_path}")
    for arm, solved in (("infoatlas", range(0, 100)), ("none", range(20, 100))):
        for split in ("seen", "unseen"):
            folder = tmp_path / f"{arm}-0"
            folder.mkdir(exist_ok=True)
            episodes = [{"seed": seed, "success": seed in solved} for seed in range(100)]
            (folder / f"{split}.json").write_text(json.dumps({"episodes": episodes}))
    result = table2._paired(cfg, [0, 1], [0])
    assert result["seeds"] == [0]
    assert result["unseen"]["difference"] == 0.2
    low, high = result["unseen"]["interval95"]
    # standard error of a share of 0.2 in 100: 0.04
    assert 0.10 < low < 0.15
    assert 0.25 < high < 0.30


def test_success_against_demonstrations_is_gathered(tmp_path, monkeypatch):
    discovered = []

    def train(folder, env, splits, *options):
        given = dict(option.split("=", 1) for option in options)
        count = int(given["demos.count"])
        episodes = [{"seed": 2000 + i, "success": i < count // 10} for i in range(splits["unseen"])]
        folder.mkdir(parents=True, exist_ok=True)
        # As the tasks write them, whole: results are gathered while the next policy is trained.
        (folder / "training.json").write_text(json.dumps({"keystates": {}, "version": "1", "machine": {}}))
        with replace_file(folder / "unseen.json") as temporary:
            temporary.write_text(json.dumps({"episodes": episodes}))
        assert ("keystates.path" in given) == (given["keystates"] == "infoatlas")

    monkeypatch.setattr(benchmark_scale, "run_task", lambda script, log, *options: discovered.append((script, options)))
    monkeypatch.setattr(benchmark_scale, "collect_first", lambda cfg, count: None)
    monkeypatch.setattr(benchmark_scale, "train_and_evaluate", train)
    files = [f"out={tmp_path}/scale.json", f"picture={tmp_path}/scale.png", f"run={tmp_path}/run"]
    benchmark_scale.run(compose("benchmark_scale", "env=StackCube", "counts=[20,50]", "seeds=[0,1]", "episodes=10", *files))
    arms = json.loads((tmp_path / "scale.json").read_text())["StackCube"]["arms"]
    assert {arm: {count: (r["k"], r["n"]) for count, r in found.items()} for arm, found in arms.items()} == {
        arm: {"20": (4, 20), "50": (10, 20)} for arm in ("infoatlas", "none")
    }
    # Key states are found in the demonstrations at hand, and only for the arm that has them.
    counts = [option for _, options in discovered for option in options if option.startswith("demos.count=")]
    assert sorted(counts) == ["demos.count=20"] * 2 + ["demos.count=50"] * 2
    assert (tmp_path / "scale.png").stat().st_size > 5000


def test_a_policy_is_released_only_after_it_has_been_measured(tmp_path, monkeypatch):
    torch.manual_seed(0)
    source = tmp_path / "policy.safetensors"
    policy = KeyStatePolicy(PolicyConfig("PickCube", key_states=4, width=32, depth=1))
    cfg = compose("release_policy", "env=PickCube", f"policy={source}", f"folder={tmp_path}/released", f"out={tmp_path}/p.json")
    cfg.run = str(tmp_path)
    policy.save(source, {"config": {"training": {"steps": 3}}})
    with pytest.raises(ValueError, match="is a candidate of a training"):
        release_policy.release(cfg)
    record = dict.fromkeys(("seconds", "steps_per_s", "machine", "command", "chosen_step"), 1)
    keystates = {"arm": "infoatlas", "weights_sha256": "of the weights that found them"}
    policy.save(source, record | {"config": {"training": {"steps": 3}}, "keystates": keystates})

    def evaluation(script, log, *options):
        given = dict(option.split("=", 1) for option in options)
        assert not (tmp_path / "released").exists()
        result = {"k": 9, "n": 10, "k_at_end": 8, "episodes": [], "policy": {"path": given["policy"]}}
        Path(given["out"]).write_text(json.dumps(result))

    monkeypatch.setattr(release_policy, "run_task", evaluation)
    release_policy.release(cfg)
    assert sha256(tmp_path / "released/policies/PickCube.safetensors") == sha256(source)
    result = json.loads((tmp_path / "p.json").read_text())["PickCube"]
    assert result["unseen"]["k_at_end"] == 8
    assert result["unseen"]["policy"]["path"] == f"{tmp_path}/released/policies/PickCube.safetensors"
    assert result["weights_sha256"] == "of the weights that found them"


@pytest.mark.simulator
def test_the_comparison_of_arms(trained, tmp_path):
    root, _, _ = trained
    out_file = tmp_path / "table2.json"
    options = ["env=PickCube", f"paths.root={root}", f"out={out_file}", "seen=2", "jobs=2", "demos=4"]
    small = " ".join([option for option in SMALL if not option.startswith("threads")] + ["validation.rounds=[1.0]"])
    seeds = ["seeds.infoatlas=[]", "seeds.none=[0]", "seeds.even=[0]"]
    seeds += [f"seeds.{arm}=[]" for arm in ARMS - {"infoatlas", "none", "even"}]
    answer = run("table2", *options, *seeds, f"train='{small}'", "unseen=2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    arms = json.loads(out_file.read_text())["PickCube"]
    assert set(arms) == {"none", "even"}
    for result in arms.values():
        assert result["unseen"]["n"] == result["seen"]["n"] == 2
        assert result["seeds"] == [0]
    again = run("table2", *options, *seeds, "train='training.steps=5'", "unseen=2")
    assert again.returncode == 1
    assert re.search(r"training.steps: \d+ there, 5 here.*remove the folder", again.stderr, re.DOTALL)
    # Key states that are found anew do not go with the policies of the old ones.
    there = root / "runs/table2/PickCube/even-0"
    record = json.loads((there / "training.json").read_text())
    other = tmp_path / "keystates.npz"
    other.write_bytes(b"found anew")
    changed = record | {"keystates": record["keystates"] | {"path": str(other), "sha256": "of the old ones"}}
    (there / "training.json").write_text(json.dumps(changed))
    refused = run("table2", *options, *seeds, f"train='{small}'", "unseen=2")
    assert refused.returncode == 1
    assert f"{other} has changed since the policy in {there} was trained" in refused.stderr
    (there / "training.json").write_text(json.dumps(record))
    # trained alike but for the weight of the key states
    none, even = (json.loads((root / f"runs/table2/PickCube/{arm}-0/training.json").read_text()) for arm in ("none", "even"))
    assert none["demonstrations"] == even["demonstrations"]
    assert none["config"]["training"] == even["config"]["training"] | {"key_weight": 0.0}
    assert even["config"]["training"]["key_weight"] > 0


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
    first = run("train_rl", *command, "steps=60")
    assert first.returncode == 0, first.stdout + first.stderr
    (curve,) = (root / "runs/rl/PickCube").glob(f"{'ppo' if 'algorithm=ppo' in options else 'sac'}*/curve.json")
    result = json.loads(curve.read_text())
    assert [point["steps"] for point in result["curve"]] == [60]
    second = run("train_rl", *command, "steps=120")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed from" in second.stdout
    assert [point["steps"] for point in json.loads(curve.read_text())["curve"]] == [60, 120]
    before = curve.read_bytes()
    third = run("train_rl", *command, "steps=120")
    assert "is there already" in third.stdout
    other = run("train_rl", *command, "steps=120", "reward=sparse")
    assert other.returncode == 1
    assert "reward: normalized_dense there, sparse here" in other.stderr
    assert curve.read_bytes() == before

    learner, env = train_rl.load(curve.parent)
    mean, _ = evaluate_policy(learner, env, n_eval_episodes=1)
    assert np.isfinite(mean)
    env.close()
    checkpoints = curve.parent / "checkpoints"
    buffers = [path.name for path in checkpoints.glob("*.pkl")]
    assert buffers == ([] if "algorithm=ppo" in options else ["model_replay_buffer_120_steps.pkl"])
    for path in checkpoints.glob("*.zip"):
        path.write_bytes(path.read_bytes()[:100])
    broken = run("train_rl", *command, "steps=180")
    assert "none of the 2 checkpoints" in broken.stderr
    assert curve.read_bytes() == before


def test_episodes_are_as_long_as_the_start_needs():
    def horizon(*options):
        return train_rl._horizon(compose("train_rl", "env=PegInsertion", *options))

    assert horizon() == 50
    assert horizon("start=cloned") is None  # the task's
    assert horizon("start=cloned", "horizon=80") == horizon("horizon=80") == 80


def test_runs_differ_by_what_has_an_effect():
    def identity(*options):
        return train_rl._identity(compose("train_rl", "env=PickCube", *options))

    assert identity() == identity("shaping=0.5", "ppo.gamma=0.5", "residual=0.1", "demos.count=9", "steps=9")
    for option in ("sac.gamma=0.5", "reward=sparse", "horizon=80", "seed=3"):
        assert identity() != identity(option)
    predicted = identity("conditioning=predicted")
    assert predicted["policy_sha256"] == sha256(released_policy("PickCube"))
    assert predicted != identity("conditioning=predicted", "shaping=0.5")


def test_curves_of_learners_are_gathered_over_seeds_and_rewards(tmp_path, monkeypatch):
    def learner(script, log, *options):
        given = dict(option.split("=", 1) for option in options)
        log.parent.mkdir(parents=True)
        solved = int(given["seed"]) + (5 if "conditioning" in given else 0)
        curve = [{"steps": 10, "k": 0}, {"steps": 20, "k": solved}]
        result = {"seed": int(given["seed"]), "episodes": 8, "curve": curve, "version": "1", "machine": {}}
        (log.parent / "options.json").write_text(json.dumps({"policy_sha256": "ab"} if "conditioning" in given else {}))
        with replace_file(log.parent / "curve.json") as temporary:
            temporary.write_text(json.dumps(result))

    monkeypatch.setattr(benchmark_rl, "run_task", learner)
    for reward in ("normalized_dense", "sparse"):
        files = [f"out={tmp_path}/rl.json", f"picture={tmp_path}/rl.png", f"run={tmp_path}/{reward}"]
        benchmark_rl.run(compose("benchmark_rl", "env=PickCube", f"reward={reward}", *files))
    content = json.loads((tmp_path / "rl.json").read_text())
    assert list(content) == ["PickCube, normalized dense reward", "PickCube, sparse reward"]
    for entry in content.values():
        assert entry["arms"]["plain SAC"]["curve"] == {"10": [0, 0], "20": [0, 1]}
        assert entry["arms"]["SAC with key states"]["curve"] == {"10": [0, 0], "20": [5, 6]}
        assert [arm["policy_sha256"] for arm in entry["arms"].values()] == [None, "ab", "ab"]
    assert (tmp_path / "rl.png").stat().st_size > 5000


@pytest.mark.simulator
def test_wrong_choices_in_reinforcement_learning_are_answered(trained):
    answer = run("train_rl", "env=PickCube", "algorithm=td3", f"paths.root={trained[0]}")
    assert answer.returncode == 1
    assert "algorithm=td3 is unknown; choose one of sac, ppo" in answer.stderr
    answer = run("train_rl", "env=PickCube", "conditioning=nearest", f"paths.root={trained[0]}")
    assert "make them with: python tasks/discover_keystates.py env=PickCube" in answer.stderr


def test_a_policy_without_key_states_predicts_none(tmp_path):
    policy = KeyStatePolicy(PolicyConfig("PickCube", key_states=4, width=32, depth=1))
    policy.save(tmp_path / "policy.safetensors", {"config": {"training": {"key_weight": 0.0}}})
    KeyStatePolicy.load(tmp_path / "policy.safetensors")
    with pytest.raises(WeightsError, match="trained without key states and predicts none"):
        KeyStatePolicy.load(tmp_path / "policy.safetensors", key_states=True)


@pytest.mark.simulator
def test_a_film_is_made(trained):
    root, out, _ = trained
    options = ["env=PickCube", f"policy={out}/policy.safetensors", "seeds=[30000]", f"paths.root={root}"]
    answer = run("film_policy", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    folder = root / "runs/film_policy/PickCube"
    assert (folder / "rollout.gif").read_bytes().startswith(b"GIF8")
    assert (folder / "rollout.png").read_bytes().startswith(b"\x89PNG")


# --- what is released -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_released_policies_are_those_that_were_measured(name):
    path = released_policy(name)
    policy = KeyStatePolicy.load(path, name)
    assert policy.config.key_states == compose("train_policy", f"env={name}").env.concepts
    assert path.stat().st_size < 10 * 2**20
    results = json.loads((ROOT / "docs/results/policies.json").read_text())[name]
    for split in ("seen", "unseen"):
        assert results[split]["policy"]["sha256"] == sha256(path)


@pytest.mark.simulator
def test_the_released_policy_picks_cubes_up(tmp_path):
    """A seeded run in five scenes; of 100 others it solves all."""
    options = ["env=PickCube", "eval.first_seed=60000", "eval.episodes=5", f"out={tmp_path}/r.json", f"run={tmp_path}"]
    answer = run("evaluate_policy", *options, "eval.stop_at_success=true")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert json.loads((tmp_path / "r.json").read_text())["k"] == 5
