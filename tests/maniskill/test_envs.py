"""Tasks and their environments, with or without a rendering device."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.envs import make_env, read_state
from infoatlas_rl.maniskill.renderless import ensure_simulator, rendering_device
from infoatlas_rl.maniskill.tasks import get_task

simulator = pytest.mark.simulator


def test_tasks_are_found_by_both_names():
    assert get_task("PegInsertion") is get_task("PegInsertionSide-v1")
    with pytest.raises(ValueError, match="unknown env 'OpenDrawer'; choose one of PickCube, StackCube, PegInsertion"):
        get_task("OpenDrawer")
    with pytest.raises(ValueError, match="task PickCube is there already, and cannot be described anew; give yours another name"):
        get_task("PickCube", env_id="MyPickCube-v1", horizon=77)


@simulator
def test_tasks_step_with_or_without_a_rendering_device(task):
    env = make_env(task)
    env.reset(seed=0)
    for _ in range(3):
        _, _, _, _, info = env.step(env.action_space.sample())
    assert "success" in info
    assert np.isfinite(read_state(env, task)).all()
    env.close()


@simulator
def test_the_shim_is_on_exactly_where_there_is_no_rendering_device():
    import sapien

    assert ensure_simulator() is (rendering_device() is not None)
    replaced = sapien.render.RenderMaterial.__module__.startswith("infoatlas_rl")
    assert replaced is (rendering_device() is None)
    if rendering_device() is None:
        with pytest.raises(RuntimeError, match=r"no rendering device.*doctor"):
            make_env(get_task("PickCube"), render=True)
