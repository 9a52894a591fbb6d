"""Key states for reinforcement learning, as gymnasium wrappers: conditioning and shaping, residual actions, features.

``KeyStateConditioning`` appends to every observation where the next key state is, and pays for approaching it by
potential-based shaping (Ng, Harada & Russell 1999):

    F(s, s') = gamma Phi(s') - Phi(s),    Phi = -(key states after the next one + tanh(distance to the next one / 0.2 m))

The distance is that of the gripper plus that of the object plus the difference in the gripper's width; Phi is 0 when all key
states have been passed. With the discount of the learner, returns change by a constant: no optimum moves, but where nothing else
is paid no policy is preferred either. With gamma = 1 progress itself is paid for, and the sooner the better.
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task
from infoatlas_rl.policies.control import CONTROL_MODE
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyState
from infoatlas_rl.policies.scene import Scene, features, symmetry_of

Array = NDArray[np.float32]

CONDITION_SIZE = 8
"""Offsets of gripper (3) and object (3) to the next key state, of the gripper's width (1), share of key states passed (1)."""
ARRIVED = np.array([[0.02], [0.02], [0.01]])
"""A key state is passed when gripper, object and width of the gripper are this near to it, in m."""
PASSING = np.array([[0.06], [0.06], [0.01]])
"""Or this near, where gripper and object are on the way to the next one."""
SHAPING_DISTANCE = 0.2
CONDITION_SCALE = 0.1


class KeyStateSource(Protocol):
    """Says where the key states of an episode are."""

    def reset(self) -> None:
        """A new episode begins."""

    def key_states(self, observation: Array) -> Array:
        """``(k, 7)``: gripper position, object position, width of every key state, as far as is known now."""


class PredictedKeyStates:
    """What the key-state tokens of a trained policy predict from the first observation of an episode."""

    def __init__(self, policy: KeyStatePolicy) -> None:
        self.policy = policy
        self._keys: Array | None = None

    def reset(self) -> None:
        self._keys = None

    def key_states(self, observation: Array) -> Array:
        if self._keys is None:
            _, state = self.policy.predict(observation)
            self._keys = state.keys[0, :, :7]
        return self._keys


class NearestDemonstration:
    """The key states of the demonstration whose scene began most like this one.

    Args:
        key_states: ``(n, k, 100)``, see :func:`~infoatlas_rl.keystates.files.read_key_states`.
        first_states: ``(n, 100)``, first states of the same demonstrations.
    """

    def __init__(self, key_states: NDArray[np.float64], first_states: NDArray[np.float64]) -> None:
        self.states = np.asarray(key_states, np.float32)
        if len(self.states) != len(first_states) or self.states.shape[-1] != STATE_DIM:
            raise ValueError(
                f"key states {self.states.shape} of {len(first_states)} demonstrations; they have to be (n, k, {STATE_DIM})"
            )
        self._where = np.r_[STATE_INDEX["object_position"], STATE_INDEX["target_position"]]
        self._scenes = np.asarray(first_states, np.float32)[:, self._where]
        self._keys: Array | None = None

    def reset(self) -> None:
        self._keys = None

    def key_states(self, observation: Array) -> Array:
        if self._keys is None:
            nearest = np.linalg.norm(self._scenes - observation[self._where], axis=1).argmin()
            self._keys = _describe(self.states[nearest])
        return self._keys


def _describe(states: Array) -> Array:
    """Gripper position, object position and width ``(..., 7)`` of 100-D states."""
    names = ("tcp_position", "object_position", "gripper_width")
    return np.concatenate([states[..., STATE_INDEX[name]] for name in names], -1)


class KeyStateConditioning(gymnasium.Wrapper):
    """Append the next key state to observations of :class:`~infoatlas_rl.policies.environment.StateEnv`, and shape rewards.

    A key state is passed when the scene is near to it (``ARRIVED``) or to a later one, or less near to it (``PASSING``), but no
    farther from the next one than it is: who cuts a corner need not come back. ``(100,)`` observations become ``(108,)``.

    Args:
        env: observations are 100-D states.
        source: :class:`PredictedKeyStates` or :class:`NearestDemonstration`.
        shaping: weight of the shaping term; 0 for none.
        gamma: discount in the shaping: 1 pays for progress, that of the learner leaves the order of policies as it is.
    """

    def __init__(self, env: gymnasium.Env, source: KeyStateSource, *, shaping: float = 0.0, gamma: float = 1.0) -> None:
        super().__init__(env)
        if env.observation_space.shape != (STATE_DIM,):
            raise ValueError(f"observations have to be {STATE_DIM}-D states, not {env.observation_space.shape}")
        if isinstance(source, PredictedKeyStates):
            _require_same_task(env, source.policy)
        self.source, self.shaping, self.gamma = source, shaping, gamma
        self.observation_space = spaces.Box(-np.inf, np.inf, (STATE_DIM + CONDITION_SIZE,), np.float32)
        self.passed = 0
        self._potential = 0.0

    def reset(self, **kwargs: Any) -> tuple[Array, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        self.source.reset()
        self.passed = 0
        conditioned, self._potential = self._condition(observation)
        return conditioned, info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        conditioned, potential = self._condition(observation)
        if terminated:
            potential = 0.0
        shaped = self.gamma * potential - self._potential
        self._potential = potential
        info = info | {"key_states_passed": self.passed, "shaping": shaped}
        return conditioned, float(reward) + self.shaping * shaped, terminated, truncated, info

    def _condition(self, observation: Array) -> tuple[Array, float]:
        keys = self.source.key_states(observation)
        here = _describe(observation)
        offsets = keys - here
        distances, legs = _distances(offsets), _distances(np.diff(keys, axis=0))
        near = (distances <= ARRIVED).all(0)
        if near[self.passed :].any():
            self.passed = int(np.flatnonzero(near)[-1]) + 1
        on_the_way = (distances <= PASSING).all(0)[:-1] & (distances[:2, 1:] <= np.maximum(legs, ARRIVED)[:2]).all(0)
        while self.passed < len(on_the_way) and on_the_way[self.passed]:
            self.passed += 1
        following, to_come = min(self.passed, len(keys) - 1), len(keys) - self.passed
        distance = distances[:, following].sum()
        potential = -(to_come - 1 + np.tanh(distance / SHAPING_DISTANCE)) if to_come else 0.0
        condition = np.append(offsets[following], self.passed / len(keys)).astype(np.float32)
        return np.concatenate([observation, condition]), float(potential)


def _distances(offsets: Array) -> Array:
    """``(3, k)``, of gripper, object and width, of offsets ``(k, 7)``."""
    return np.stack([np.linalg.norm(part, axis=1) for part in np.split(offsets, [3, 6], axis=1)])


def _require_same_task(env: gymnasium.Env, policy: KeyStatePolicy) -> None:
    task = env.get_wrapper_attr("task").name
    if task != policy.task.name:
        raise ValueError(f"the environment is {task}, the policy was trained for {policy.task.name}")


class ResidualActions(gymnasium.Wrapper):
    """Fine-tuning: actions are small corrections of what a cloned policy does, which observations then include.

    ``(100 or 108,)`` observations grow by the 7 numbers of the cloned action. A learner that does nothing acts as the cloned
    policy. After Silver et al. 2018, "Residual Policy Learning".

    Args:
        env: observations begin with the 100-D state.
        policy: the cloned one.
        scale: largest correction, as a share of the largest action.
    """

    def __init__(self, env: gymnasium.Env, policy: KeyStatePolicy, *, scale: float = 0.2) -> None:
        super().__init__(env)
        _require_same_task(env, policy)
        if policy.config.control_mode != CONTROL_MODE:
            raise ValueError(
                f"the cloned policy commands {policy.config.control_mode}; corrections are of {CONTROL_MODE}: train one with "
                f"policy.control_mode={CONTROL_MODE}"
            )
        self.policy, self.scale = policy, scale
        (size,) = env.observation_space.shape
        self.observation_space = spaces.Box(-np.inf, np.inf, (size + env.action_space.shape[0],), np.float32)
        self._state: PolicyState | None = None
        self._base: Array = np.zeros(env.action_space.shape, np.float32)

    def reset(self, **kwargs: Any) -> tuple[Array, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        self._state = None
        return self._observe(observation), info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        combined = np.clip(self._base + self.scale * np.asarray(action), -1, 1).astype(np.float32)
        observation, reward, terminated, truncated, info = self.env.step(combined)
        return self._observe(observation), reward, terminated, truncated, info

    def _observe(self, observation: Array) -> Array:
        self._base, self._state = self.policy.predict(observation[:STATE_DIM], self._state)
        return np.concatenate([observation, self._base])


class FeatureObservations(gymnasium.ObservationWrapper):
    """Observations for a learner: the features of cloned policies instead of the 100-D state, and what other wrappers added.

    Put it outermost. Offsets to a key state are seen as tanh(offset / 0.1 m).

    Args:
        env: observations begin with the 100-D state.
        task: whose symmetry is used.
    """

    def __init__(self, env: gymnasium.Env, task: Task) -> None:
        super().__init__(env)
        self.symmetry = symmetry_of(task)
        size = self.observation(np.ones(env.observation_space.shape, np.float32)).shape
        self.observation_space = spaces.Box(-np.inf, np.inf, size, np.float32)

    def observation(self, observation: Array) -> Array:
        """Of one observation ``(d,)``, or of many ``(n, d)``."""
        added = observation[..., STATE_DIM:].copy()
        if added.shape[-1] >= CONDITION_SIZE:
            added[..., : CONDITION_SIZE - 1] = np.tanh(added[..., : CONDITION_SIZE - 1] / CONDITION_SCALE)
        scene = Scene.from_states(torch.from_numpy(observation[..., :STATE_DIM]))
        return np.concatenate([features(scene, self.symmetry).numpy(), added], -1)
