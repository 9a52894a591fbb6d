"""Demonstrations as prior data of an off-policy learner: half of every batch are their transitions.

After RLPD (Ball et al. 2023, "Efficient online reinforcement learning with offline data"), with its layer normalisation. A
demonstration passes through the same wrappers as the learner's environment, so that its observations carry the same features and
key states, and its rewards the same shaping; its actions are those of ``pd_ee_delta_pose`` that lead to the poses which were
commanded. No simulator is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from infoatlas_rl.maniskill.demos import Demonstration, DemonstrationSet
from infoatlas_rl.maniskill.recording import SOURCE_MODE
from infoatlas_rl.maniskill.states import STATE_DIM
from infoatlas_rl.maniskill.tasks import Task
from infoatlas_rl.policies.conditioning import FeatureObservations
from infoatlas_rl.policies.control import commanded_poses, gripper_poses, to_action

Array = NDArray[np.float32]


class Transitions(NamedTuple):
    """m transitions: ``(m, d)``, ``(m, d)``, ``(m, a)``, ``(m,)``."""

    observations: Array
    next_observations: Array
    actions: Array
    rewards: Array


class RecordedEnv(gymnasium.Env[Array, Array]):
    """A demonstration as an environment in the place of :class:`~infoatlas_rl.policies.environment.StateEnv`.

    Whatever the action, a step leads to the next state that was recorded. The reward is 1 where the task was solved.

    Args:
        task: with an object and a target.
        demo: whose successes were recorded.
    """

    def __init__(self, task: Task, demo: Demonstration) -> None:
        self.task, self.demo = task, demo
        self.observation_space = spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (7,), np.float32)
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self.demo.states[0].astype(np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        solved = bool(self.demo.success[self._step])
        self._step += 1
        ended = self._step == len(self.demo.actions)
        return self.demo.states[self._step].astype(np.float32), float(solved), False, ended, {"is_success": solved}


def actions_of(demo: Demonstration) -> Array:
    """The actions ``(t, 7)`` of ``pd_ee_delta_pose`` that command what the joint targets of a demonstration stand for."""
    now = gripper_poses(demo)[:-1]
    return to_action(commanded_poses(demo), torch.from_numpy(demo.actions[:, -1:]), now).numpy()


def transitions(demos: DemonstrationSet, wrap: Callable[[gymnasium.Env], FeatureObservations]) -> Transitions:
    """The transitions of demonstrations, as an environment with these wrappers shows them.

    Raises:
        ValueError: the demonstrations were recorded with another controller, or without their successes.
    """
    demos.require_control_mode(SOURCE_MODE, "prior data are made of joint targets")
    found: list[Transitions] = []
    recorded = RecordedEnv(demos.task, demos.demonstrations[0])
    env = wrap(recorded)
    for demo in demos:
        if demo.success is None:
            raise ValueError(
                f"{demos.path}: traj_{demo.episode_id} does not say when it was solved (no data set success), which a sparse "
                f"reward needs; record again with: python tasks/collect_demos.py env={demos.task.name}"
            )
        recorded.demo = demo
        actions = actions_of(demo)
        first, _ = env.env.reset()
        steps = [env.env.step(action)[:2] for action in actions]
        seen = env.observation(np.stack([first, *(observation for observation, _ in steps)]))
        rewards = np.array([reward for _, reward in steps])
        found.append(Transitions(seen[:-1], seen[1:], actions, rewards))
    return Transitions(*(np.concatenate(part).astype(np.float32) for part in zip(*found, strict=True)))


class NormalisedReLU(nn.Module):
    """A rectifier of normalised inputs, for learners with prior data (Ball et al. 2023, section 4.2): what layers see is bounded,
    and so is what critics say of actions that no transition shows."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.layer_norm(x, x.shape[-1:]))


class PriorReplayBuffer(ReplayBuffer):
    """A replay buffer that draws half of every batch from transitions that were there before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prior: Transitions | None = None
        """They; None for a learner that only acts."""

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        if self.prior is None:
            return super().sample(batch_size, env)
        rows = torch.randint(len(self.prior.rewards), (batch_size // 2,)).numpy()
        own = super().sample(batch_size - len(rows), env)
        before = (
            self.prior.observations[rows],
            self.prior.actions[rows],
            self.prior.next_observations[rows],
            np.zeros((len(rows), 1), np.float32),
            self.prior.rewards[rows, None],
        )
        both = (torch.cat([mine, self.to_torch(theirs)]) for mine, theirs in zip(own[:5], before, strict=True))
        return ReplayBufferSamples(*both)
