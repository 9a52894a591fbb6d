"""Suite ``order``: which of two dependences is stronger? Random mixtures of K two-dimensional Gaussians (InfoNet, Table 3).

Beside the estimate stands an oracle, the mean of the true log ratio over the same samples: what sampling noise leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig
from scipy.special import logsumexp

from infoatlas_rl import InfoAtlas
from infoatlas_rl.tasks.progress import progress_bar

SAMPLES = 2000
INFONET = [99.8, 99.5, 99.0, 99.2, 99.1, 99.2, 99.0, 99.2, 99.3, 99.5]


def run(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    rows = []
    with progress_bar("order", 10 * cfg.triplets) as bar:
        for k in range(1, 11):
            rng = np.random.default_rng(k)
            right = oracle = 0
            for triplet in range(cfg.triplets):
                pair = Mixture(k, rng), Mixture(k, rng)
                samples = [m.sample(SAMPLES) for m in pair]
                x, y = (np.stack([z[:, side] for z in samples])[..., None] for side in (0, 1))
                found = model.estimate(x, y).mi
                truth = [m.mi(50_000) for m in pair]
                if abs(truth[0] - truth[1]) < 0.03:
                    truth = [m.mi(1_000_000) for m in pair]
                right += (found[0] > found[1]) == (truth[0] > truth[1])
                known = [float(m.log_ratio(z).mean()) for m, z in zip(pair, samples, strict=True)]
                oracle += (known[0] > known[1]) == (truth[0] > truth[1])
                bar((k - 1) * cfg.triplets + triplet + 1, f"K = {k}")
            rows.append({"k": k, "accuracy": round(right / cfg.triplets, 4), "oracle": round(oracle / cfg.triplets, 4)})
    return {"suite": "order", "rows": rows, "triplets": cfg.triplets, "lowest": min(r["accuracy"] for r in rows)}


class Mixture:
    """A random mixture of K two-dimensional Gaussians (InfoNet, section 4)."""

    def __init__(self, k: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.weights = rng.dirichlet(np.ones(k))
        self.means = rng.uniform(-5, 5, (k, 2))
        factor = rng.uniform(-3, 3, (k, 2, 2))
        self.covariance = factor @ factor.transpose(0, 2, 1) + 0.01 * np.eye(2)

    def sample(self, n: int) -> np.ndarray:
        label = self.rng.choice(len(self.weights), n, p=self.weights)
        noise = self.rng.standard_normal((n, 2, 1))
        return self.means[label] + (np.linalg.cholesky(self.covariance)[label] @ noise)[..., 0]

    def mi(self, n: int) -> float:
        """By Monte Carlo integration over n samples; in closed form for one component."""
        if len(self.weights) == 1:
            c = self.covariance[0]
            return float(-0.5 * np.log(1 - c[0, 1] ** 2 / (c[0, 0] * c[1, 1])))
        return float(self.log_ratio(self.sample(n)).mean())

    def log_ratio(self, z: np.ndarray) -> np.ndarray:
        """Pointwise MI of samples, ``(n,)``."""
        return self._log_density(z, [0, 1]) - self._log_density(z, [0]) - self._log_density(z, [1])

    def _log_density(self, z: np.ndarray, axes: list[int]) -> np.ndarray:
        block = self.covariance[:, axes][:, :, axes]
        inverse, log_det = np.linalg.inv(block), np.linalg.slogdet(2 * np.pi * block)[1]
        terms = []
        for k, weight in enumerate(self.weights):
            centred = z[:, axes] - self.means[k, axes]
            terms.append(np.log(weight) - 0.5 * (((centred @ inverse[k]) * centred).sum(1) + log_det[k]))
        return logsumexp(terms, axis=0)


def show(result: dict[str, Any]) -> None:
    print(f"\norder accuracy on random mixtures of K Gaussians, n = {SAMPLES}, {result['triplets']} triplets each")
    for row, published in zip(result["rows"], INFONET, strict=True):
        others = f"true log ratio, same samples: {row['oracle']:.1%}; InfoNet: {published} %"
        print(f"  K = {row['k']:2d}: {row['accuracy']:6.1%}   ({others})")
