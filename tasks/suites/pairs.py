"""Suite ``pairs``: all pairs of the columns of a table, in one process and in several."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from infoatlas_rl import pairwise_mi
from infoatlas_rl.tables import Table

COLUMNS = 20
SIZES = (500, 1000, 2000)
PROCESSES = (1, 2)
ASKED = 4950
"""Pairs of 100 columns."""


def run(cfg: DictConfig) -> dict[str, Any]:
    rates: dict[str, dict[str, float]] = {str(n): {} for n in SIZES}
    for processes in PROCESSES:
        # One thread in each.
        with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            for n in SIZES:
                data = _columns(n)
                few = {name: data[name] for name in list(data)[: 8 * processes]}
                pairwise_mi(few, weights=cfg.weights, map=pool.map)  # processes start, and read the weights
                began = time.perf_counter()
                pairwise_mi(data, weights=cfg.weights, map=pool.map)
                rates[str(n)][str(processes)] = round(COLUMNS * (COLUMNS - 1) / 2 / (time.perf_counter() - began), 1)
    return {"suite": "pairs", "columns": COLUMNS, "pairs_per_second": rates}


def _columns(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    common = rng.normal(size=n)
    return {f"c{i}": common + rng.normal(size=n) for i in range(COLUMNS)}


def table(result: dict[str, Any]) -> Table:
    rows = []
    for n, rates in result["pairs_per_second"].items():
        rows.append([n, *(f"{rate:.1f}" for rate in rates.values()), f"{ASKED / max(rates.values()):.0f} s"])
    processes = next(iter(result["pairs_per_second"].values()))
    heads = [f"pairs per second, {count} process{'' if count == '1' else 'es'}" for count in processes]
    return Table(
        ["n", *heads, "100 columns take"], rows, f"`pairwise_mi` of {result['columns']} columns, one thread in a process."
    )
