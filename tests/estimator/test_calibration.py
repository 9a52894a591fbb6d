import torch

from infoatlas_rl.estimator.calibration import (
    DISAGREEMENT,
    LARGEST,
    LEVELS,
    STATISTICS,
    CalibratedHead,
    from_scale,
    pinball_loss,
    statistics,
    to_scale,
)
from infoatlas_rl.estimator.model import InfoAtlas
from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_problems
from infoatlas_rl.pretraining.head import CalibrateConfig, collect, fit_head, read_table

ATLAS = AtlasConfig(max_dim=3, max_samples=120, query=8, max_components=4)


def test_quantiles_are_ascending_and_not_negative(rng):
    torch.manual_seed(0)
    head = CalibratedHead(6)
    with torch.no_grad():
        for parameter in head.members.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    quantiles = head(3 * torch.randn(50, STATISTICS, generator=rng), torch.randn(50, 6, generator=rng))
    assert quantiles.min() >= 0
    assert bool((quantiles.diff(dim=-1) >= 0).all())


def test_intervals_are_wider_where_members_disagree_and_medians_stay(rng):
    torch.manual_seed(0)
    head = CalibratedHead(6, members=4)
    statistics, summary = 3 * torch.randn(50, STATISTICS, generator=rng), torch.randn(50, 6, generator=rng)
    with torch.no_grad():
        for member in head.members:
            member[-1].weight.zero_()
    agreed = head(statistics, summary)
    shifts = torch.tensor([-0.3, -0.1, 0.1, 0.3])
    with torch.no_grad():
        for member, shift in zip(head.members, shifts, strict=True):
            member[-1].bias[len(LEVELS) // 2] += shift
    moved = head(statistics, summary)
    torch.testing.assert_close(moved[:, len(LEVELS) // 2], agreed[:, len(LEVELS) // 2])
    apart = DISAGREEMENT * shifts.std(correction=0)
    high = to_scale(moved[:, -1]) - to_scale(agreed[:, -1])
    torch.testing.assert_close(high, apart.expand(50), atol=1e-5, rtol=0)
    above_zero = moved[:, 0] > 0
    assert above_zero.any()
    low = (to_scale(agreed[:, 0]) - to_scale(moved[:, 0]))[above_zero]
    torch.testing.assert_close(low, apart.expand(len(low)), atol=1e-5, rtol=0)


def test_the_scale_is_undone():
    mi = torch.linspace(0, 8, 50)
    torch.testing.assert_close(from_scale(to_scale(mi)), mi, atol=1e-5, rtol=1e-5)


def test_pinball_loss_is_least_at_the_quantiles(rng):
    truth = torch.randn(20_000, generator=rng)
    best = torch.quantile(truth, torch.tensor(LEVELS))
    least = pinball_loss(best.expand(len(truth), -1), truth)
    for shift in (-0.1, 0.1):
        assert pinball_loss((best + shift).expand(len(truth), -1), truth) > least


def test_the_head_learns_bias_and_spread_of_the_bound(tmp_path, rng):
    # The bound is half of the truth, give or take a tenth.
    truth = 2 * torch.rand(6000, generator=rng)
    table = torch.zeros(6000, STATISTICS)
    table[:, 0] = 0.5 * truth * (1 + 0.1 * torch.randn(6000, generator=rng))
    torch.save([table, torch.zeros(6000, 4), truth, torch.zeros(6000), torch.zeros(6000)], tmp_path / "mi-0000.pt")
    for name in ("small", "large", "plain", "simple"):
        torch.save([column[:10] for column in torch.load(tmp_path / "mi-0000.pt")], tmp_path / f"{name}-0000.pt")
    torch.save([torch.zeros(500, 4), torch.full((500,), 0.5), torch.ones(500), torch.zeros(500)], tmp_path / "gradient-0000.pt")
    head = CalibratedHead(4, width=32, members=1)
    figures = fit_head(head, tmp_path, CalibrateConfig(epochs=30))
    # 600 validation rows: the standard error of the coverage is 0.012, before and after the correction.
    assert 0.82 < figures["coverage_before_widening"] < 0.97
    low, *_, high = head(table, torch.zeros(6000, 4)).T
    assert 0.86 < ((low <= truth) & (truth <= high)).float().mean() < 0.94
    assert figures["mae"] < 0.12 < figures["bound_mae"]
    # Gradients of half the size are doubled.
    torch.testing.assert_close(head.gain(torch.zeros(1, 4)), torch.full((1,), 2.0), atol=0.1, rtol=0)


def test_the_table_is_collected_once(tiny, tmp_path):
    torch.manual_seed(0)
    network = InfoAtlas(tiny).eval().requires_grad_(False)
    config = CalibrateConfig(
        **{f"{name}_groups": 2 for name in ("small", "large", "plain", "simple", "strong", "redundant", "counts")},
        groups=30,
        gradient_groups=4,
        most_samples=200,
        group_pairs=400,
        truth=100,
    )
    assert list(collect(network, ATLAS, config, tmp_path)) == list(range(20, 201, 20))
    before = read_table(tmp_path, "mi")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    list(collect(network, ATLAS, config, tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    assert before[0].shape[1] == STATISTICS
    assert len(before[0]) == len(before[2]) >= 60


def test_statistics_are_finite_for_data_that_are_hardly_random(model):
    x = torch.ones(1, 64, 2)
    x[0, :, 1] = torch.arange(64) % 2
    for y in (x, torch.ones(1, 64, 1)):
        critic = model(x, y)
        assert bool(torch.isfinite(statistics(critic)).all())
        assert bool(torch.isfinite(model.quantiles(critic)).all())


def test_the_released_head_is_calibrated_on_unseen_problems(model):
    # 160 problems from seeds of their own; at 90 % coverage the binomial standard deviation is 0.024.
    covered, errors, bound_errors = [], [], []
    for n, d in ((100, 1), (100, 5), (1000, 1), (1000, 5)):
        generator = torch.Generator().manual_seed(77 + n + d)
        problem = sample_problems(40, n, d, d, AtlasConfig(query=1, truth=8000), generator)
        result = model.estimate(problem.x, problem.y)
        truth = problem.mi.clamp(min=0).double().numpy()
        low, high = result.interval
        covered += list((low - 1e-3 <= truth) & (truth <= high + 1e-3))
        errors += list(abs(result.mi - truth))
        bound_errors += list(abs(result.bound - truth))
    assert 0.8 < sum(covered) / len(covered) < 0.98
    assert sum(errors) < 0.8 * sum(bound_errors)


def test_intervals_of_few_samples_in_many_dimensions_end_somewhere(model):
    x, y = torch.randn(2, 8, 16, 15, generator=torch.Generator().manual_seed(3))
    high = model.quantiles(model(x, y))[:, -1]
    assert float(high.max()) <= LARGEST
    assert float(high.min()) < 10  # it is not all there is to say
