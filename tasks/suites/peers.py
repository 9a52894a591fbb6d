"""Suite ``peers``: every estimator that could be used instead, on the same data in one run: error against time.

All forty tasks of the BMI benchmark (Czyz et al., NeurIPS 2023) with many and with few samples, and all thirty of the suite
``families``.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl.baselines.classical import TooFewSamplesError
from infoatlas_rl.baselines.estimators import NETWORKS, Estimator, WithInterval, peers
from infoatlas_rl.distributions import BMI_40, BenchmarkTask, varied_tasks
from infoatlas_rl.records import write_json
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

FEW = 500, 100
"""Samples of the groups after the first."""
FAMILY_SAMPLES = 1000
OURS = "InfoAtlas"
FEWER_SEEDS = dict.fromkeys(("MINE", "NWJ", "SMILE", "KNIFE", "MINDE", "InfoNCE"), 1)
"""What is trained for every data set takes most of the time."""


def run(cfg: DictConfig) -> dict[str, Any]:
    groups = [*(("BMI", n, BMI_40) for n in (cfg.n, *FEW)), ("families", FAMILY_SAMPLES, varied_tasks())]
    found, estimators = [], [peers(cfg.steps, weights=cfg.weights, seed=seed, mist=cfg.mist_weights) for seed in range(cfg.seeds)]
    with progress_bar("peers", sum(len(tasks) for *_, tasks in groups) * cfg.seeds) as bar:
        done = 0
        for name, n, tasks in groups:
            values: dict[str, dict[str, list[float]]] = {}
            seconds: dict[str, list[float]] = {}
            intervals: dict[str, list[tuple[str, list[float]]]] = {}
            for task in tasks:
                for seed in range(cfg.seeds):
                    for estimator, (value, time_, *interval) in _part(cfg, task, n, seed, estimators[seed]).items():
                        values.setdefault(estimator, {}).setdefault(task.name, []).append(value)
                        seconds.setdefault(estimator, []).append(time_)
                        if interval:
                            intervals.setdefault(estimator, []).append((task.name, interval))
                    done += 1
                    bar(done, f"{task.name}, n = {n}")
            truth = {task.name: round(task.mi, 4) for task in tasks}
            found.append({"name": name, "n": n, "truth": truth, "estimators": _figures(truth, values, seconds, intervals)})
    settings = {p.name: {"parameters": p.parameters(5, 5), **p.settings} for p in estimators[0]}
    result = {"suite": "peers", "groups": found, "settings": settings, "steps": cfg.steps, "seeds": list(range(cfg.seeds))}
    if cfg.picture:
        draw(result, Path(cfg.picture))
    return result


def _part(cfg: DictConfig, task: BenchmarkTask, n: int, seed: int, estimators: list[Estimator]) -> dict[str, list[float]]:
    """Estimate, CPU seconds and the ends of an interval by estimator, of one data set; from the folder of the run where they are
    there already. What has other weights is estimated again."""
    path = Path(cfg.run) / f"{re.sub(r'[^A-Za-z0-9.]+', '-', task.name)}-{n}-{seed}.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    weights = {p.name: p.settings["sha256"] for p in estimators if "sha256" in p.settings}
    found, before = content.get("found", {}) if content.get("steps") == cfg.steps else {}, content.get("weights", {})
    found = {name: figures for name, figures in found.items() if before.get(name) == weights.get(name)}
    estimators = [p for p in estimators if seed < FEWER_SEEDS.get(p.name, seed + 1)]
    if missing := [estimator for estimator in estimators if estimator.name not in found]:
        found |= _measure(task, n, seed, missing)
        found = {estimator.name: found[estimator.name] for estimator in estimators}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"steps": cfg.steps, "weights": weights, "found": found})
    return found


def _measure(task: BenchmarkTask, n: int, seed: int, estimators: list[Estimator]) -> dict[str, list[float]]:
    (x, y), found = task.sample(n, seed), {}
    for estimator in estimators:
        if estimator.name in NETWORKS:
            estimator(x[:100], y[:100])  # the first call of a network is slower
        began, interval = time.process_time(), ()
        try:
            if isinstance(estimator, WithInterval):
                *_, value, _ = interval = estimator.quantiles(x, y)
            else:
                value = estimator(x, y)
        except TooFewSamplesError:
            value = 0.0
        found[estimator.name] = [round(max(value, 0.0), 4), time.process_time() - began, *interval[::2]]
    return found


def _figures(truth: dict[str, float], values: dict, seconds: dict[str, list[float]], intervals: dict) -> dict[str, Any]:
    """Errors over all single estimates, the median time, and how often an interval holds the truth."""
    figures = {}
    for name, by_task in values.items():
        errors = [abs(value - truth[task]) for task, several in by_task.items() for value in several]
        figures[name] = {
            "mae": round(float(np.mean(errors)), 4),
            "worst": round(float(np.max(errors)), 4),
            "seconds": round(float(np.median(seconds[name])), 4),
            "estimates": by_task,
        }
        if name in intervals:
            held = [low <= truth[task] <= high for task, (low, high) in intervals[name]]
            figures[name]["covered"] = round(float(np.mean(held)), 4)
    return figures


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.4), layout="constrained")
    grid = figure.subplots(2, (len(result["groups"]) + 1) // 2, sharey=True)
    labels = []
    for axes, group in zip(grid.flat, result["groups"], strict=False):
        for names, seconds, error in _places(group["estimators"]):
            ours = names == [OURS]
            axes.loglog(seconds, error, "*" if ours else "o", ms=13 if ours else 6, color="C3" if ours else "C0")
            labels.append(axes.annotate(", ".join(names), (seconds, error), (0, 0), textcoords="offset points", fontsize=8))
        axes.set(xlabel="CPU seconds of an estimate", title=f"{group['name']}, n = {group['n']}")
        axes.margins(x=0.35, y=0.15)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("mean absolute error (nats)")
    _spread_out(figure, labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _spread_out(figure: Any, labels: list[Any]) -> None:
    """Move every annotation of a matplotlib figure to where it covers no point and no label before it."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # lays out the axes
    points = [label.axes.transData.transform(label.xy) for label in labels]
    taken = [Bbox.from_extents(*(point - 6), *(point + 6)) for point in points]
    for label in labels:
        for offset in ((7, 5), (7, -12), (-7, 5), (-7, -12)):
            label.set(position=offset, ha="left" if offset[0] > 0 else "right")
            extent = label.get_window_extent()
            if extent.count_overlaps(taken) == 0:
                break
        taken.append(extent)


def _places(estimators: dict[str, Any]) -> list[tuple[list[str], float, float]]:
    """Names, time and error by time; estimators that would lie on each other have one place."""
    places: list[tuple[list[str], float, float]] = []
    for name, row in sorted(estimators.items(), key=lambda item: item[1]["seconds"]):
        near = [p for p in places if max(abs(np.log(p[1] / row["seconds"])), abs(np.log(p[2] / row["mae"]))) < 0.15]
        if near:
            near[0][0].append(name)
        else:
            places.append(([name], row["seconds"], row["mae"]))
    return places


def table(result: dict[str, Any]) -> Table:
    rows = []
    for name, settings in result["settings"].items():
        cells = [f"{settings['parameters']:,}" if settings["parameters"] else ""]
        for group in result["groups"]:
            row = group["estimators"][name]
            cells += [f"{row['mae']:.3f} ({row['worst']:.2f})", duration(row["seconds"])]
        rows.append([name, *cells] if name != OURS else [f"**{name}**", *(f"**{cell}**" for cell in cells)])
    header = ["estimator", "parameters"]
    for group in result["groups"]:
        header += [f"{group['name']}, n = {group['n']}: error", "time"]
    note = (
        f"Mean absolute error over all estimates in nats, in brackets the largest; {len(result['seeds'])} seeds, one of what is "
        f"trained for every data set. Median CPU time of an estimate; {result['steps']} steps of what is trained. Values below 0 "
        "count as 0, and so do kernel densities of no fewer columns than samples. Parameters for d = 5. "
        f"{_ratios(result)}{_covered(result)}"
    )
    return Table(header, rows, note)


def _ratios(result: dict[str, Any]) -> str:
    """How many times slower the others are, and our error as a share of theirs."""
    parts = []
    for group in result["groups"]:
        ours = group["estimators"][OURS]
        against = [
            f"{name} {row['seconds'] / ours['seconds']:.2g} and {ours['mae'] / row['mae']:.2f}"
            for name, row in group["estimators"].items()
            if name in ("KSG", "MINE", "InfoNCE")
        ]
        parts.append(f"{group['name']}, n = {group['n']}: {', '.join(against)}")
    return f"Time as a multiple of ours, and our error as a share of theirs: {'; '.join(parts)}."


def _covered(result: dict[str, Any]) -> str:
    """How often 90 % intervals hold the truth, of those that say one."""
    groups = result["groups"]
    named = [name for name, row in groups[0]["estimators"].items() if "covered" in row]
    shares = {name: [f"{group['estimators'][name]['covered']:.0%}" for group in groups] for name in named}
    parts = [f"{name} {', '.join(row)}" for name, row in shares.items()]
    return "" if not parts else f" A 90 % interval holds the truth: {'; '.join(parts)}."


def task_table(result: dict[str, Any]) -> Table:
    """Mean estimates of the first group, task by task, bold within a tenth of the truth or 0.05 nats."""
    group = result["groups"][0]
    rows = []
    for task, truth in group["truth"].items():
        means = [float(np.mean(row["estimates"][task])) for row in group["estimators"].values()]
        near = max(0.05, truth / 10)
        rows.append([task, f"{truth:.2f}", *(f"**{m:.2f}**" if abs(m - truth) <= near else f"{m:.2f}" for m in means)])
    note = f"Nats, n = {group['n']}, mean of the seeds. Bold: within 0.05 nats of the truth, or a tenth of it."
    return Table(["task", "truth", *group["estimators"]], rows, note)


def duration(seconds: float) -> str:
    """Seconds or milliseconds, as tables show them."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
