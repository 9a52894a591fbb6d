"""Suite ``order``: which of two dependences is stronger? Random mixtures of K two-dimensional Gaussians (InfoNet, Table 3).

Beside the estimate stands an oracle, the mean of the true log ratio over the same samples: what sampling noise leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.distributions import Mixture
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

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


def table(result: dict[str, Any]) -> Table:
    rows = [["**infoatlas-rl**", *(f"**{100 * row['accuracy']:.1f}**" for row in result["rows"])]]
    rows.append(["true log ratio, same samples", *(f"{100 * row['oracle']:.1f}" for row in result["rows"])])
    rows.append(["InfoNet", *(f"{value:.1f}" for value in INFONET)])
    note = f"{result['triplets']} triplets for every K, n = {SAMPLES}."
    return Table(["% right, K =", *(str(row["k"]) for row in result["rows"])], rows, note)
