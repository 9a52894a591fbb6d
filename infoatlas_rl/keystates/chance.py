"""Demonstrations that have nothing in common, to tell what the search for key states finds by chance.

Aligning demonstrations makes them alike, those of noise, too: where their motions agree by chance they are laid upon each other,
and what is before such a place then differs from what is after it. So the same is measured where every demonstration is turned in
a way of its own: it is as long, as fast and as bent as before, but its directions are nobody else's. Of a random walk that is
another random walk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SHARE = 0.01
"""Principal components of the motions with less than this share of their variance are left out."""


def turned(states: NDArray[np.float32], rng: np.random.Generator) -> list[Array]:
    """Standardised states ``(N, T, d)``, every demonstration turned by a random rotation of its own: N arrays ``(T, r)``.

    They are turned in the r principal components of the motions, each divided by its standard deviation, so that the covariance
    of the motions stays what it is.
    """
    motions = np.diff(states.astype(np.float64), axis=1).reshape(-1, states.shape[2])
    variance, components = np.linalg.eigh(motions.T @ motions / len(motions))
    kept = variance > LEAST_SHARE * variance.sum()
    scale, components = np.sqrt(variance[kept]), components[:, kept]
    return [(own - own.mean(0)) @ components / scale @ _rotation(len(scale), rng) * scale for own in states.astype(np.float64)]


def _rotation(dim: int, rng: np.random.Generator) -> Array:
    """A uniformly random orthogonal matrix ``(dim, dim)`` (Mezzadri, 2007)."""
    q, r = np.linalg.qr(rng.normal(size=(dim, dim)))
    return q * np.sign(np.diag(r))
