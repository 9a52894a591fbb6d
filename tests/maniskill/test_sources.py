"""Demonstrations from a file, or collected until there are enough."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill import sources
from infoatlas_rl.maniskill.collect import CollectionReport
from infoatlas_rl.maniskill.demos import DemonstrationFileError
from infoatlas_rl.maniskill.tasks import configured_task, get_task


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What is asked of motion planning and of a controller that follows two demonstrations in three."""
    calls = []

    def collect(task, root, count, *, first_seed, processes, progress):
        calls.append((count, first_seed, processes))
        progress(count, count, "")
        return CollectionReport(tmp_path / "a.h5", count, count + 3, reused=False, reasons={"fell": 1, "slipped": 2})

    def convert(task, root, count, control_mode, *, processes, progress):
        solved = calls[-1][0]
        return CollectionReport(tmp_path / "b.h5", min(count, 2 * solved // 3), solved, reused=solved > 100)

    monkeypatch.setattr(sources, "collect_demonstrations", collect)
    monkeypatch.setattr(sources, "convert_demonstrations", convert)
    return calls


def test_scenes_are_solved_until_enough_can_be_followed(asked, tmp_path):
    told, bars = [], []

    @contextmanager
    def bar(title, total):
        yield lambda done, note: bars.append((title, done, total))

    report = sources.collect(
        get_task("PickCube"),
        tmp_path,
        12,
        first_seed=5,
        processes=3,
        control_mode="pd_ee_delta_pose",
        progress=bar,
        tell=told.append,
    )
    assert asked == [(12, 5, 3), (20, 5, 3)]
    assert report.successes == 12
    assert bars == [("solving PickCube", 12, 12), ("solving PickCube", 20, 20)]
    assert told[0] == (
        f"motion planning: 12 demonstrations, 3 of 15 attempts failed\n  2 x slipped\n  1 x fell\n  {tmp_path / 'a.h5'}"
    )
    assert told[1].startswith("conversion to pd_ee_delta_pose: 8 demonstrations, 4 of 12")


def test_the_planners_own_actions_need_no_conversion(asked, tmp_path):
    assert sources.collect(get_task("PickCube"), tmp_path, 12).path == tmp_path / "a.h5"
    assert asked == [(12, 0, 2)]


def test_an_unknown_control_mode_is_refused_before_any_work(asked, tmp_path):
    with pytest.raises(ValueError, match=r"control_mode=pd_ee is unknown; choose one of pd_joint_pos, pd_ee_delta_pose"):
        sources.collect(get_task("PickCube"), tmp_path, 12, control_mode="pd_ee")
    assert asked == []


def test_a_file_is_read_and_nothing_collected(asked, tmp_path):
    with pytest.raises(DemonstrationFileError, match=r"mine\.h5: no such file"):
        sources.demonstrations(get_task("PickCube"), tmp_path, path=tmp_path / "mine.h5")
    assert asked == []


def test_any_task_cannot_be_collected():
    assert configured_task({"name": "PickCube"}) is get_task("PickCube")
    assert configured_task({"name": "Lift", "env_id": "Lift-v1", "horizon": 9}).horizon == 9
    with pytest.raises(ValueError, match=r"env=any stands for .* names no task.*say env=PickCube\|StackCube\|PegInsertion, or"):
        configured_task(None)
