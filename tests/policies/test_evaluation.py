"""What is counted in an evaluation, what its files are called, and workers that die."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from infoatlas_rl.files import require_writable
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.policies.evaluation import Evaluation, evaluate, interval_of_runs, wilson
from infoatlas_rl.processes import scatter
from tests.conftest import small_policy


@pytest.mark.parametrize(("k", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (95, 100, 0.8882, 0.9785), (10, 10, 0.7225, 1.0)])
def test_wilson_intervals(k, n, low, high):
    """Reference values of statsmodels.stats.proportion.proportion_confint(method="wilson")."""
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_an_interval_of_several_learners_is_that_of_the_scenes_or_wider():
    """Learners that agree differ by their scenes alone; of 0, 0, 20 and 20 of 20 anything from none to all may be the mean."""
    assert interval_of_runs([10, 10, 10, 10], 20) == wilson(40, 80)
    assert interval_of_runs([0, 0, 20, 20], 20) == (0.0, 1.0)


def test_an_unfit_policy_is_refused_before_processes_start(tmp_path):
    (tmp_path / "p.safetensors").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="not a readable safetensors file"):
        evaluate(tmp_path / "p.safetensors", [0])


def _die_once(item, folder):
    marker = Path(folder) / str(item)
    if item == 1 and not marker.exists():
        marker.touch()
        os._exit(3)
    return item


def _die(item):
    os._exit(3)


def _fail(item):
    raise KeyError(f"no scene {item}")


def test_worker_processes_that_die_are_replaced_and_errors_keep_their_traceback(tmp_path):
    found = []
    scatter(partial(_die_once, folder=str(tmp_path)), [0, 1, 2], found.append, processes=2)
    assert sorted(found) == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"died 3 times .* 2 of 2 episodes are left.*doctor"):
        scatter(_die, [0, 1], found.append, processes=1)
    with pytest.raises(KeyError, match="no scene 5") as caught:
        scatter(_fail, [5], found.append, processes=1)
    assert "_fail" in str(caught.value.__cause__)  # the traceback of the worker


@pytest.fixture
def policy_with_record(tmp_path):
    path = tmp_path / "policy.safetensors"
    config = {"training": {"seed": 0}, "validation": {"first_seed": 30000, "episodes": 50}}
    small_policy().save(path, {"config": config, "demonstrations": {"seeds": list(range(150)), "count": 150}})
    return path


def test_the_results_of_different_evaluations_have_different_names(policy_with_record):
    def name(**options):
        return Evaluation.of(policy_with_record, get_task("PickCube"), **options).result

    whole = name()
    assert whole.startswith("unseen-")
    assert whole.count("-") == 1  # split and policy alone
    names = {
        whole,
        name(split="seen"),
        name(episodes=5),
        name(first_seed=3000),
        name(first_seed=3000, episodes=5),
        name(stop_at_success=True),
    }
    assert len(names) == 6
    assert name(first_seed=3000, episodes=5).endswith("-3000-to-3004.json")


def test_files_that_cannot_be_written_are_refused(tmp_path):
    require_writable(tmp_path / "new/folder/result.json")
    with pytest.raises(ValueError, match=r"is a folder; name a file, as in .*result.json"):
        require_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/result.json cannot be written \(.*\); name a file in a folder"):
        require_writable(tmp_path / "file/result.json")
