"""Suite ``time``: seconds of the loss and of estimates, beside KSG's, and peak memory at n = 50 000."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas, InfoAtlasLoss
from infoatlas_rl.baselines.classical import ksg
from infoatlas_rl.tables import Table

SIZES = (1000, 5000, 50_000)


def run(cfg: DictConfig) -> dict[str, Any]:
    loss, model = InfoAtlasLoss(weights=cfg.weights), InfoAtlas.from_pretrained(cfg.weights)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 100, generator=generator).requires_grad_()
    y = 0.7 * x.detach() + torch.randn(100, 100, generator=generator)
    # Its value is computed once in sixteen calls: the mean counts.
    seconds = {"loss": _seconds(lambda: loss(x, y).backward(), 64, warm=32)}
    for n in SIZES:
        a, b = torch.randn(2, n, 5, generator=generator)
        b = a + b
        seconds[f"estimate_{n}"] = _median_seconds(lambda a=a, b=b: model.estimate(a, b), 15)
        pair = a.double().numpy(), b.double().numpy()
        seconds[f"ksg_{n}"] = _median_seconds(lambda pair=pair: ksg(*pair), 3 if n <= 5000 else 1, warm=0)
    return {
        "suite": "time",
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "peak_memory_mb": {str(n): _peak_memory(cfg.weights, n) for n in (1000, 50_000)},
    }


def _median_seconds(call: Callable[[], object], repeats: int, warm: int = 3) -> float:
    return float(np.median(_times(call, repeats, warm)))


def _seconds(call: Callable[[], object], repeats: int, warm: int) -> float:
    return float(np.mean(_times(call, repeats, warm)))


def _times(call: Callable[[], object], repeats: int, warm: int) -> list[float]:
    for _ in range(warm):
        call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _peak_memory(weights: str, n: int) -> int:
    """Peak resident memory in MB of a fresh process that estimates once, imports included."""
    code = (
        f"import torch, infoatlas_rl as i; torch.manual_seed(0); a, b = torch.randn(2, {n}, 5); "
        f"i.InfoAtlas.from_pretrained({weights!r}).estimate(a, a + b); "
        # Not ru_maxrss: it is handed down from the process that starts this one.
        "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def table(result: dict[str, Any]) -> Table:
    seconds, memory = result["seconds"], result["peak_memory_mb"]
    loss = "`InfoAtlasLoss`, forward and backward, n = 100, d = 100, 25 slices"
    rows = [[loss, f"{1000 * seconds['loss']:.0f} ms", "", ""]]
    for name, value in seconds.items():
        if name.startswith("estimate_"):
            n = name.removeprefix("estimate_")
            peak = f"{memory[n]} MB" if n in memory else ""
            rows.append([f"`estimate`, d = 5, n = {n}", f"{1000 * value:.0f} ms", f"{1000 * seconds[f'ksg_{n}']:.0f} ms", peak])
    note = "Medians; of the loss, whose value is computed once in 16 calls, the mean."
    return Table(["call", "time", "KSG (k-d trees)", "peak memory of the process"], rows, note)
