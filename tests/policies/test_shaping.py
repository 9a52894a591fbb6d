"""The shaping term of key-state conditioning, without a simulator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("gymnasium")

import gymnasium

from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.policies.conditioning import KeyStateConditioning

HEIGHTS = (0.4, 0.3, 0.15, 0.05)
"""Of the gripper over the only key state that is not passed, step by step."""
REWARD = 0.25


class Descent(gymnasium.Env):
    """The gripper goes down to a key state in three steps, and the last one ends the episode, one way or the other."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (7,), np.float32)

    def __init__(self, ending):
        self.ending, self.now = ending, 0

    def observe(self):
        state = np.zeros(STATE_DIM, np.float32)
        state[STATE_INDEX["tcp_position"]] = [0.0, 0.0, HEIGHTS[self.now]]
        return state

    def reset(self, *, seed=None, options=None):
        self.now = 0
        return self.observe(), {}

    def step(self, action):
        self.now += 1
        over = self.now == len(HEIGHTS) - 1
        return self.observe(), REWARD, over and self.ending == "terminated", over and self.ending == "truncated", {}


class OneKeyState:
    """At the origin, with another one after it that is far away."""

    def reset(self):
        pass

    def key_states(self, observation):
        return np.array([[0.0] * 7, [9.0] * 7], np.float32)


def potential(height):
    """Of one key state after the next one, which is ``height`` away."""
    return -(1 + np.tanh(height / 0.2))


def shaping_terms(ending, gamma, weight=2.0):
    env = KeyStateConditioning(Descent(ending), OneKeyState(), shaping=weight, gamma=gamma)
    env.reset()
    terms = []
    for _ in HEIGHTS[1:]:
        _, reward, terminated, truncated, info = env.step(np.zeros(7, np.float32))
        assert reward == pytest.approx(REWARD + weight * info["shaping"])
        terms.append(info["shaping"])
    assert (terminated, truncated) == (ending == "terminated", ending == "truncated")
    return terms


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_a_shaping_term_is_the_discounted_potential_minus_the_one_before(gamma):
    phi = [potential(height) for height in HEIGHTS]
    expected = [gamma * after - before for before, after in itertools.pairwise(phi)]
    assert shaping_terms("truncated", gamma) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_where_an_episode_terminates_the_potential_is_zero(gamma):
    phi = [potential(height) for height in HEIGHTS]
    expected = [gamma * phi[1] - phi[0], gamma * phi[2] - phi[1], -phi[2]]
    assert shaping_terms("terminated", gamma) == pytest.approx(expected, abs=1e-6)


def test_the_discounted_return_of_a_terminated_episode_changes_by_the_first_potential_only():
    """What makes the shaping leave the order of policies as it is (Ng, Harada & Russell 1999)."""
    gained = sum(0.9**step * term for step, term in enumerate(shaping_terms("terminated", 0.9)))
    assert gained == pytest.approx(-potential(HEIGHTS[0]), abs=1e-6)
