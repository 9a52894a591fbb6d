"""Live environments: creating them on any machine, and reading the 100-D state from them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoatlas_rl.maniskill.renderless import ensure_simulator
from infoatlas_rl.maniskill.states import encode_states
from infoatlas_rl.maniskill.tasks import Geometry, Task

CONTROL_MODES = ("pd_joint_pos", "pd_ee_delta_pose", "pd_joint_delta_pos")


def make_env(
    task: Task,
    *,
    control_mode: str = "pd_ee_delta_pose",
    obs_mode: str = "state_dict",
    reward_mode: str = "none",
    render: bool = False,
    **kwargs: Any,
) -> Any:
    """Create one ManiSkill environment on the CPU, with or without a rendering device.

    Args:
        control_mode: one of :data:`CONTROL_MODES`.
        reward_mode: "none" by default: the dense rewards of ManiSkill take half of the time of a step.
        render: ask for frames (``env.render()``); an error where there is no rendering device.
        kwargs: passed on to ``gym.make``.
    """
    if control_mode not in CONTROL_MODES:
        raise ValueError(f"control_mode {control_mode!r} is not supported; choose one of {', '.join(CONTROL_MODES)}")
    can_render = ensure_simulator()
    if render and not can_render:
        raise RuntimeError(
            "no rendering device: frames need a GPU with Vulkan or Mesa's software driver (mesa-vulkan-drivers 24 or "
            "later); everything but frames works without. Run `infoatlas doctor` for details."
        )
    import gymnasium
    import mani_skill.envs  # noqa: F401  (registers the environments)

    logging.getLogger("mani_skill").setLevel(logging.ERROR)
    return gymnasium.make(
        task.env_id,
        obs_mode=obs_mode,
        control_mode=control_mode,
        reward_mode=reward_mode,
        sim_backend="physx_cpu",
        render_backend=("gpu" if torch.cuda.is_available() else "cpu") if render else "none",
        render_mode="rgb_array" if render else None,
        max_episode_steps=task.horizon,
        **kwargs,
    )


def read_geometry(env: Any, task: Task) -> Geometry | None:
    """The sizes that the last reset drew; None for a task with the plain state."""
    if task.geometry is not None or task.object is None:
        return task.geometry
    base = env.unwrapped
    return Geometry(
        tip_offset=base.peg_head_offsets.p[0].cpu().numpy(),
        target_offset=base.box_hole_offsets.p[0].cpu().numpy(),
        half_size=base.peg_half_sizes[0].cpu().numpy(),
        clearance=float(base.box_hole_radii[0]),
    )


def read_state(env: Any, task: Task, geometry: Geometry | None = None) -> NDArray[np.float64]:
    """The 100-D state of a live environment, ``(100,)``; of another size for other tasks."""
    state = env.unwrapped.get_state_dict()
    states = {
        group: {name: values.cpu().numpy() for name, values in state[group].items()} for group in ("actors", "articulations")
    }
    return encode_states(states, geometry or read_geometry(env, task), task)[0]
