"""Suite ``consistency``: the error falls as n grows (InfoAtlas, Proposition A.1), on three families; with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.distributions import THREE_FAMILIES
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

SIZES = (64, 128, 256, 512, 1024, 2048, 5000, 10_000, 20_000, 50_000)


def run(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    rows = {name: {"truth": round(mi(), 4), "error": [], "error_bound": []} for name, (_, mi) in THREE_FAMILIES.items()}
    with progress_bar("consistency", len(THREE_FAMILIES) * len(SIZES)) as bar:
        for number, (name, (sampler, mi)) in enumerate(THREE_FAMILIES.items()):
            for step, n in enumerate(SIZES):
                found = [model.estimate(*sampler(n, np.random.default_rng(seed))) for seed in range(cfg.seeds)]
                for key, values in (("error", [r.mi for r in found]), ("error_bound", [r.bound for r in found])):
                    rows[name][key].append(round(float(np.mean(np.abs(np.array(values) - mi()))), 4))
                bar(number * len(SIZES) + step + 1, f"{name}, n = {n}")
    result = {"suite": "consistency", "sizes": list(SIZES), "families": rows, "seeds": list(range(cfg.seeds))}
    if cfg.picture:
        draw(result, Path(cfg.picture))
    return result


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, row in result["families"].items():
        (line,) = axes.loglog(result["sizes"], row["error"], "o-", label=f"{name} (MI {row['truth']:.2f})")
        axes.loglog(result["sizes"], row["error_bound"], ".--", color=line.get_color(), lw=1)
    axes.plot([], [], "k.--", lw=1, label="the bound")
    axes.loglog(result["sizes"], [1.0 / n**0.5 for n in result["sizes"]], "k:", label="$n^{-1/2}$")
    axes.set(xlabel="samples n", ylabel="mean absolute error (nats)")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def table(result: dict[str, Any]) -> Table:
    rows = []
    for name, row in result["families"].items():
        rows.append([f"{name} (MI {row['truth']:.2f})", *(f"{value:.3f}" for value in row["error"])])
        rows.append(["its bound", *(f"{value:.3f}" for value in row["error_bound"])])
    header = ["mean absolute error (nats), n =", *(str(n) for n in result["sizes"])]
    return Table(header, rows, f"{len(result['seeds'])} seeds.")
