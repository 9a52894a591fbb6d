"""Success rates as result files hold them."""

from __future__ import annotations

import pytest

from infoatlas_rl.policies.evaluation import success_rate


def test_scenes_that_three_trainings_were_evaluated_on_count_once_in_the_interval():
    """Reference value of statsmodels.stats.proportion.proportion_confint(60, 100, method="wilson")."""
    once, thrice = success_rate(60, 100), success_rate(180, 300, trainings=3)
    assert (thrice["k"], thrice["n"]) == (180, 300)
    assert thrice["wilson95"] == once["wilson95"] == pytest.approx([0.5020, 0.6906], abs=1e-4)
    low, high = success_rate(180, 300)["wilson95"]
    assert high - low < 0.6 * (0.6906 - 0.5020)  # 300 scenes tell more than 100


def test_all_of_the_scenes_solved_in_all_trainings_is_no_more_certain_than_in_one():
    assert success_rate(500, 500, trainings=5) == {"k": 500, "n": 500, "wilson95": [pytest.approx(0.9630, abs=1e-4), 1.0]}
