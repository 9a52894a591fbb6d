"""Stage 1, projection: random k-dimensional slices of high-dimensional samples.

Sliced mutual information (InfoAtlas, Eq. 9 and 10; Goldfeld & Greenwald, 2021) averages the MI of random
low-dimensional projections::

    SI_k(x; y) = E_{P, Q} [ I(P^T x; Q^T y) ],      P, Q uniform on the Stiefel manifold of orthonormal k-frames

All slices are stacked into one batch, so that one forward pass of the estimator sees them all.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from infoatlas_rl.estimator.discrete import with_equal_rows


def random_orthonormal(
    slices: int,
    dim: int,
    k: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw ``slices`` independent, Haar-distributed orthonormal k-frames of R^dim.

    Returns:
        frames: ``(slices, dim, k)`` with ``frames[s].T @ frames[s] = I``. If ``k >= dim`` each frame is a full rotation
        ``(dim, dim)``: nothing can be gained by a larger k.

    The frames are drawn on the generator's device (CPU without one), so that a seed gives the same slices everywhere.
    """
    k = min(k, dim)
    source = generator.device if generator is not None else "cpu"
    gauss = torch.randn(slices, dim, k, generator=generator, device=source, dtype=torch.float64)
    q, r = torch.linalg.qr(gauss)
    # The sign convention makes the distribution exactly uniform (Mezzadri, 2007).
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q.to(device=device, dtype=dtype)


def project(samples: Tensor, frames: Tensor) -> Tensor:
    """Project every data set of a batch onto every frame.

    Args:
        samples: ``(b, n, d)``.
        frames: ``(s, d, k)``.

    Returns:
        slices: ``(b * s, n, k)``, the slices of one data set next to each other. A data set beyond 2^64 is scaled down, so
        that sums stay finite. Equal rows have equal slices.
    """
    rows = samples
    samples = samples / (2.0**-64 * samples.detach().abs().amax((-2, -1), keepdim=True)).clamp(min=1)
    projected = torch.einsum("bnd,sdk->bnsk", samples, frames.to(samples))
    projected = with_equal_rows(projected.flatten(2), rows).unflatten(2, projected.shape[2:])
    return rearrange(projected, "b n s k -> (b s) n k")
