import torch

from infoatlas_rl.estimator.canonical import CanonicalEncoder, Moments, _leading_singular, linear_canonical, nonlinear_canonical
from tests.conftest import correlated


def test_canonical_coordinates_are_white_with_diagonal_cross_covariance(rng):
    x = torch.randn(3, 500, 4, generator=rng) @ torch.randn(4, 4, generator=rng)
    y = x[..., :2] + torch.randn(3, 500, 2, generator=rng)
    maps = linear_canonical(x, y, ridge=1e-6)
    u, v = maps.x(x), maps.y(y)
    torch.testing.assert_close(u.mT @ u / 500, torch.eye(4).expand(3, 4, 4), atol=1e-3, rtol=0)
    cross = u.mT @ v / 500
    torch.testing.assert_close(cross[:, :2], torch.diag_embed(maps.rho), atol=1e-3, rtol=0)
    torch.testing.assert_close(cross[:, 2:], torch.zeros(3, 2, 2), atol=1e-3, rtol=0)


def test_correlations_do_not_change_under_invertible_linear_maps(rng):
    x, y = correlated(4000, [0.9, 0.5, 0.1], batch=2)  # enough for the ridge of few samples to be none
    mixed = linear_canonical(x @ torch.randn(3, 3, generator=rng), y @ torch.randn(3, 3, generator=rng), ridge=1e-9)
    torch.testing.assert_close(mixed.rho, linear_canonical(x, y, ridge=1e-9).rho, atol=1e-4, rtol=0)


def test_constant_and_duplicated_columns_give_finite_maps(rng):
    x = torch.randn(1, 100, 1, generator=rng).expand(1, 100, 3).clone()
    x[..., 2] = 5
    maps = linear_canonical(x, x, ridge=1e-4)
    assert all(bool(torch.isfinite(part).all()) for part in maps)
    assert maps.rho[0, 0] > 0.99
    assert maps.rho[0, 1] < 0.01


def test_subspace_iteration_finds_the_leading_singular_triplets(rng):
    u, _ = torch.linalg.qr(torch.randn(2, 40, 40, generator=rng))
    v, _ = torch.linalg.qr(torch.randn(2, 40, 40, generator=rng))
    s = 0.95 ** torch.arange(40) * torch.cat([torch.ones(4), torch.full((36,), 0.3)])
    matrix = u * s @ v.mT
    left, values, right = _leading_singular(matrix, 4)
    torch.testing.assert_close(values, s[:4].expand(2, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(left * values.unsqueeze(1) @ right.mT, u[..., :4] * s[:4] @ v[..., :4].mT, atol=1e-3, rtol=0)


def test_nonlinear_analysis_of_the_identity_features_is_the_linear_one():
    x, y = correlated(2000, [0.8, 0.4], batch=1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    nonlinear = nonlinear_canonical(x, y, torch.full((1, 2), 1e-6), torch.full((1, 2), 1e-6), variates=2)
    torch.testing.assert_close(nonlinear.correlations, linear_canonical(x, y, 1e-9).rho, atol=1e-3, rtol=0)


def test_the_trained_features_unroll_a_dependence_that_linear_analysis_cannot_see(model):
    # y is a noisy square of x: no linear correlation, a strong one between suitable functions.
    x, noise = correlated(2000, [0.0], batch=1)
    y = x**2 + 0.3 * noise
    maps, _ = model.encoder.fit(x, y, differentiable=False)
    assert maps.linear.rho.max() < 0.15
    assert maps.nonlinear.correlations.max() > 0.7


def test_appended_constant_columns_change_nothing():
    torch.manual_seed(0)
    encoder = CanonicalEncoder(max_dim=6, width=8, features=5, variates=2, ridge=1e-4)
    x, y = correlated(200, [0.7, 0.2], batch=1)
    plain, _ = encoder.fit(x, y, differentiable=False)
    padded, _ = encoder.fit(torch.nn.functional.pad(x, (0, 3)), y, differentiable=False)
    torch.testing.assert_close(padded.nonlinear.correlations, plain.nonlinear.correlations, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.linear.rho[:, :2], plain.linear.rho, atol=1e-6, rtol=0)


def test_held_out_correlations_tell_real_from_spurious(model):
    nonlinear = []
    for real in (0.8, 0.0):
        x, y = correlated(120, [real] + [0.0] * 7, batch=20)
        maps, _ = model.encoder.fit(x, y, differentiable=False)
        assert maps.linear.rho[:, 0].mean() > real + 0.02  # inflated in-sample
        # Sixty samples in a fold and eight dimensions: shrunk by the noise of the maps, hardly above the truth.
        assert real - 0.25 < maps.linear.held_out[:, 0].mean() < real + 0.05
        nonlinear.append(float(maps.nonlinear.held_out[:, 0].mean()))
    # These are held out given the linear coordinates, which have seen all samples.
    assert nonlinear[0] > nonlinear[1] + 0.25


def test_pooled_moments_are_those_of_all_samples(rng):
    f, g = torch.randn(2, 100, 3, generator=rng), torch.randn(2, 100, 4, generator=rng)
    pooled = Moments.of_halves(f, g).pooled()
    torch.testing.assert_close(pooled.cross, f.mT @ g / 100)
    torch.testing.assert_close(pooled.x, f.mT @ f / 100)
