"""Suite ``sizes``: time and memory of an estimate against the number of samples, for every peer, the poster's table.

Every estimate runs in a process of its own, on one thread, so that the peak of memory is its own.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from infoatlas_rl.baselines.estimators import NETWORKS, peers
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.peers import duration

SIZES = (1000, 2000, 5000, 10_000, 20_000, 50_000)
COLUMNS, CORRELATION = 5, 0.6
LONGEST = 60.0
"""Seconds; an estimator that took longer, or for which memory did not suffice, is not tried with more samples."""
MOST_MEMORY = 4 * 2**30


def run(cfg: DictConfig) -> dict[str, Any]:
    names = [peer.name for peer in peers(cfg.steps, weights=cfg.weights)]
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    context, done = get_context("spawn"), 0
    with progress_bar("sizes", len(names) * len(SIZES)) as bar:
        for name in names:
            for n in SIZES:
                before = list(found[name].values())
                if not before or (before[-1] is not None and before[-1]["seconds"] < LONGEST):
                    with ProcessPoolExecutor(1, context) as pool:
                        try:
                            found[name][str(n)] = pool.submit(_measure, name, n, cfg.steps, cfg.weights).result()
                        except BrokenProcessPool:  # libraries that cannot allocate end the process
                            found[name][str(n)] = None
                done += 1
                bar(done, f"{name}, n = {n}")
    truth = -COLUMNS / 2 * np.log(1 - CORRELATION**2)
    result = {"suite": "sizes", "steps": cfg.steps, "columns": COLUMNS, "truth": round(float(truth), 4), "estimators": found}
    if cfg.picture:
        draw(result, Path(cfg.picture))
    return result


def _measure(name: str, n: int, steps: int, weights: str) -> dict[str, float] | None:
    """Of an estimator; None where memory did not suffice. Limits the memory of the process that it runs in."""
    torch.set_num_threads(1)
    (estimator,) = (peer for peer in peers(steps, weights=weights) if peer.name == name)
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=(2, n, COLUMNS))
    y = CORRELATION * x + np.sqrt(1 - CORRELATION**2) * e
    if estimator.name in NETWORKS:
        estimator(x[:100], y[:100])  # the first call of a network is slower
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    before, began = _peak(reset=True), time.process_time()
    try:
        value = estimator(x, y)
    except (MemoryError, RuntimeError) as error:
        if "alloc" in str(error) or isinstance(error, MemoryError):
            return None
        raise
    return {"seconds": round(time.process_time() - began, 4), "megabytes": round(_peak() - before), "mi": round(value, 4)}


def _peak(*, reset: bool = False) -> float:
    """Most resident memory of this process in MB; since the last reset. Linux alone says so (proc(5), clear_refs)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, kind, label in zip(
        figure.subplots(1, 2), ("seconds", "megabytes"), ("CPU seconds", "MB beside the data"), strict=True
    ):
        for name, by_size in result["estimators"].items():
            points = [(int(n), max(entry[kind], 1e-3)) for n, entry in by_size.items() if entry is not None]
            style = {"color": "black", "lw": 2.5, "zorder": 3} if name == "InfoAtlas" else {"lw": 1}
            axes.loglog(*zip(*points, strict=True), "o-", ms=4, label=name, **style)
        axes.set(xlabel="samples", ylabel=label)
        axes.grid(alpha=0.3)
    figure.axes[1].set_ylim(bottom=1)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def table(result: dict[str, Any]) -> Table:
    rows = []
    for name, by_size in result["estimators"].items():
        cells = [_cell(by_size, str(n)) for n in SIZES]
        rows.append([name, *cells] if name != "InfoAtlas" else [f"**{name}**", *(f"**{cell}**" for cell in cells)])
    limits = f"Empty: more than {LONGEST:.0f} s with fewer samples; memory: more than {MOST_MEMORY / 2**30:.0f} GB."
    note = (
        f"CPU time of an estimate on one thread, and what the peak of memory grew by. d = {result['columns']}, Gaussian; "
        f"{result['steps']} steps of what is trained. {limits}"
    )
    return Table(["estimator", *(f"n = {n:,}" for n in SIZES)], rows, note)


def _cell(by_size: dict[str, Any], n: str) -> str:
    if n not in by_size:
        return ""
    entry = by_size[n]
    if entry is None:
        return "memory"
    return f"{duration(entry['seconds'])}, {entry['megabytes']} MB"
