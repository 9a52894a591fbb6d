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
        return np.array([[0.0] * 7, [-9.0] * 7], np.float32)


class Shown(gymnasium.Env):
    """Nothing moves but what a test sets: the gripper's position and width."""

    observation_space, action_space = Descent.observation_space, Descent.action_space
    gripper, width = (0.0, 0.0, 0.3), 0.08

    def observe(self):
        state = np.zeros(STATE_DIM, np.float32)
        state[STATE_INDEX["tcp_position"]], state[STATE_INDEX["gripper_width"]] = self.gripper, self.width
        return state

    def reset(self, *, seed=None, options=None):
        return self.observe(), {}

    def step(self, action):
        return self.observe(), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("gripper", "width", "passed"),
    [
        ((0.04, 0.0, 0.06), 0.08, 1),  # a corner is cut: 6 cm from the first, and nearer to the second than the first is
        ((0.04, 0.0, 0.06), 0.04, 0),  # with fingers that are closed
        ((-0.04, 0.0, 0.06), 0.08, 0),  # as near, but on the other side
        ((0.15, 0.0, 0.1), 0.08, 0),  # on the way to the second, but it was never near the first
        ((-0.01, 0.0, 0.1), 0.08, 1),  # so near that the side does not matter
        ((0.3, 0.0, 0.1), 0.08, 2),
    ],
)
def test_a_key_state_is_passed_near_it_or_on_the_way_to_the_next(gripper, width, passed):
    class Keys(OneKeyState):
        def key_states(self, observation):
            return np.array([[x, 0, z, 0, 0, 0, 0.08] for x, z in ((0.0, 0.1), (0.3, 0.1), (0.6, 0.1))], np.float32)

    shown = Shown()
    env = KeyStateConditioning(shown, Keys())
    env.reset()
    assert env.passed == 0
    shown.gripper, shown.width = gripper, width
    *_, info = env.step(np.zeros(7, np.float32))
    assert info["key_states_passed"] == passed


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
