"""Evaluating, filming and releasing a policy as commands, on a small scale."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("stable_baselines3")

from infoatlas_rl.files import lock_folder, sha256
from infoatlas_rl.maniskill.tasks import TASKS
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.protocol import evaluation_scenes, released_policy
from infoatlas_rl.tasks import evaluate_policy, release_policy
from tests.conftest import ROOT, compose, refusal, run


def scenes(cfg, task, record):
    return evaluation_scenes(task, record, cfg.eval.split, first_seed=cfg.eval.first_seed, episodes=cfg.eval.episodes)


def test_scenes_of_the_protocol():
    cfg = compose("evaluate_policy", "env=PegInsertion")
    with pytest.raises(ValueError, match="does not say which scenes it has seen"):
        scenes(cfg, "PickCube", {})
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
    first = run("tasks/evaluate_policy.py", *options, "eval.episodes=1", f"out={tmp_path}/one.json")
    assert first.returncode == 0, first.stdout + first.stderr
    second = run("tasks/evaluate_policy.py", *options, "eval.episodes=2", f"out={tmp_path}/two.json")
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

    assert "a policy for PickCube, not for StackCube" in refusal("evaluate_policy", "env=StackCube", f"policy={policy}")
    assert "nowhere.safetensors: no such file" in refusal("evaluate_policy", "env=PickCube", "policy=nowhere.safetensors")


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
def test_a_film_is_made(trained):
    root, out, _ = trained
    options = ["env=PickCube", f"policy={out}/policy.safetensors", "seeds=[30000]", f"paths.root={root}"]
    answer = run("tasks/film_policy.py", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    folder = root / "runs/film_policy/PickCube"
    assert (folder / "rollout.gif").read_bytes().startswith(b"GIF8")
    assert (folder / "rollout.png").read_bytes().startswith(b"\x89PNG")


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
    answer = run("tasks/evaluate_policy.py", *options, "eval.stop_at_success=true")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert json.loads((tmp_path / "r.json").read_text())["k"] == 5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("out={there}", "is a folder; name a file"),
        ("out={there}/file/result.json", "cannot be written"),
        ("out={there}/notes.txt", "notes.txt is there already and holds no results; move it, or choose another out="),
        ("eval.episodes=0", "eval.episodes has to be at least 1, not 0"),
        ("eval.processes=0", "processes has to be at least 1, not 0"),
    ],
)
def test_bad_options_of_an_evaluation_are_answered_before_an_episode_runs(option, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "notes.txt").write_text("my notes")
    options = ["env=PickCube", "eval.first_seed=60000", f"run={tmp_path}/run", option.format(there=tmp_path)]
    with pytest.raises(ValueError, match=message) as refused:
        evaluate_policy.run(compose("evaluate_policy", *options))
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "run").glob("*.json*"))


@pytest.mark.parametrize("seed", ["-1", "a"])
def test_films_are_of_scenes_that_can_be(seed, tmp_path):
    assert "seeds has to be" in refusal("film_policy", "env=PickCube", f"seeds=[{seed}]", f"out={tmp_path}/film")
    assert not (tmp_path / "film").exists()


def test_a_second_evaluation_in_the_same_folder_is_refused(tmp_path):
    with (
        lock_folder(tmp_path),
        pytest.raises(ValueError, match=rf"^another run is at work in {tmp_path} \(process {os.getpid()}: "),
    ):
        evaluate_policy.run(compose("evaluate_policy", "env=PickCube", f"run={tmp_path}"))
