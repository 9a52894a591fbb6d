"""The entropy of a discrete side limits what anything can have in common with it."""

import math

import pytest
import torch

from infoatlas_rl.estimator.discrete import most_information, row_entropy


def test_entropy_of_samples_with_its_correction(rng):
    labels = torch.randint(0, 5, (40, 60, 2), generator=rng).float()
    entropy, kinds = row_entropy(labels)
    # 25 values in 60 samples: without the correction it would be 0.2 nats too low.
    assert float(entropy.mean()) == pytest.approx(math.log(25), abs=0.05)
    assert bool((kinds <= 25).all())


def test_entropy_of_unequal_shares():
    rows = torch.tensor([0.0] * 500 + [1.0] * 300 + [2.0] * 200).view(1, -1, 1)
    exact = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert float(row_entropy(rows)[0]) == pytest.approx(exact + 2 / 2000, abs=1e-5)


def test_continuous_sides_have_no_limit(rng):
    x, labels = torch.randn(2, 100, 3, generator=rng), torch.randint(0, 2, (2, 100, 1), generator=rng).float()

    def most(*sides):
        return most_information([row_entropy(side) for side in sides], 100)

    assert bool(most(x, x).isinf().all())
    assert float((most(x, labels) - math.log(2)).abs().max()) < 0.03
    torch.testing.assert_close(most(labels, x), most(x, labels))


@pytest.mark.parametrize("n", [32, 64, 500, 4000])
def test_a_label_gets_no_more_than_its_entropy(model, n, rng):
    labels = torch.randint(0, 2, (n, 1), generator=rng).float()
    x = 6 * labels + torch.randn(n, 3, generator=rng)
    found = model.estimate(x, labels)
    assert 0.8 * math.log(2) < found.mi <= found.interval[1] <= float(row_entropy(labels[None])[0]) + 1e-4
