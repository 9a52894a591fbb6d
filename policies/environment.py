"""A task as a plain gymnasium environment of 100-D states: NumPy in, NumPy out, one scene at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from infoatlas_rl.maniskill.envs import make_env, read_geometry, read_state
from infoatlas_rl.maniskill.states import STATE_DIM
from infoatlas_rl.maniskill.tasks import TASKS, Geometry, Task
from infoatlas_rl.policies.control import CONTROL_MODE

Array = NDArray[np.float32]


class StateEnv(gymnasium.Env[Array, Array]):
    """One scene of a task; observations are the 100-D states, actions those of a controller of ManiSkill's, in [-1, 1].

    ``info["success"]`` says whether the task is solved now, ``info["is_success"]`` (which stable-baselines3 reads) whether
    it was at any step of the episode. Episodes end after the task's horizon (``truncated``).

    Args:
        task: with an object and a target.
        stop_at_success: end the episode (``terminated``) when the task is solved.
        reward: "none", "sparse" (1 when solved), "dense" or "normalized_dense" (ManiSkill's).
        horizon: steps of an episode, the task's by default.
        render: frames by :meth:`render`; needs a rendering device.
        control_mode: ``pd_ee_delta_pose``, or ``pd_joint_delta_pos``.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own convention)

    def __init__(
        self,
        task: Task,
        *,
        stop_at_success: bool = False,
        reward: str = "none",
        horizon: int | None = None,
        render: bool = False,
        control_mode: str = CONTROL_MODE,
    ) -> None:
        if task.object is None:
            raise ValueError(
                f"{task.name} has no object, so no 100-D state, which policies need; tasks that have: {', '.join(TASKS)}"
            )
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon={horizon}: an episode has at least one step")
        self.task = task
        self.stop_at_success = stop_at_success
        self.horizon = task.horizon if horizon is None else horizon
        self.env = make_env(task, control_mode=control_mode, obs_mode="none", reward_mode=reward, render=render)
        self.render_mode = "rgb_array" if render else None
        self.observation_space = spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, self.env.action_space.shape[-1:], np.float32)
        self._geometry: Any = None
        self._step, self._solved = 0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self.env.reset(seed=seed)
        self._geometry = read_geometry(self.env, self.task)
        self._step, self._solved = 0, False
        return self._observe(), {"seed": seed}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"an action has shape {self.action_space.shape}, not {action.shape}")
        _, reward, _, _, outcome = self.env.unwrapped.step(torch.from_numpy(action)[None])
        self._step += 1
        success = bool(outcome["success"])
        self._solved |= success
        info = {"success": success, "is_success": self._solved}
        terminated = success and self.stop_at_success
        truncated = self._step >= self.horizon and not terminated
        return self._observe(), float(reward), terminated, truncated, info

    def snapshot(self) -> dict[str, dict[str, Array]]:
        """The state of the simulator now, as demonstration files record it."""
        state = self.env.unwrapped.get_state_dict()
        return {kind: {name: v[0].cpu().numpy() for name, v in state[kind].items()} for kind in ("actors", "articulations")}

    @property
    def geometry(self) -> Geometry:
        """The sizes of this scene."""
        return self._geometry

    def render(self) -> Any:
        return self.env.render()[0].cpu().numpy()

    def close(self) -> None:
        self.env.close()

    def _observe(self) -> Array:
        return read_state(self.env, self.task, self._geometry).astype(np.float32)
