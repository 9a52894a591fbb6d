"""The same paths at another pace: demonstrations without stops, to see what discovery owes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.keystates.trajectories import column_scales, interpolate

Array = NDArray[np.float64]


def retime(
    trajectories: Sequence[Array], events: Sequence[Mapping[str, int | None]], seed: int = 0, variation: float = 0.4
) -> tuple[list[Array], list[dict[str, int | None]], list[Array]]:
    """Re-time trajectories to a smooth speed that never vanishes, and move their events along; also, for every new step, which
    of the old steps, or what between two, it shows.

    Speed is measured along the path of the standardised states. It varies slowly around its mean, by ``variation`` (standard
    deviation of its logarithm), differently in every trajectory, and has nothing to do with the task; the number of steps
    stays.
    """
    rng = np.random.default_rng(seed)
    _, scale = column_scales(trajectories)
    new, moved, shown = [], [], []
    for trajectory, happened in zip(trajectories, events, strict=True):
        path = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(trajectory / scale, axis=0), axis=1) + 1e-6)])
        grid = np.linspace(0, 1, 200)
        waves = sum(rng.standard_normal() * np.cos(np.pi * k * grid + rng.uniform(0, 2 * np.pi)) / np.sqrt(3) for k in (1, 2, 3))
        slowness = np.exp(-variation * waves)
        clock = np.concatenate([[0.0], np.cumsum((slowness[1:] + slowness[:-1]) / 2)])
        # Time at which the path has got so far, in steps; and back.
        last = len(trajectory) - 1
        time = last * np.interp(path / path[-1], grid, clock / clock[-1])
        old = np.interp(np.arange(last + 1), time, np.arange(last + 1))
        new.append(interpolate(trajectory, old))
        shown.append(old)
        moved.append({name: None if step is None else round(float(time[step])) for name, step in happened.items()})
    return new, moved, shown
