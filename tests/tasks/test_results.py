"""Headline figures of the committed results follow from what they summarise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infoatlas_rl.distributions import BMI_TASKS, DISCRETE_TASKS
from infoatlas_rl.policies.evaluation import success_rate

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def success_rates(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        if "wilson95" in content:
            yield content
        for part in content.values():
            yield from success_rates(part)


@pytest.mark.parametrize(("name", "tasks"), [("bmi", BMI_TASKS), ("discrete", DISCRETE_TASKS)])
def test_mean_errors_and_coverage_are_those_of_the_rows(name, tasks):
    result = read(name)
    rows = [result["tasks"][task.name] for task in tasks]
    assert len(rows) == len(result["tasks"])
    for row, task in zip(rows, tasks, strict=True):
        assert row["truth"] == pytest.approx(task.mi, abs=6e-5)
    truth, mean, bound, covered = (np.array([row[column] for row in rows]) for column in ("truth", "mean", "bound", "covered"))
    # Four digits are written down.
    assert result["mae"] == pytest.approx(abs(mean - truth).mean(), abs=6e-5)
    assert result["mae_bound"] == pytest.approx(abs(bound - truth).mean(), abs=6e-5)
    assert result["coverage"] == pytest.approx(covered.mean(), abs=6e-5)


@pytest.mark.parametrize(("name", "count"), [("policies", 6), ("table2", 10), ("scale", 10)])
def test_intervals_of_success_rates_count_every_scene_once(name, count):
    found = list(success_rates(read(name)))
    assert len(found) >= count
    for rate in found:
        trainings = len(rate["k_by_seed"]) if "k_by_seed" in rate else rate.get("seeds", 1)
        assert success_rate(rate["k"], rate["n"], trainings=trainings)["wilson95"] == pytest.approx(rate["wilson95"], abs=2e-4)
        assert rate["k"] == sum(rate.get("k_by_seed", [rate["k"]]))
        assert rate.get("rate", rate["k"] / rate["n"]) == pytest.approx(rate["k"] / rate["n"], abs=6e-5)


def test_figures_of_the_loss_are_those_of_its_seeds():
    problems = read("loss")["problems"]
    values = {f"{name}-{batch}" for name in ("gaussian", "curved", "mixed") for batch in (128, 256)}
    others = {"views-16", "views-6", "mnist", "labels", "tanh-1", "tanh-2", "fold", "rotation", "survey", "halves", "robot"}
    assert values | others == set(problems)
    for problem in problems.values():
        for entry in problem["methods"].values():
            for runs in entry["settings"].values():
                for figure in runs.keys() - {"seeds"}:
                    values = runs[figure]["by_seed"]
                    assert len(values) == len(runs["seeds"])
                    # Four digits are written down.
                    assert runs[figure]["mean"] == pytest.approx(np.mean(values), abs=6e-5)
