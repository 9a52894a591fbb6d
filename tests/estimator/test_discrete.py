"""The entropy of a discrete side limits what anything can have in common with it."""

import math

import numpy as np
import pytest
import torch

from infoatlas_rl.estimator.discrete import first_equal, most_information, row_entropy


def test_entropy_of_samples_with_its_correction(rng):
    labels = torch.randint(0, 5, (40, 60, 2), generator=rng).float()
    entropy, kinds, _ = row_entropy(labels)
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
        return most_information([row_entropy(side) for side in sides], 100, (0.5,)).squeeze(-1)

    assert bool(most(x, x).isinf().all())
    assert float((most(x, labels) - math.log(2)).abs().max()) < 0.03
    torch.testing.assert_close(most(labels, x), most(x, labels))


@pytest.mark.parametrize("n", [32, 64, 500, 4000])
def test_a_label_gets_no_more_than_its_entropy(model, n, rng):
    labels = torch.randint(0, 2, (n, 1), generator=rng).float()
    x = 6 * labels + torch.randn(n, 3, generator=rng)
    found = model.estimate(x, labels)
    assert 0.8 * math.log(2) < found.mi <= found.interval[1] <= math.log(2) + 1e-4
    assert found.mi <= float(row_entropy(labels[None]).entropy) + 1e-4


def test_the_entropy_is_known_as_well_as_the_samples_say():
    # 5 and 95 % of the entropy of labels with p = 0.2 are 0.037 apart from the middle with 1000 samples.
    p = torch.tensor(0.2)
    spread = float((p * (1 - p)).sqrt() * (p / (1 - p)).log().abs())
    rows = torch.tensor([1.0] * 200 + [0.0] * 800).view(1, -1, 1)
    low, middle, high = most_information([row_entropy(rows)] * 2, 1000, (0.05, 0.5, 0.95))[0].tolist()
    assert middle - low == pytest.approx(1.645 * spread / math.sqrt(1000), abs=1e-3)
    assert high - middle == pytest.approx(1.645 * spread / math.sqrt(1000) + 1 / 2000, abs=1e-3)


def test_intervals_hold_the_entropy_of_a_determined_label(model, rng):
    p = 0.2
    truth = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    labels = (torch.rand(60, 500, 1, generator=rng) < p).float()
    low, high = model.estimate((2 * labels - 1) * (1 + torch.rand(labels.shape, generator=rng)), labels).interval
    # 90 % of them should; of 60 sets at least 45 do but for one in a thousand cases.
    assert ((low <= truth + 1e-3) & (truth <= high)).sum() >= 45


def test_equal_rows_are_found(rng):
    codes = torch.randn(2, 6, 21, generator=rng, dtype=torch.float64)
    chosen = torch.randint(0, 6, (2, 300), generator=rng)
    first = first_equal(codes.gather(1, chosen.unsqueeze(-1).expand(2, 300, 21)))
    for of_set, code in zip(first, chosen, strict=True):
        for kind in range(6):
            assert len(set(of_set[code == kind].tolist())) == 1
        assert bool((code[of_set] == code).all())
    rows = torch.randn(1, 50, 3, generator=rng) * 1e-30
    assert first_equal(rows).tolist() == [list(range(50))]


@pytest.mark.parametrize("kinds", [4, 30])
def test_slices_and_projections_of_a_codebook_invent_nothing(model, kinds):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, kinds, (2, 601))
    first, second = rng.normal(size=(2, kinds, 21))
    assert model.estimate(first[a], second[b], slices=10).mi < 0.05
    for options in ({"slices": 10}, {}):
        assert model.estimate(first[a], second[a], **options).interval[1] <= math.log(kinds) + 1e-4
