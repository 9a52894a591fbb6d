"""Configs and options of the commands: they compose, state every default once, and wrong ones are answered in words."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("hydra")

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from infoatlas_rl import InfoAtlasConfig
from infoatlas_rl.baselines.infonet import InfoNetConfig
from infoatlas_rl.baselines.mist import MISTConfig
from infoatlas_rl.baselines.paper import PaperConfig
from infoatlas_rl.maniskill.tasks import TASKS, get_task
from infoatlas_rl.pretraining.atlas import AtlasConfig
from infoatlas_rl.pretraining.head import CalibrateConfig
from infoatlas_rl.pretraining.infonet import InfoNetTraining
from infoatlas_rl.pretraining.mist import MISTTraining
from infoatlas_rl.pretraining.trainer import PretrainConfig
from infoatlas_rl.tasks.shell import options
from infoatlas_rl.tasks.shell.options import CONFIGS, _check_overrides
from infoatlas_rl.tasks.suites import arms
from tests.conftest import ROOT, compose, needs, refusal, run

TOP_LEVEL = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_every_config_belongs_to_a_script_and_composes(name):
    assert (ROOT / "tasks" / f"{name}.py").is_file()
    assert compose(name, *needs(name)).paths.runs == "./runs"


FURTHER = ("LiftPegUpright", "PlugCharger", "PullCubeTool", "StackPyramid")


def test_every_task_has_a_config():
    assert {path.stem for path in (CONFIGS / "env").glob("*.yaml")} == {*TASKS, *FURTHER, "any"}
    for name in TASKS:
        assert get_task(**compose("discover_keystates", f"env={name}").env.task) is TASKS[name]
    for name in FURTHER:
        further = get_task(**compose("discover_keystates", f"env={name}").env.task)
        assert (further.env_id, further.events) == (f"{name}-v1", ())


def test_every_arm_of_the_benchmark_can_be_made():
    arms = compose("benchmark_keystates", "env=PickCube").arms
    assert list(arms) == ["infoatlas", "infonet", "mine-100", "mine-1000", "none"]
    assert [instantiate(arms[arm]).steps for arm in ("mine-100", "mine-1000")] == [100, 1000]
    for name, arm in (("infoatlas", arms.infoatlas), ("infonet", arms.infonet), ("none", arms.none)):
        assert compose("discover_keystates", "env=PickCube", f"estimator={name}").estimator == arm


@pytest.mark.parametrize(
    ("config", "node", "schema"),
    [
        ("pretrain", "model", InfoAtlasConfig),
        ("pretrain", "atlas", AtlasConfig),
        ("pretrain", "pretrain", PretrainConfig),
        ("pretrain", "calibrate", CalibrateConfig),
        ("pretrain_infonet", "model", InfoNetConfig),
        ("pretrain_infonet", "training", InfoNetTraining),
        ("pretrain_mist", "model", MISTConfig),
        ("pretrain_mist", "training", MISTTraining),
    ],
)
def test_options_are_the_fields_of_dataclasses_with_their_defaults(config, node, schema):
    assert OmegaConf.to_object(compose(config)[node]) == schema()


def test_the_paper_size_is_another_architecture():
    assert isinstance(OmegaConf.to_object(compose("pretrain", "size=paper").model), PaperConfig)
    assert OmegaConf.to_object(compose("pretrain", "size=tiny").model) == InfoAtlasConfig(
        side_width=48, side_features=64, phases=48, width=64, latents=8, joint_layers=1, decoder_width=96
    )


@pytest.mark.parametrize(
    ("command", "option", "message"),
    [
        ("pretrain", "pretrain.steps=0", "steps has to be positive, not 0"),
        ("pretrain", "pretrain.learning_rate=nan", "learning_rate has to be positive, not nan"),
        ("pretrain", "model.padding=foo", "padding has to be zero or noise, not 'foo'"),
        ("pretrain", "atlas.min_samples=9000", "min_samples 9000 exceeds max_samples 5000"),
        ("discover_keystates", "discovery.concepts=0", "concepts has to be at least 1, not 0"),
        ("discover_keystates", "estimator.slices=0", "slices has to be at least 1"),
        ("discover_keystates", "profile.weights=foo", "no released weights 'foo'; there are base"),
        ("discover_keystates", "threads=100000", "threads=100000: accepted are 1 to"),
        ("discover_keystates", "discovery.delta=null", "discovery.delta has to be an integer, not 'null'"),
        ("discover_keystates", "demos.count=3", "demos.count=3: MI between states needs at least 20 demonstrations"),
    ],
)
def test_bad_values_are_answered_in_one_line_before_the_work(command, option, message, tmp_path):
    assert refusal(command, *needs(command), option, f"paths.root={tmp_path}").startswith(f"error: {message}")
    assert not (tmp_path / "demos").exists()


def test_every_command_with_threads_has_as_many():
    before = torch.get_num_threads()
    for count in (1, 2):
        options._set_threads(OmegaConf.create({"threads": count}))
        assert torch.get_num_threads() == count
    options._set_threads(OmegaConf.create({}))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_names_are_given_as_one_as_a_list_or_not_at_all():
    assert options.chosen("only", "infoatlas", ["none", "infoatlas"]) == ["infoatlas"]
    assert options.chosen("only", ["infoatlas", "none"], ["none", "infoatlas"]) == ["infoatlas", "none"]
    assert options.chosen("only", None, {"none": 1, "infoatlas": 2}) == ["none", "infoatlas"]
    assert options.chosen("only", OmegaConf.create(["none", "none"]), ["none", "infoatlas"]) == ["none"]
    for nothing in (5, []):
        with pytest.raises(ValueError, match="only has to be a name, a list, or null for all"):
            options.chosen("only", nothing, ["none"])
    with pytest.raises(ValueError, match="only: there is no 'mine'; choose of none, infoatlas"):
        options.chosen("only", ["none", "mine"], ["none", "infoatlas"])


@pytest.mark.parametrize("value", ["a=b.h5", "é.h5", "a b.h5", "x(1).h5", "a[1].h5", "it's.h5", "back\\slash.h5", "plain.h5"])
def test_any_path_can_be_given(value):
    parser = OverridesParser.create()
    assert parser.parse_override(options._quoted(f"demos.path={value}")).value() == value


def test_what_hydra_reads_is_left_as_it_was_typed():
    for argument in (
        "only=[infoatlas,none]",
        "discovery.seed=0,1,2",
        "--multirun",
        "train='training.steps=4'",
        "~profile",
        "x=null",
    ):
        assert options._quoted(argument) == argument


def test_runs_on_files_are_named_after_them():
    assert compose("discover_keystates", "env=any", "demos.path=/data/my-paths.npz").out == "./runs/keystates/my-paths-default"
    out = compose("discover_keystates", "env=any", "demos.path=/data/PokeCube-v1/motionplanning/trajectory.h5").out
    assert out == "./runs/keystates/PokeCube-v1-motionplanning-trajectory-default"


@pytest.mark.parametrize("command", ["collect_demos", "evaluate_policy", "film_policy", "benchmark_keystates"])
def test_any_env_is_answered_where_a_task_is_needed(command, tmp_path):
    assert refusal(command, "env=any", f"paths.root={tmp_path}").startswith("error: env=any")


def test_quick_experiment_is_smaller():
    assert compose("discover_keystates", "env=PickCube", "experiment=quick").demos.count == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["env=Foo"],
            "unknown env 'Foo'; accepted: LiftPegUpright, PegInsertion, PickCube, PlugCharger, PullCubeTool, StackCube,.*, any",
        ),
        (
            [],
            r"say which env: env=LiftPegUpright\|PegInsertion\|PickCube\|PlugCharger\|PullCubeTool\|StackCube\|StackPyramid\|any",
        ),
        (
            ["env=PickCube", "discovery.epoch=3"],
            "unknown option 'discovery.epoch'; accepted in discovery: method, concepts, worth, delta",
        ),
        (["env=PickCube", "epochs=3"], "unknown option 'epochs'; accepted on the top level: .*discovery"),
        (["env=PickCube", "experiment=huge"], "unknown experiment 'huge'; accepted: quick"),
    ],
)
def test_wrong_options_list_the_accepted_ones(arguments, message):
    with pytest.raises(SystemExit, match=message):
        _check_overrides("discover_keystates", arguments)


def test_good_options_pass():
    _check_overrides("discover_keystates", ["env=PickCube", "discovery.epochs=3", "hydra.verbose=true", "paths.root=/tmp"])


def test_paths_are_relative_to_where_one_stands(tmp_path):
    assert Path(compose("collect_demos", "env=PickCube").paths.demos) == Path("demos")


def test_a_task_that_a_comparison_started_ends_with_it(tmp_path):
    """The comparison is killed, which nobody can catch; its task must not go on alone."""
    task = tmp_path / "task.py"
    task.write_text(
        "import os, sys, time\n"
        "from infoatlas_rl.tasks.shell.options import hydra_main\n"
        "@hydra_main('update_docs')\n"
        "def main(cfg):\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(120)\n"
        "main()\n"
    )
    code = (
        "import os, subprocess, sys\n"
        "from infoatlas_rl.tasks.shell.options import STARTED_BY\n"
        f"subprocess.run([sys.executable, {str(task)!r}], env=os.environ | {{STARTED_BY: str(os.getpid())}})\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    child = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "the task goes on although the comparison is gone"
        time.sleep(0.1)


def test_a_task_that_a_comparison_starts_reads_the_file_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setitem(options.OWN_ENVS, "Mine", str(tmp_path / "Mine.yaml"))
    assert [arms._with_file(option) for option in ("env=Mine", "env=PickCube", "name=Mine")] == [
        f"env={tmp_path / 'Mine.yaml'}",
        "env=PickCube",
        "name=Mine",
    ]


def test_a_job_of_a_sweep_that_is_refused_does_not_keep_the_others(tmp_path):
    rng = np.random.default_rng(0)
    line = np.linspace(0, 1, 40)
    corner = np.stack([np.minimum(line, 0.5), np.maximum(line - 0.5, 0)], axis=1)
    np.savez(tmp_path / "good.npz", **{f"demo_{i:02d}": corner * rng.uniform(0.5, 1.5, 2) for i in range(24)})
    np.savez(tmp_path / "one.npz", demo=corner)
    quick = ["estimator.k=2", "profile.slices=2", "profile.k=2", "discovery.epochs=2", "threads=1", f"paths.root={tmp_path}"]
    paths = f"demos.path={tmp_path / 'nowhere.npz'},{tmp_path / 'one.npz'},{tmp_path / 'good.npz'}"
    answer = run("tasks/discover_keystates.py", "-m", "env=any", paths, *quick)
    assert answer.returncode == 1
    assert answer.stderr.strip().endswith("error: of the jobs these failed, see above: 0, 1")
    assert [path.name for path in (tmp_path / "runs/keystates").iterdir()] == ["good-default"]  # what is refused leaves nothing
