"""Columns that follow from others are left out, and nothing else is."""

import math

import numpy as np
import pytest
import torch

from infoatlas_rl import estimate_mi
from infoatlas_rl.estimator.derived import without_derived
from tests.conftest import correlated


def left_over(*columns):
    return without_derived(torch.stack(columns, 1)[None]).shape[2]


@pytest.fixture
def three(rng):
    return torch.randn(3, 800, generator=rng, dtype=torch.float64).unbind()


def test_copies_sums_products_and_squares_are_left_out(three):
    a, b, c = three
    for derived in (a, 3 * a - 1e3, a + b, a - 2 * b + c, a * b, a**2 - c, (a + b) * (b - c)):
        assert left_over(a, b, c, derived) == 3
        assert left_over(*(side.float() for side in (a, b, c, derived))) == 3  # rounded
    assert left_over(a.exp(), b, c.tan(), a.exp() + b, b * c.tan(), a.exp() * c.tan()) == 3  # of heavy tails
    assert left_over(a, b, a + b, a * b, a**2, b**2, a - b) == 2


def test_what_says_something_of_its_own_stays(three):
    a, b, c = three
    rare = torch.where(torch.arange(800) == 401, c, a)
    for other in (a + 1e-3 * c, rare, a.abs(), a.sin(), a**3, torch.sign(a) * a**2):
        assert left_over(a, b, other) == 3
    heavy = torch.tan(1.57 * (2 * torch.rand(2, 800, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1))
    assert left_over(*heavy) == 2
    # Classes are always there with all of their columns.
    assert left_over(*torch.eye(3)[torch.arange(800) % 3].T) == 3


@pytest.mark.parametrize("unit", [1e-250, 1e250])
def test_units_do_not_matter(three, unit):
    a, b, c = three
    assert left_over(unit * a, b, unit * c) == 3
    assert left_over(unit * a, unit * b, c, unit * (a - b)) == 3
    spoilt = torch.stack(three, 1)
    spoilt[5] = 1e250
    assert left_over(*spoilt.T) == 3


def test_rows_are_needed_for_a_function_to_be_known(rng):
    x = torch.randn(1, 12, 8, generator=rng)
    assert without_derived(x).shape == x.shape
    assert without_derived(torch.cat([x, x.sum(2, keepdim=True)], 2)).shape[2] == 9
    assert without_derived(torch.zeros(1, 800, 3)).shape[2] == 3  # one of constants is left before


def test_data_sets_of_a_batch_lose_the_same_columns_or_none(rng):
    x = torch.randn(2, 400, 2, generator=rng)
    assert without_derived(torch.cat([x, x[..., :1] + x[..., 1:]], 2)).shape[2] == 2
    x = torch.cat([x, torch.stack([x[0, :, 0], torch.randn(400, generator=rng)]).unsqueeze(2)], 2)
    assert without_derived(x).shape[2] == 3


def test_an_estimate_does_not_change_with_them():
    x, y = (side.double().numpy() for side in correlated(1000, [0.6] * 4))
    pairs = [(i, j) for i in range(4) for j in range(i, 4)]
    wide = [np.hstack([side, np.stack([side[:, i] * side[:, j] for i, j in pairs], 1)]) for side in (x, y)]
    alone, found = estimate_mi(x, y), estimate_mi(*wide)
    assert found.mi == pytest.approx(alone.mi, abs=1e-4)  # rounding
    assert found.mi == pytest.approx(-2 * math.log(1 - 0.6**2), abs=0.15)
    assert found.dims == (14, 14)
    # Of 30 columns all but four follow: no projections are needed.
    many = np.hstack([x, x @ np.random.default_rng(0).normal(size=(4, 26))])
    assert estimate_mi(many, y).projected is None
