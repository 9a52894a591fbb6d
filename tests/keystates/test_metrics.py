"""Scores of key states against events, and how alike key states are over demonstrations and runs."""

import numpy as np
import pytest

from infoatlas_rl.keystates import score_key_states
from infoatlas_rl.keystates.metrics import agreement, consistency


def test_score_counts_hits_and_errors():
    steps = [np.array([10, 50]), np.array([12, 70])]
    events = [{"a": 12, "b": 80}, {"a": 20, "b": None}]
    score = score_key_states(steps, events)
    assert score.by_event["a"] == {"median_step_error": 5.0, "recall": 0.5, "precision": pytest.approx(1 / 3)}
    assert score.by_event["b"] == {"median_step_error": 30.0, "recall": 0.0, "precision": 0.0}
    assert score.median_step_error == 8.0
    assert score.recall == pytest.approx(1 / 3)
    assert score.precision == pytest.approx(1 / 4)
    assert score.f1 == pytest.approx(2 / 7)
    assert score.steps_to_next == pytest.approx((38 + 30 + 50) / 3)
    assert score.f1_interval[0] <= score.f1 <= score.f1_interval[1]
    with pytest.raises(ValueError, match="1 rows of key states for 2"):
        score_key_states(steps[:1], events)
    with pytest.raises(ValueError, match="none of the demonstrations"):
        score_key_states(steps, [{"a": None}, {}])


def test_consistency_is_the_spread_over_demonstrations():
    trajectories = [np.linspace(0, 1, 11)[:, None] + [[0.0, 0.0]] for _ in range(4)]
    steps = np.array([[2, 10], [2, 10], [4, 10], [4, 10]])
    spread = consistency(steps, trajectories, [{"a": 2, "b": 10}] * 4)
    assert spread.phase_std == pytest.approx([0.1, 0.0])
    assert spread.state_spread[1] == 0
    assert spread.same_event == [1.0, 1.0]


def test_agreement_counts_demonstrations_and_key_states():
    assert agreement(np.array([[1, 20], [1, 20]]), np.array([[3, 24], [3, 30]])) == (0.5, 0.75)
    assert agreement(np.array([[1, 20]]), np.array([[1, 10, 20]])) == (0.0, 0.0)


def test_a_demonstration_without_key_states_is_named():
    with pytest.raises(ValueError, match="demonstration 1 has no key states"):
        score_key_states([np.array([3]), np.array([], dtype=int)], [{"a": 3}, {"a": 3}])
