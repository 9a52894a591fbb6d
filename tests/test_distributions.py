"""Distributions with known mutual information have it."""

import json

import numpy as np
import pytest

pytest.importorskip("hydra")


from infoatlas_rl.distributions import BMI_TASKS
from tests.conftest import ROOT


def test_benchmark_has_the_truths_of_the_paper():
    published = [0.59, 1.02, 0.45, 0.18, 1.02, 1.02, 1.71, 0.41]
    assert [round(task.mi, 2) for task in BMI_TASKS] == published


@pytest.mark.parametrize("task", BMI_TASKS, ids=lambda task: task.name)
def test_samplers_agree_with_the_reference_samples(task):
    content = json.loads((ROOT / "tests/data/bmi_reference.json").read_text())
    levels, reference = np.array(content["levels"]), content["tasks"][task.origin]
    assert task.mi == pytest.approx(reference["mi"], abs=1e-6)
    sample = task.sample(15_000, 0)
    for side, ours in zip("xy", sample, strict=True):
        for i, quantiles in enumerate(reference["quantiles"][side]):
            at = np.searchsorted(np.sort(ours[:, i]), quantiles) / len(ours)
            # Two samples of 15 000: the Kolmogorov-Smirnov distance exceeds 0.025 with probability below 1e-4.
            assert np.abs(at - levels).max() < 0.025
    # Second moments of bounded functions of all coordinates tell the dependence; the noise of a correlation is 0.012.
    assert np.abs(_moments(*sample) - np.array(reference["moments"])).max() < 0.06


def _moments(x, y):
    z = np.hstack([x, y])
    z = np.tanh(z / np.median(np.abs(z)))
    return np.nan_to_num(np.corrcoef(np.hstack([z, z**2, z[:, :1] * z]).T))
