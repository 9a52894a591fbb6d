"""Distributions with known mutual information have it."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("hydra")


from infoatlas_rl.distributions import BMI_40, BMI_TASKS, derived_tasks, varied, varied_tasks
from tests.conftest import ROOT


def test_benchmark_has_the_truths_of_the_paper():
    published = [0.59, 1.02, 0.45, 0.18, 1.02, 1.02, 1.71, 0.41]
    assert [round(task.mi, 2) for task in BMI_TASKS] == published


@pytest.mark.parametrize("task", BMI_40, ids=lambda task: task.name)
def test_samplers_agree_with_the_reference_samples(task):
    content = json.loads((ROOT / "tests/data/bmi_reference.json").read_text())
    levels, reference = np.array(content["levels"]), content["tasks"][task.origin]
    assert task.mi == pytest.approx(reference["mi"], abs=1e-6)
    sample = task.sample(15_000, 0)
    sample = tuple(side if side.shape[1] <= 5 else side[:, :3] for side in sample)  # as in the reference
    for side, ours in zip("xy", sample, strict=True):
        for i, quantiles in enumerate(reference["quantiles"][side]):
            at = np.searchsorted(np.sort(ours[:, i]), quantiles) / len(ours)
            # Two samples of 15 000: the Kolmogorov-Smirnov distance exceeds 0.025 with probability below 1e-4.
            assert np.abs(at - levels).max() < 0.025
    # Second moments of bounded functions of all coordinates tell the dependence; the noise of a correlation is 0.012.
    assert np.abs(_moments(*sample) - np.array(reference["moments"])).max() < 0.06


def test_all_forty_tasks_are_there_under_their_published_names():
    names = [task.origin for task in BMI_40]
    assert len(set(names)) == 40
    assert {"multinormal-dense-50-50-0.5", "spiral-normal_cdf-multinormal-sparse-25-25-2-2.0"} <= set(names)
    for task in BMI_40:
        x, y = task.sample(20, 0)
        assert np.isfinite(np.hstack([x, y])).all()
        columns = re.search(r"-(\d+)-\1-", task.origin)
        assert y.shape == (20, int(columns[1]) if columns else 1)
        assert x.shape[1] == y.shape[1] + ("swissroll" in task.origin)  # which rolls one column up into two


def test_thirty_further_tasks_are_no_gaussians():
    tasks = varied_tasks()
    assert len({task.name for task in tasks}) == len(tasks) == 30
    for task in tasks:
        x, y = task.sample(50, 0)
        assert np.isfinite(np.hstack([x, y])).all()


def test_columns_that_add_nothing_follow_the_informative_ones():
    tasks = {task.name: task for task in derived_tasks()}
    assert len(tasks) == 16
    for task in tasks.values():
        x, y = task.sample(50, 0)
        assert np.isfinite(np.hstack([x, y])).all()
        assert max(x.shape[1], y.shape[1]) <= 20
        assert 0 <= task.mi < 2
    x, y = tasks["and 12 sums"].sample(50, 0)
    assert np.linalg.matrix_rank(x) == np.linalg.matrix_rank(y) == 4
    # The angle in 60 x 60 bins: what binning loses is below a per cent.
    x, y = tasks["angle, its cosine and sine"].sample(200_000, 0)
    table, *_ = np.histogram2d(x[:, 0], y[:, 0], bins=60)
    assert varied.table_mi(table / table.sum()) == pytest.approx(tasks["angle, its cosine and sine"].mi, abs=0.02)


@pytest.mark.parametrize(
    ("sampler", "density"),
    [
        (varied._clayton(2.0), varied._clayton_density(2.0)),
        (varied._frank(5.0), varied._frank_density(5.0)),
        (varied._frank(-3.0), varied._frank_density(-3.0)),
    ],
)
def test_copulas_are_sampled_from_their_densities(sampler, density):
    """The integral of c log c is what samples say on average: standard error below 0.003."""
    u, v = sampler(100_000, np.random.default_rng(0))
    for side in (u, v):
        assert np.abs(np.sort(side[:, 0]) - np.linspace(0, 1, len(side))).max() < 0.01
    assert np.log(density(u, v)).mean() == pytest.approx(varied._copula_mi(density), abs=0.01)


PAIRS = {
    **{"arcsine-3d": 3, "exponential-5d": 5, "Cauchy-2d": 2, "Frank-3-3d": 3, "integer 4-3d": 3, "Bernoulli-3d": 3},
    **{"Bernoulli-5d": 5, "labels-3d": 3, "labels-4d": 4, "Poisson-3d": 3, "Poisson-5d": 5},
}
"""Tasks of so many independent pairs of columns, of which one is looked at."""
NO_HISTOGRAM = "Student-2d-5-0.5", "Student-4d-4-0.3", "class 6-8d", "uniform noise-2"
"""Of more columns than it can have, or all of the information in edges that bins blur; their formulas are those of tasks that are
compared, here with one column or less noise, or with the reference samples."""


@pytest.mark.parametrize("name", [task.name for task in varied_tasks() if task.name not in NO_HISTOGRAM])
def test_truths_agree_with_a_histogram(name):
    """Values or fifty bins of each side: what binning loses is a few per cent, more in the corners of heavy tails."""
    task = next(task for task in varied_tasks() if task.name == name)
    x, y = task.sample(400_000, 1)
    if name in PAIRS:
        x, y = x[:, :1], y[:, :1]
    columns = []
    for side in (x, y):
        column = side.argmax(1) if set(np.unique(side)) <= {0.0, 1.0} and side.shape[1] > 1 else side[:, 0]
        if name == "class 3-4d" and side is y:
            # Of the noisy side, the posterior of the class tells all: two coordinates of it, coarsely.
            column = (
                np.clip(np.round(2 * (y[:, 0] - y[:, 2])), -6, 6) + 13 * np.clip(np.round(2 * (y[:, 1] - y[:, 2])), -6, 6)
            ).astype(int)
        values = np.unique(column)
        edges = np.quantile(column, np.linspace(0, 1, 51)[1:-1])
        columns.append(np.searchsorted(values, column) if len(values) < 200 else np.searchsorted(edges, column))
    table = np.zeros((columns[0].max() + 1, columns[1].max() + 1))
    np.add.at(table, tuple(columns), 1 / len(x))
    assert varied.table_mi(table) * PAIRS.get(name, 1) == pytest.approx(task.mi, rel=0.05, abs=0.008 * PAIRS.get(name, 1))


def _moments(x, y):
    z = np.hstack([x, y])
    z = np.tanh(z / np.median(np.abs(z)))
    return np.nan_to_num(np.corrcoef(np.hstack([z, z**2, z[:, :1] * z]).T))
