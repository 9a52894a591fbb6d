"""What is maximised: values that are known, invariances, and directions of little variance that count."""

import math

import pytest
import torch

from infoatlas_rl.objectives import dependence as module
from infoatlas_rl.objectives.dependence import canonical_information, contrast, dependence
from tests.conftest import correlated


def test_canonical_information_is_the_mutual_information_of_gaussians():
    x, y = correlated(20_000, [0.8, 0.5], batch=2)
    truth = -0.5 * math.log(1 - 0.64) - 0.5 * math.log(1 - 0.25)
    # The sampling error of either term is 1 / sqrt(n), of which five are allowed; the ridge takes 0.0004 away.
    assert canonical_information(x, y) == pytest.approx(torch.full((2,), truth), abs=0.05)


def test_invertible_linear_maps_change_little_of_it():
    x, y = correlated(5000, [0.8, 0.5], batch=1)
    skewed = x @ torch.tensor([[1.0, 0.4], [0.0, 0.1]])
    assert float(canonical_information(skewed, y)) == pytest.approx(float(canonical_information(x, y)), abs=0.02)


def test_independent_samples_near_the_dimension_are_not_rewarded():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 24, 20, generator=generator)
    few = float(canonical_information(x, y).mean())
    # Without the ridge 20 canonical correlations of 24 samples are near 1: far above 10 nats.
    assert few < 1.0


def test_contrast_is_at_most_the_logarithm_of_the_number_of_samples():
    x = torch.eye(64).unsqueeze(0)
    # With the smallest temperature the bound is largest here, and as tight as it can be.
    assert float(contrast(x, x)) == pytest.approx(math.log(64) - 63 * math.exp(-1 / min(module.TEMPERATURES)), abs=1e-4)
    assert abs(float(contrast(x, x.roll(1, 1)))) < 5.5  # worse than chance, and finite


def test_the_temperature_is_the_one_with_the_largest_bound():
    x, _ = correlated(128, [0.0] * 4, batch=1)
    noise = torch.randn(2, 128, 4, generator=torch.Generator().manual_seed(1))
    both = torch.cat([x, x])
    y = both + torch.tensor([0.05, 3.0]).view(2, 1, 1) * noise  # nearly the same, and hardly alike
    a, b = (torch.nn.functional.normalize(side - side.mean(1, keepdim=True), dim=-1) for side in (both, y))
    cosines = a @ b.mT
    bounds = torch.stack([module._bound(cosines / t) for t in module.TEMPERATURES])
    torch.testing.assert_close(contrast(both, y), bounds.amax(0))
    assert bounds.argmax(0).tolist() == [0, 4]


def test_more_canonical_information_than_a_share_of_what_a_contrast_can_say_weighs_less():
    rho = torch.tensor([0.5] * 2), torch.tensor([0.99] * 8)
    for r in rho:
        x, y = (t.requires_grad_() for t in correlated(256, r.tolist(), batch=1))
        canonical = canonical_information(x, y)
        rest = 0.8 * contrast(x, y)
        share = float((dependence(x, y, views=True) - rest).detach() / canonical.detach())
        assert share == pytest.approx(0.2 * min(1.0, 0.25 * math.log(256) / float(canonical.detach())), rel=1e-4)
        with_rest, own = (
            torch.autograd.grad(t.sum(), x, retain_graph=True)[0] for t in (dependence(x, y, views=True) - rest, canonical)
        )
        torch.testing.assert_close(with_rest, share * own, atol=1e-6, rtol=1e-3)


def test_large_batches_are_contrasted_in_blocks(monkeypatch):
    x, y = correlated(64, [0.9] * 3, batch=2)
    monkeypatch.setattr(module, "BLOCK", 32)
    x, y = (side - side.mean(1, keepdim=True) for side in (x, y))
    a, b = (torch.nn.functional.normalize(side, dim=-1).split(32, 1) for side in (x, y))
    halves = (module._contrast(a[0], b[0]) + module._contrast(a[1], b[1])) / 2
    torch.testing.assert_close(contrast(x, y), halves)


def test_units_do_not_matter_to_canonical_information():
    x, y = correlated(256, [0.9, 0.9], batch=1)
    scale = torch.tensor([1.0, 0.05], requires_grad=True)
    (gradient,) = torch.autograd.grad(dependence(x * scale, y * scale, views=False).sum(), scale)
    # Per relative change of the unit; rounding leaves 1e-5.
    torch.testing.assert_close(gradient * scale.detach(), torch.zeros(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("unit", [1e-30, 1e-10, 1e10])
def test_no_unit_is_too_small_or_too_large_for_the_gradient(unit):
    x, y = correlated(256, [0.9, 0.5], batch=1)
    gradients = []
    for scale in (1.0, unit):
        x = x.detach().requires_grad_()
        gradients.append(torch.autograd.grad(dependence(x, y * scale, views=False).sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)  # rounding


def test_a_code_that_has_collapsed_is_spread_again():
    """The second column of a code says as much as the first but hardly varies: gradient steps make it grow."""
    x, y = correlated(256, [0.9, 0.9], batch=1)
    scale = torch.tensor([1.0, 0.05], requires_grad=True)
    (gradient,) = torch.autograd.grad(dependence(x * scale, y * scale, views=True).sum(), scale)
    assert float(gradient[1]) > 0


def test_degenerate_samples_give_finite_values_and_gradients():
    generator = torch.Generator().manual_seed(0)
    y, column = torch.randn(1, 16, 3, generator=generator), torch.randn(1, 16, 1, generator=generator)
    for x in (torch.zeros(1, 16, 3), torch.ones(1, 16, 3) * 1e6, column.expand(1, 16, 3) * 1e-6):
        x = x.clone().requires_grad_()
        value = dependence(x, y, views=True)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert bool(torch.isfinite(value).all() and torch.isfinite(gradient).all())
        assert float(gradient.abs().max()) < 10 / max(float(x.detach().std()), 1e-6)  # per standard deviation, or moderate
