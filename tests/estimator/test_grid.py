import math

import torch

from infoatlas_rl.estimator.grid import grid_information


def test_a_grid_sees_a_gaussian_copula_and_nothing_in_independent_columns(rng):
    n = 20_000
    x, noise = torch.randn(1, n, 2, generator=rng), torch.randn(1, n, 2, generator=rng)
    y = torch.stack([0.8 * x[..., 0] + 0.6 * noise[..., 0], noise[..., 1]], -1)
    coarse, fine = grid_information(x, y, (6, 16))[:, 0]
    truth = -0.5 * math.log(1 - 0.8**2)  # 0.51
    # Coarse grids lose some of it; the standard deviation of 20 000 samples is below 0.006.
    assert 0.8 * truth < coarse[0] < fine[0] < truth + 0.02
    # 2 n I is chi-squared with 225 degrees of freedom less their number: a standard deviation of 0.0005.
    assert coarse[1].abs() < 0.002
    assert fine[1].abs() < 0.002


def test_a_grid_knows_ranks_only(rng):
    x, y = torch.randn(2, 3, 500, 2, generator=rng)
    torch.testing.assert_close(grid_information(x, y, (4,)), grid_information(x.exp(), 5 * y**3, (4,)))
    # All of the entropy of eight cells, less the correction of the bias.
    shared = grid_information(x, 2 * x, (8,))
    torch.testing.assert_close(shared, torch.full_like(shared, math.log(8) - 49 / 1000), atol=1e-3, rtol=0)
