"""Suite ``gradient``: gradients of the loss against the analytic ones of correlated Gaussians."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.tables import Table


def run(cfg: DictConfig) -> dict[str, Any]:
    """dI/da of y_i = a_i x_i + sqrt(1 - a_i^2) e_i, where I = -1/2 sum log(1 - a_i^2) and dI/da_i = a_i / (1 - a_i^2)."""
    loss = InfoAtlasLoss(slices=None, gradient="envelope", weights=cfg.weights)
    cells = []
    for n in (100, 1000):
        for d in (2, 5):
            correlation = torch.linspace(0.3, 0.8, d)
            gradients = []
            for seed in range(cfg.seeds):
                x, noise = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed))
                a = correlation.clone().requires_grad_()
                (-loss(x, a * x + (1 - a**2).sqrt() * noise)).backward()
                gradients.append(a.grad)
            found, truth = torch.stack(gradients), correlation / (1 - correlation**2)
            cosine = torch.cosine_similarity(found, truth.expand_as(found), dim=-1)
            size = found.norm(dim=-1).mean() / truth.norm()
            cells.append({"n": n, "d": d, "cosine": round(float(cosine.mean()), 4), "size": round(float(size), 4)})
    return {"suite": "gradient", "cells": cells, "seeds": list(range(cfg.seeds))}


def table(result: dict[str, Any]) -> Table:
    rows = [[str(c["n"]), str(c["d"]), f"{c['cosine']:.3f}", f"{c['size']:.2f}"] for c in result["cells"]]
    return Table(["n", "d", "cosine", "size / truth"], rows)
