"""Files of key-state discovery: trajectories that are read, and ``keystates.npz``, which is written and read here alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import replace_file
from infoatlas_rl.records import write_json

Array = NDArray[np.float64]

FORMAT = "infoatlas-keystates-2"


def load_trajectories(path: Path | str) -> tuple[list[str], list[Array]]:
    """Read an ``.npz`` of trajectories: one array ``(t, d)`` each, under any names, or a single array ``(n, t, d)``.

    Returns:
        Names and trajectories, in the order of the file.

    Raises:
        ValueError: no such file, not an NPZ file, or arrays of another shape; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not an .npz file of plain arrays ({error})") from error
    if len(arrays) == 1 and next(iter(arrays.values())).ndim == 3:
        name, stacked = next(iter(arrays.items()))
        return [f"{name}[{index}]" for index in range(len(stacked))], [row.astype(np.float64) for row in stacked]
    for name, array in arrays.items():
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
            raise ValueError(
                f"{path}: {name} has shape {array.shape} and type {array.dtype}; accepted are one array (steps, d) per "
                "trajectory, or a single array (trajectories, steps, d)"
            )
    return list(arrays), [array.astype(np.float64) for array in arrays.values()]


def read_key_states(path: Path | str, seeds: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps ``(n, k)`` and states ``(n, k, 100)`` of the key states of demonstrations, from ``keystates.npz``.

    Raises:
        ValueError: no such file, or not all demonstrations are in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no key states at {path}")
    with np.load(path) as file:
        row_of = {int(seed): row for row, seed in enumerate(file["seed"])}
        missing = [seed for seed in seeds if seed not in row_of]
        if missing:
            raise ValueError(
                f"{path} holds key states of {len(row_of)} demonstrations; {len(missing)} of the {len(seeds)} that are needed "
                f"are not among them (seed {missing[0]}, for one)"
            )
        rows = [row_of[seed] for seed in seeds]
        return file["step"][rows], file["states"][rows]


def write_key_states(
    folder: Path,
    content: dict[str, Any],
    identity: Sequence[dict[str, Any]],
    states: Sequence[Array],
    steps: NDArray[np.int64],
    mi: Array,
    events: Sequence[dict[str, int | None]] | None,
) -> None:
    """Write the key states of N trajectories as ``keystates.json``, for people, and ``keystates.npz``, for programs.

    Args:
        content: what else the JSON says; its ``config`` and ``weights_sha256`` are in both files.
        identity: of every trajectory, ``episode`` and ``seed`` or ``name``.
        states: ``(t_i, d)`` each, from which those at the key states are kept.
        steps, mi: ``(N, K)``, steps of the key states and their MI with the states shortly before, in nats.
        events: ground truth, where it is known.
    """
    rows = zip(identity, states, steps, mi, events or [{}] * len(states), strict=True)
    episodes = [
        {
            **who,
            "length": len(trajectory),
            "key_states": [
                {"concept": k, "step": int(step), "mi": round(float(value), 4)} for k, (step, value) in enumerate(zip(own, found))
            ],
            "events": happened,
        }
        for who, trajectory, own, found, happened in rows
    ]
    write_json(folder / "keystates.json", {"format": FORMAT, **content, "episodes": episodes})
    with replace_file(folder / "keystates.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            episode=np.array([who["episode"] for who in identity]),
            seed=np.array([who.get("seed", -1) for who in identity]),
            concept=np.arange(steps.shape[1]),
            step=steps,
            mi=mi,
            config=json.dumps(content["config"]),
            weights_sha256=content["weights_sha256"] or "",
            states=np.stack([trajectory[own] for trajectory, own in zip(states, steps, strict=True)]),
        )
