import pytest
import torch

from infoatlas_rl.pretraining.atlas import (
    AtlasConfig,
    _labels,
    _latent_classes,
    _low_rank_correlation,
    _mixture,
    _spectrum,
    sample_elliptical,
    sample_problems,
    sample_sizes,
)
from infoatlas_rl.pretraining.flows import coupling, flow, monotone, rotation, with_redundant
from infoatlas_rl.pretraining.tables import checkerboard, count_table, counts, sum_table


@pytest.mark.parametrize(
    "family",
    [checkerboard, counts, _latent_classes, _spectrum, sample_elliptical, lambda n, dx, dy, g: _mixture(n, dx, dy, 10, g)],
)
@pytest.mark.parametrize("seed", range(4))
def test_density_ratios_integrate_to_one(family, seed):
    # E_q[exp s] = 1 for the exact log ratio s. Tested as E_mix[2 exp(s) sigmoid(-s)] = 1, whose terms are at most 2:
    # the standard error with 40 000 terms is below 0.005.
    g = torch.Generator().manual_seed(seed)
    x, y, log_ratio = family(20_000, 3, 2, g)
    s = torch.cat([log_ratio(x, y), log_ratio(x, y.roll(1, 0))]).double()
    assert abs(2 * torch.sigmoid(s).mean() - 1) < 0.02


def test_spectrum_has_the_analytic_mutual_information():
    g = torch.Generator().manual_seed(3)
    x, y, log_ratio = _spectrum(60_000, 2, 2, g)
    rho = torch.linalg.svdvals(torch.linalg.inv(torch.linalg.cholesky(x.T.cov())) @ (x.T @ y / 60_000))
    assert torch.isfinite(log_ratio(x, y)).all()
    gaussian = -0.5 * torch.log1p(-(rho.clamp(max=0.999) ** 2)).sum()
    # This seed draws a Gaussian; the Monte Carlo error of 60 000 samples is 0.005.
    assert abs(log_ratio(x, y).mean() - gaussian) < 0.02


def test_problems_are_reproducible_and_context_differs_from_query():
    config = AtlasConfig(query=50)
    first, second = (sample_problems(3, 80, 2, 3, config, torch.Generator().manual_seed(9)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert first.x.shape == (3, 80, 2)
    assert first.query_y.shape == (3, 50, 3)
    assert not torch.equal(first.x[:, :50], first.query_x)


def test_problems_cover_independence_weak_and_strong_dependence():
    problem = sample_problems(150, 64, 2, 2, AtlasConfig(query=400), torch.Generator().manual_seed(0))
    mi = problem.mi
    assert (problem.joint_log_ratio.abs().amax(-1) == 0).sum() >= 4
    assert ((mi > 0.02) & (mi < 0.3)).sum() >= 20
    assert (mi > 1).sum() >= 8
    assert bool(torch.isfinite(mi).all())


def test_sizes_stay_in_range():
    config = AtlasConfig()
    g = torch.Generator().manual_seed(0)
    sizes = torch.tensor([sample_sizes(config, g) for _ in range(500)])
    assert sizes[:, 0].min() >= 16
    assert sizes[:, 0].max() <= 5000
    assert sizes[:, 1:].min() == 1
    assert sizes[:, 1:].max() == 20


def test_low_rank_correlations_are_correlation_matrices():
    matrix = _low_rank_correlation(5, 6, torch.Generator().manual_seed(0))
    torch.testing.assert_close(matrix.diagonal(dim1=-2, dim2=-1), torch.ones(5, 6))
    assert torch.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.parametrize("seed", range(6))
def test_elementwise_maps_are_increasing(seed):
    x = torch.linspace(-3, 3, 1001).unsqueeze(1).expand(1001, 2)
    assert bool((monotone(x, torch.Generator().manual_seed(seed)).diff(dim=0) > 0).all())


def test_flows_do_not_merge_points():
    # Invertible: distinct inputs stay distinct. The smallest distance may shrink, but not to rounding.
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        for out in (flow(x, g), coupling(x, g), rotation(x, g)):
            distance = torch.cdist(out, out) + 1e9 * torch.eye(400)
            assert distance.min() > 1e-4


@pytest.mark.parametrize("d", [1, 3])
def test_labels_are_seen_as_they_are_and_know_their_density(d):
    classes = max(d, 2)
    label = torch.arange(classes).repeat(5)
    codes, densities = _labels(label, classes, d, 1.0, torch.Generator())
    assert codes.shape == (5 * classes, d)
    assert codes.unique(dim=0).shape[0] == classes
    total = torch.stack([density(codes[:, c]) for c, density in enumerate(densities)]).sum(0)
    # Certain in the own class, impossible in all others.
    torch.testing.assert_close(total.gather(1, label.unsqueeze(1)), torch.zeros(5 * classes, 1))
    assert float((total.exp().sum(1) - 1).abs().max()) < 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_columns_that_add_nothing_stand_beside_the_others(seed):
    side = torch.randn(300, 2, generator=torch.Generator().manual_seed(99))
    more = with_redundant(side, 6, torch.Generator().manual_seed(seed))
    assert more.shape == (300, 6)
    assert bool(torch.isfinite(more).all())
    for column in side.T:  # nothing is lost
        assert bool((more == column.unsqueeze(1)).all(0).any())
    assert torch.equal(more, with_redundant(side, 6, torch.Generator().manual_seed(seed)))
    assert with_redundant(side, 2, torch.Generator().manual_seed(seed)) is side


def test_problems_with_columns_that_add_nothing_know_their_information(model):
    # One component with few columns in a frame of many: on the frame the bound of the released critic is near the truth of the
    # few. The largest difference is 0.07; with the columns of another problem it would be 0.9.
    config = AtlasConfig(max_dim=12, redundant=1.0, elliptical=1.0, flows=False, query=8)
    problem = sample_problems(6, 400, 12, 12, config, torch.Generator().manual_seed(4))
    assert problem.x.shape == (6, 400, 12)
    bound = torch.as_tensor(model.estimate(problem.x, problem.y).bound).float()
    torch.testing.assert_close(bound, problem.mi, atol=0.15, rtol=0)
    assert problem.mi.max() > 0.8


def test_strong_problems_have_up_to_six_nats_a_pair():
    config = AtlasConfig(max_dim=1, strong=1.0, plain=1.0, query=8, truth=4000)
    mi = sample_problems(60, 100, 1, 1, config, torch.Generator().manual_seed(6)).mi
    # -1/2 log(1 - rho^2) is uniform up to 5.8 where the exponent of its share is small, and a tenth are independent.
    assert 4.0 < float(mi.max()) < 6.2
    assert float(mi.median()) > 1.0
    usual = sample_problems(60, 100, 1, 1, AtlasConfig(max_dim=1, plain=1.0, query=8), torch.Generator().manual_seed(6)).mi
    assert float(usual.median()) < 0.5 * float(mi.median())


@pytest.mark.parametrize("seed", range(12))
def test_tables_of_counts_are_probabilities(seed):
    table = count_table(torch.Generator().manual_seed(seed))
    assert bool((table > 0).all())
    assert float(table.sum()) == pytest.approx(1.0, abs=1e-5)
    assert min(table.shape) >= 2


def test_sums_of_counts_with_a_part_in_common_share_its_information():
    # Poisson counts c + a and c + b of means 1, 2 and 3; by summing the pmf directly.
    c, a, b = (torch.distributions.Poisson(rate).log_prob(torch.arange(30.0)).exp() for rate in (1.0, 2.0, 3.0))
    table = torch.zeros(48, 48)
    for shared in range(20):
        table[shared : shared + 24, shared : shared + 24] += c[shared] * a[:24].unsqueeze(1) * b[:24]
    torch.testing.assert_close(sum_table(c[:24], a[:24], b[:24]), table, atol=1e-6, rtol=0)


def test_processes_share_a_batch_without_changing_it():
    config = AtlasConfig(query=20, truth=50)
    together = sample_problems(4, 70, 2, 1, config, torch.Generator().manual_seed(5))
    for rank in range(2):
        part = sample_problems(4, 70, 2, 1, config, torch.Generator().manual_seed(5), rank=rank, world=2)
        assert torch.equal(part.x, together.x[rank::2])
        assert torch.equal(part.mi, together.mi[rank::2])


def test_the_error_of_the_true_mi_is_recorded():
    few, many = (
        sample_problems(60, 64, 1, 1, AtlasConfig(query=100, truth=n), torch.Generator().manual_seed(0)) for n in (100, 9900)
    )
    # Fifty times the samples: a seventh of the error.
    assert 4 < few.mi_error.mean() / many.mi_error.mean() < 12
    dependent = many.mi_error > 0
    spread = many.joint_log_ratio.std(-1)[dependent] / 10
    z = (many.joint_log_ratio.mean(-1) - many.mi)[dependent] / spread
    # Means of a hundred queries around the truth: standardised, of unit size, give or take the noise of sixty.
    assert 0.7 < z.square().mean().sqrt() < 1.3


def test_some_problems_have_ties_and_atoms():
    problem = sample_problems(80, 200, 1, 1, AtlasConfig(query=8, truth=8), torch.Generator().manual_seed(2))
    ties = (problem.x.sort(dim=1).values.diff(dim=1) == 0).double().mean((1, 2))
    assert (ties > 0.5).sum() >= 3
    assert ((ties > 0.02) & (ties < 0.98)).sum() >= 4
    assert (ties == 0).sum() >= 40
