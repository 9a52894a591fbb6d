"""Suite ``segmentation``: which points are on the body of a reference point? The InfoAtlas paper's Figure 5, on demonstrations.

Points on the links of the robot and on the object are tracked through one demonstration of every task with a 100-D state; MI of
the track ``(t, 3)`` of a reference point and that of every other point is the score, the body its truth. Once as the simulator
has the tracks, and once as a tracker sees them. Beside the estimators stands what needs no MI: the distance of two points of a
rigid body does not change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.baselines import MINELoss
from infoatlas_rl.baselines.classical import gaussian_copula, ksg
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.points import body_points, point_tracks
from infoatlas_rl.maniskill.tasks import TASKS
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.ranking import average_precision, roc_auc

Array = NDArray[np.float64]
Scores = Callable[[Array, Array], dict[str, Array]]
"""Tracks ``(t, 3)`` of the reference point and ``(p, t, 3)`` of others to scores ``(p,)`` by name."""

POINTS = 40
"""On every body."""
REFERENCES = ("link4", "hand")
"""Bodies with a reference point, beside the object: its first point."""
NOISE = (0.0, 0.005)
"""Standard deviation of a tracker's error in m."""
MINE_STEPS, MINE_EVERY = 100, 10
"""MINE trains a critic for every pair, and has every tenth point."""
BATCH = 64
OURS, BOUND, MINE = "InfoAtlas", "its bound", f"MINE-{MINE_STEPS}"


class Motion(NamedTuple):
    """One recording: its name, the tracks ``(t, p, 3)`` in m of the points of every body, and bodies with a reference point."""

    name: str
    tracks: dict[str, Array]
    references: tuple[str, ...]


def run(cfg: DictConfig) -> dict[str, Any]:
    return compare(cfg, "segmentation", list(_demonstrations(cfg)), shown=len(TASKS))


def compare(cfg: DictConfig, suite: str, motions: list[Motion], shown: int) -> dict[str, Any]:
    """All estimators on all motions, as they are and with noise; the first ``shown`` are drawn."""
    scores = _scores(InfoAtlas.from_pretrained(cfg.weights))
    cells: list[dict[str, Any]] = []
    drawn: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {}
    jobs = [(motion, noise) for motion in motions for noise in NOISE]
    with progress_bar(suite, len(jobs)) as bar:
        for done, (motion, noise) in enumerate(jobs, start=1):
            rng = np.random.default_rng(0)
            tracks = {body: track + noise * rng.standard_normal(track.shape) for body, track in motion.tracks.items()}
            found, maps = _cells(scores, tracks, motion.references)
            length = next(iter(tracks.values())).shape[0]
            cells += [{"env": motion.name, "noise": noise, "n": length, **cell} for cell in found]
            if noise == NOISE[0] and len(drawn) < shown:
                drawn[motion.name] = tracks, maps
            bar(done, f"{motion.name}, noise {noise}")
    if cfg.picture:
        draw(drawn, Path(cfg.picture))
    about = {"points": POINTS, "mine_steps": MINE_STEPS, "mine_every": MINE_EVERY}
    return {"suite": suite, "cells": cells, **about}


def _demonstrations(cfg: DictConfig) -> Iterator[Motion]:
    for task in TASKS.values():
        path = Path(cfg.paths.demos) / task.env_id / "motionplanning" / "trajectory.h5"
        (demo,) = load_demonstrations(path, task, count=1)
        yield Motion(task.name, point_tracks(demo, body_points(demo, task, POINTS)), (*REFERENCES, str(task.object)))


def _scores(model: InfoAtlas) -> dict[str, Scores]:
    def ours(x: Array, y: Array) -> dict[str, Array]:
        found = model.estimate(x, y)
        return {OURS: found.mi, BOUND: found.bound}

    def mine(x: Array, y: Array) -> dict[str, Array]:
        x, y = (torch.as_tensor(side, dtype=torch.float32) for side in (x, y))
        return {MINE: MINELoss(MINE_STEPS).mi(x, y).detach().numpy()}

    def distance(x: Array, y: Array) -> dict[str, Array]:
        return {"constant distance (no MI)": -np.linalg.norm(x - y, axis=-1).std(1)}

    return {OURS: _batched(ours), "KSG": _single("KSG", ksg), "copula": _single("Gaussian copula", gaussian_copula)} | {
        MINE: _batched(mine),
        "distance": distance,
    }


def _batched(estimate: Callable[[Array, Array], dict[str, Array]]) -> Scores:
    def of(reference: Array, others: Array) -> dict[str, Array]:
        parts = np.array_split(others, math.ceil(len(others) / BATCH))
        found = [estimate(np.repeat(reference[None], len(part), 0), part) for part in parts]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    return of


def _single(name: str, estimate: Callable[[Array, Array], float]) -> Scores:
    return lambda reference, others: {name: np.array([estimate(reference, other) for other in others])}


def _cells(
    scores: dict[str, Scores], tracks: dict[str, Array], references: tuple[str, ...]
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """A cell for every reference body and estimator; the bound at all points by reference body, for the picture."""
    bodies = np.repeat(list(tracks), POINTS)
    points = np.concatenate(list(tracks.values()), axis=1).transpose(1, 0, 2)
    cells, maps = [], {}
    for body in references:
        first = int(np.flatnonzero(bodies == body)[0])
        others = np.delete(np.arange(len(points)), first)
        for kind, score in scores.items():
            asked = others[::MINE_EVERY] if kind == MINE else others
            began = time.process_time()
            named = score(points[first], points[asked])
            seconds = time.process_time() - began
            same = bodies[asked] == body
            for name, found in named.items():
                figures = {"roc_auc": roc_auc(found[~same], found[same]), "auc_pr": average_precision(found[~same], found[same])}
                cells.append({"body": body, "estimator": name} | {key: round(value, 4) for key, value in figures.items()})
                cells[-1] |= {"seconds_per_1000": round(1000 * seconds / len(asked), 3), "pairs": len(asked)}
                if name == BOUND:
                    maps[body] = np.insert(found, first, np.nan)
    return cells, maps


def draw(shown: dict[str, tuple[dict[str, Array], dict[str, Array]]], path: Path) -> None:
    """Points in the middle of the demonstration, coloured by the bound on their MI with the starred one."""
    from matplotlib.figure import Figure

    most = max(len(maps) for _, maps in shown.values())
    figure = Figure(figsize=(3.6 * most, 3.1 * len(shown)), layout="constrained")
    for row, (env, (tracks, maps)) in enumerate(shown.items()):
        points = np.concatenate(list(tracks.values()), axis=1)
        place = points[len(points) // 2]
        for column, (body, values) in enumerate(maps.items()):
            axes = figure.add_subplot(len(shown), most, row * most + column + 1, projection="3d")
            first = int(np.flatnonzero(np.isnan(values))[0])
            drawn = axes.scatter(*np.delete(place, first, 0).T, c=np.delete(values, first), s=7, cmap="viridis", depthshade=False)
            axes.scatter(*place[first], marker="*", s=130, color="red", depthshade=False)
            axes.set_title(f"{env}: MI with a point of {body}", fontsize=9)
            axes.set_box_aspect(np.ptp(place, axis=0), zoom=1.3)
            axes.view_init(elev=18, azim=-60)
            axes.set_axis_off()
            figure.colorbar(drawn, ax=axes, shrink=0.6, label="nats")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def table(result: dict[str, Any]) -> Table:
    cells = result["cells"]
    rows = []
    for name in dict.fromkeys(cell["estimator"] for cell in cells):
        row = []
        for noise in NOISE:
            some = [cell for cell in cells if (cell["estimator"], cell["noise"]) == (name, noise)]
            row += [f"{np.mean([cell[key] for cell in some]):.3f}" for key in ("roc_auc", "auc_pr")]
        seconds = np.mean([cell["seconds_per_1000"] for cell in cells if cell["estimator"] == name])
        rows.append([name, *row, f"{seconds:.2g} s"])
    envs = dict.fromkeys((cell["env"], cell["n"]) for cell in cells)
    pairs = [cell["pairs"] for cell in cells if (cell["estimator"], cell["noise"]) == (OURS, NOISE[0])]
    bodies = (pairs[0] + 1) // result["points"]
    header = ["score", "ROC AUC", "AUC-PR", f"ROC AUC, {1000 * NOISE[1]:.0f} mm noise", "AUC-PR", "CPU time of 1000 pairs"]
    note = (
        f"{', '.join(f'{env} ({n} steps)' for env, n in envs)}; {result['points']} points on each of {bodies} bodies, "
        f"three reference points in each, {sum(pairs)} pairs; MINE, {result['mine_steps']} steps, has every "
        f"{result['mine_every']}th point. Means over all references."
    )
    return Table(header, rows, note)
