"""Informative projections of many dimensions, and estimates that rest on them."""

import math

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlas, estimate_mi
from infoatlas_rl.estimator.projection import Projections, canonical_maps


def two_features(n, d, rng, rho=0.8):
    """The first two columns of each side are correlated, all others are noise."""
    x, y = torch.randn(2, n, d, generator=rng)
    y[:, :2] = rho * x[:, :2] + math.sqrt(1 - rho**2) * y[:, :2]
    return x, y


def test_few_of_many_columns_are_found_and_carry_over_to_other_rows(rng):
    x, y = two_features(1200, 200, rng)
    projections = Projections(x[:600], y[:600], limit=20)
    a, b = projections.x(x[600:]), projections.y(y[600:])
    assert a.shape[0] == 600
    assert max(a.shape[1], b.shape[1]) <= 20
    cross = torch.corrcoef(torch.cat([a, b], 1).T)[: a.shape[1], a.shape[1] :]
    assert int((cross.abs().amax(1) > 0.7).sum()) >= 2


def test_a_product_of_two_columns_is_found(rng):
    x, y = torch.randn(2, 2000, 40, generator=rng)
    y[:, 5] = x[:, 3] * x[:, 8] + 0.3 * y[:, 5]
    projections = Projections(x[:1000], y[:1000], limit=20)
    a = projections.x(x[1000:])
    known = torch.corrcoef(torch.cat([a, x[1000:, [3, 8]]], 1).T)[-2:, :-2]
    assert bool((known.abs().amax(1) > 0.95).all())


def test_independent_data_keep_little(rng):
    x, y = torch.randn(2, 800, 60, generator=rng)
    projections = Projections(x[:400], y[:400], limit=20)
    assert projections.x(x).shape[1] <= 6


def test_a_side_that_is_small_enough_is_left_alone(rng):
    x, y = torch.randn(100, 30, generator=rng), torch.randn(100, 4, generator=rng)
    assert Projections(x, y, limit=20).y(y) is y


def test_canonical_maps_work_with_more_columns_than_samples(rng):
    x, y = torch.randn(2, 50, 80, generator=rng)
    a, b = canonical_maps(x, y, 0.1, 5)
    assert a.shape == b.shape == (80, 5)
    assert bool(torch.isfinite(a).all())


def test_many_dimensions_are_estimated_without_options(rng):
    x, y = two_features(1500, 50, rng)
    truth = -math.log(1 - 0.8**2)
    found = estimate_mi(x, y)
    assert found.projected is not None
    assert max(found.projected) <= 20
    assert "a lower bound" in str(found)
    # Half of the rows show where, the other half how much.
    assert 0.8 * truth < found.mi < 1.2 * truth
    nothing = estimate_mi(x, y.roll(1, 0), permutations=9)
    assert nothing.mi < 0.1
    assert nothing.p_value > 0.1


def test_projections_need_samples(rng):
    x, y = torch.randn(2, 40, 30, generator=rng)
    with pytest.raises(ValueError, match="to find projections of 30 dimensions at least 64 are needed; pass slices=25"):
        estimate_mi(x, y)


def test_nonlinear_projections_are_kept_only_where_they_say_something_new(rng):
    found = []
    for lengths in (False, True):
        x, y = torch.randn(2, 4000, 30, generator=rng)
        if lengths:  # nothing linear
            y[:, 0] = x[:, :2].norm(dim=1) + 0.1 * y[:, 0]
        else:  # functions of the one pair of canonical variates are correlated, too
            y = 0.3 * (y + x.sum(1, keepdim=True) / math.sqrt(30))
        turn = torch.linalg.qr(torch.randn(30, 30, generator=rng)).Q
        x, y = x @ turn, y @ turn
        maps = Projections(x, y, 20), Projections(x, y, 20, worth=bound_of_a_critic)
        found.append([m.x(x).shape[1] for m in maps])
        if not lengths:
            truth = 0.5 * math.log(1 + 30)  # all of it in the mean of the columns of y
            estimate = estimate_mi(x, y)
            assert 0.9 * truth < estimate.mi < 1.1 * truth
            assert 0.85 * truth < estimate.bound < 1.1 * truth
    (all_linear, new_linear), (all_lengths, new_lengths) = found
    assert new_linear < all_linear
    assert new_lengths == all_lengths > 1


def bound_of_a_critic(x, y):
    return InfoAtlas.from_pretrained().estimate(x, y, cross_fit=True).bound


def test_it_does_not_matter_how_classes_are_numbered():
    # Rows of the other half have classes that the first half lacks: their columns are constant there, and say nothing.
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    order = np.argsort(np.argsort(x + rng.normal(size=200)))
    model = InfoAtlas.from_pretrained()
    found = [model.estimate(x, labels, classes="y").mi for labels in (order, rng.permutation(200)[order])]
    assert found == pytest.approx([0.0, 0.0], abs=0.02)  # 0.22 and 0.00 before
