"""Suite ``consistency``: the error falls as n grows (InfoAtlas, Proposition A.1), on three families; with a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.distributions import student_mi
from infoatlas_rl.tasks.progress import progress_bar

SIZES = (64, 128, 256, 512, 1024, 2048, 5000, 10_000, 20_000, 50_000)
RHO = np.array([0.8, 0.6, 0.4])
LINEAR = -0.5 * float(np.log(1 - RHO**2).sum())

Array = np.ndarray
Sampler = Callable[[int, np.random.Generator], tuple[Array, Array]]


def _gaussian(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x, noise = rng.standard_normal((2, n, 3))
    return x, RHO * x + np.sqrt(1 - RHO**2) * noise


def _student(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    z = rng.standard_normal((n, 4)) / np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    return z[:, :2], z[:, 2:]


def _circle(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """x and y are noisy views of one of four cluster centres on a circle."""
    quadrant = rng.integers(0, 4, n)
    centre = 2 * np.stack([np.cos(np.pi * quadrant / 2), np.sin(np.pi * quadrant / 2)], -1)
    return centre + rng.standard_normal((n, 2)), centre + rng.standard_normal((n, 2))


def _circle_mi() -> float:
    rng = np.random.default_rng(0)
    x, y = _circle(2_000_000, rng)
    centres = 2 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])

    def log_likelihoods(z: Array) -> Array:
        return np.stack([-0.5 * ((z - c) ** 2).sum(1) for c in centres])

    a, b = log_likelihoods(x), log_likelihoods(y)
    lse = np.logaddexp.reduce
    return float((lse(a + b) - lse(a) - lse(b) + np.log(4)).mean())


def run(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    families: dict[str, tuple[Sampler, float]] = {
        "correlated Gaussians, d = 3": (_gaussian, LINEAR),
        "Student-t, 3 degrees of freedom, d = 2": (_student, student_mi(2, 2, 3)),
        "four clusters, d = 2": (_circle, _circle_mi()),
    }
    rows = {name: {"truth": round(mi, 4), "error": [], "error_bound": []} for name, (_, mi) in families.items()}
    with progress_bar("consistency", len(families) * len(SIZES)) as bar:
        for number, (name, (sampler, mi)) in enumerate(families.items()):
            for step, n in enumerate(SIZES):
                found = [model.estimate(*sampler(n, np.random.default_rng(seed))) for seed in range(cfg.seeds)]
                for key, values in (("error", [r.mi for r in found]), ("error_bound", [r.bound for r in found])):
                    rows[name][key].append(round(float(np.mean(np.abs(np.array(values) - mi))), 4))
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


def show(result: dict[str, Any]) -> None:
    print(f"\nmean absolute error in nats, {len(result['seeds'])} seeds")
    print("  n".ljust(42) + "".join(f"{n:8d}" for n in result["sizes"]))
    for name, row in result["families"].items():
        for label, key in ((name, "error"), ("  its bound", "error_bound")):
            print(f"  {label}".ljust(42) + "".join(f"{e:8.3f}" for e in row[key]))
