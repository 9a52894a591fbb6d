import pytest
import torch

from infoatlas_rl import estimate_mi
from infoatlas_rl.estimator.slicing import project, random_orthonormal


def test_frames_are_orthonormal(rng):
    frames = random_orthonormal(7, 30, 5, generator=rng, dtype=torch.float64)
    assert frames.shape == (7, 30, 5)
    torch.testing.assert_close(frames.mT @ frames, torch.eye(5, dtype=torch.float64).expand(7, 5, 5))


def test_frames_are_uniform(rng):
    # For Haar-distributed frames every entry has mean 0 and variance 1/d; 20 000 entries put the mean within 4 sigma.
    entries = random_orthonormal(1000, 10, 2, generator=rng, dtype=torch.float64)
    assert abs(entries.mean()) < 4 * (1 / 10 / 20_000) ** 0.5
    assert abs(entries.var() - 1 / 10) < 0.005


def test_a_seed_gives_the_same_frames():
    first, second = (random_orthonormal(3, 8, 2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_k_above_the_dimension_rotates_and_keeps_all(rng):
    x = torch.randn(1, 50, 3, generator=rng)
    frames = random_orthonormal(4, 3, 5, generator=rng)
    assert frames.shape == (4, 3, 3)
    norms = project(x, frames).norm(dim=-1)
    torch.testing.assert_close(norms, x.norm(dim=-1).expand(4, 50))


def test_projection_keeps_slices_of_one_data_set_together(rng):
    x = torch.randn(2, 6, 4, generator=rng)
    frames = random_orthonormal(3, 4, 2, generator=rng)
    out = project(x, frames)
    for b in range(2):
        for s in range(3):
            torch.testing.assert_close(out[3 * b + s], x[b] @ frames[s])


def test_sides_of_different_precision_are_sliced(rng):
    x, y = torch.randn(60, 3, generator=rng), torch.randn(60, 4, generator=rng, dtype=torch.float64)
    for a, b in ((x, y), (y, x)):
        # The same up to rounding of ranks and matrix products.
        assert estimate_mi(a, b, slices=4, k=2).mi == pytest.approx(
            estimate_mi(a.double(), b.double(), slices=4, k=2).mi, abs=1e-3
        )
