"""Configs and options of the commands: they compose, state every default once, and wrong ones are answered in words."""

from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("hydra")

from hydra.utils import instantiate

from infoatlas_rl.maniskill.tasks import TASKS, get_task
from infoatlas_rl.tasks.options import CONFIGS, _check_overrides
from tests.conftest import ROOT, compose, needs

TOP_LEVEL = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_every_config_belongs_to_a_script_and_composes(name):
    assert (ROOT / "tasks" / f"{name}.py").is_file()
    assert compose(name, *needs(name)).paths.runs == "./runs"


def test_every_task_has_a_config():
    assert {path.stem for path in (CONFIGS / "env").glob("*.yaml")} == {*TASKS, "LiftPegUpright", "any"}
    for name in TASKS:
        assert get_task(**compose("discover_keystates", f"env={name}").env.task) is TASKS[name]
    further = get_task(**compose("discover_keystates", "env=LiftPegUpright").env.task)
    assert (further.env_id, further.events) == ("LiftPegUpright-v1", ())


def test_every_arm_of_the_benchmark_can_be_made():
    arms = compose("benchmark_keystates", "env=PickCube").arms
    assert list(arms) == ["infoatlas", "infonet", "mine-100", "mine-1000", "none"]
    assert [instantiate(arms[arm]).steps for arm in ("mine-100", "mine-1000")] == [100, 1000]
    for name, arm in (("infoatlas", arms.infoatlas), ("infonet", arms.infonet), ("none", arms.none)):
        assert compose("discover_keystates", "env=PickCube", f"estimator={name}").estimator == arm


@pytest.mark.parametrize(
    ("config", "node"),
    [
        ("pretrain", "model"),
        ("pretrain", "atlas"),
        ("pretrain", "pretrain"),
        ("pretrain", "calibrate"),
        ("pretrain_infonet", "model"),
        ("pretrain_infonet", "training"),
    ],
)
def test_configs_state_all_defaults_as_they_are_in_the_code(config, node):
    given = compose(config, *needs(config))[node]
    built = instantiate(given)
    assert set(given) - {"_target_"} == {field.name for field in fields(built)}
    assert built == type(built)()


def test_quick_experiment_is_smaller():
    assert compose("discover_keystates", "env=PickCube", "experiment=quick").demos.count == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=Foo"], "unknown env 'Foo'; accepted: LiftPegUpright, PegInsertion, PickCube, StackCube, any"),
        ([], r"say which env: env=LiftPegUpright\|PegInsertion\|PickCube\|StackCube\|any"),
        (
            ["env=PickCube", "discovery.epoch=3"],
            "unknown option 'discovery.epoch'; accepted in discovery: concepts, delta, epochs, samples",
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
