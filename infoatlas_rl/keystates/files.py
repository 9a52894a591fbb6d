"""Files of key-state discovery: trajectories that are read, and ``keystates.npz``, which is written and read here alone."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import one_line, replace_file
from infoatlas_rl.records import write_json

Array = NDArray[np.float64]

FORMAT = "infoatlas-keystates-3"

_ACCEPTED = "accepted are one array of numbers (steps, d) per trajectory, or a single array (trajectories, steps, d)"
_DISCOVER = "make it again with: python tasks/discover_keystates.py"


def load_trajectories(path: Path | str) -> tuple[list[str], list[Array]]:
    """Read an ``.npz`` of trajectories: one array ``(t, d)`` each, under any names, or a single array ``(n, t, d)``.

    Returns:
        Names and trajectories, in the order of the file.

    Raises:
        ValueError: no such file, a damaged one, not an NPZ file, or arrays of another shape; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    arrays = _read_arrays(path, f"write it with numpy.savez; {_ACCEPTED}")
    for name, array in arrays.items():
        if array.ndim not in ((2, 3) if len(arrays) == 1 else (2,)) or array.dtype.kind not in "iuf":
            raise ValueError(f"{path}: {name} has shape {array.shape} and type {array.dtype}; {_ACCEPTED}")
    names, several = list(arrays), list(arrays.values())
    if several[0].ndim == 3:
        names, several = [f"{names[0]}[{index}]" for index in range(len(several[0]))], list(several[0])
    return names, [array.astype(np.float64) for array in several]


def read_key_states(path: Path | str, seeds: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps ``(n, k)`` and states ``(n, k, 100)`` of the key states of demonstrations, from ``keystates.npz``; several of one
    seed are taken in the order of the file.

    Raises:
        ValueError: no such file, a damaged one, or not all demonstrations are in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no key states at {path}; {_DISCOVER}")
    arrays = _read_arrays(path, _DISCOVER)
    expected = {"seed": ("iu", 1), "step": ("iu", 2), "states": ("f", 3)}
    if missing := [name for name in expected if name not in arrays]:
        raise ValueError(f"{path}: no array {missing[0]!r} among {', '.join(arrays)}, so not key states; {_DISCOVER}")
    for name, (kinds, dimensions) in expected.items():
        array = arrays[name]
        if (
            array.dtype.kind not in kinds
            or array.ndim != dimensions
            or array.shape[:2] != arrays["step"].shape[: min(2, dimensions)]
        ):
            raise ValueError(
                f"{path}: {name} has shape {array.shape} and type {array.dtype}; for n demonstrations of k key states there are "
                f"whole numbers seed (n) and step (n, k), and states (n, k, d); {_DISCOVER}"
            )
    if arrays["step"].size and arrays["step"].min() < 0:
        raise ValueError(f"{path}: step {arrays['step'].min()} of a key state is before the beginning; {_DISCOVER}")
    rows_of: dict[int, list[int]] = {}
    for row, seed in enumerate(arrays["seed"]):
        rows_of.setdefault(int(seed), []).append(row)
    rows = [rows_of[seed].pop(0) if rows_of.get(seed) else -1 for seed in seeds]
    if absent := [seed for seed, row in zip(seeds, rows, strict=True) if row < 0]:
        raise ValueError(
            f"{path} holds key states of {len(arrays['seed'])} demonstrations; {len(absent)} of the {len(seeds)} that are needed "
            f"are not among them (seed {absent[0]}, for one)"
        )
    return arrays["step"][rows], arrays["states"][rows]


def weights_of_key_states(path: Path | str) -> str | None:
    """SHA-256 of the InfoAtlas weights that the key states of a file were found with; None where it was not asked.

    Raises:
        ValueError: no such file, or one that is damaged or does not say.
    """
    arrays = _read_arrays(Path(path), _DISCOVER)
    if "weights_sha256" not in arrays:
        raise ValueError(f"{path}: it does not say with which weights its key states were found; {_DISCOVER}")
    return str(arrays["weights_sha256"]) or None


def _read_arrays(path: Path, remedy: str) -> dict[str, NDArray]:
    """All arrays of an NPZ file, which is read with its checksums: ``numpy.load`` gives wrong numbers for some flipped bits."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if foreign := [name for name in names if not name.endswith(".npy")]:
                raise ValueError(f"it holds {foreign[0]!r}, which is no array")
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
                for name in names
            }
        if not arrays:
            raise ValueError("it holds no array")
    except Exception as error:  # zip files, compressed data and array headers can each be damaged in ways of their own
        raise ValueError(f"{path}: damaged, or not an .npz file of plain arrays ({one_line(error)}); {remedy}") from error
    return arrays


def write_key_states(
    folder: Path,
    content: dict[str, Any],
    identity: Sequence[dict[str, Any]],
    states: Sequence[Array],
    steps: NDArray[np.int64],
    mi: Array,
    events: Sequence[dict[str, int | None]] | None,
) -> None:
    """Write the key states of N trajectories as ``keystates.json`` and ``keystates.csv``, for people, and ``keystates.npz``, for
    programs.

    Args:
        content: what else the JSON says; its ``config`` and ``weights_sha256`` are in both files.
        identity: of every trajectory, ``episode`` and ``seed`` or ``name``.
        states: ``(t_i, d)`` each, from which those at the key states are kept.
        steps, mi: ``(N, K)``, steps of the key states and their MI with the states shortly before, in nats; ``concept``
            numbers them from 1, as pictures and tables do.
        events: ground truth, where it is known.
    """
    rows = zip(identity, states, steps, mi, events or [{}] * len(states), strict=True)
    episodes = [
        {
            **who,
            "length": len(trajectory),
            "key_states": [
                {"concept": k, "step": int(step), "mi": round(float(value), 4)}
                for k, (step, value) in enumerate(zip(own, found), start=1)
            ],
            "events": happened,
        }
        for who, trajectory, own, found, happened in rows
    ]
    write_json(folder / "keystates.json", {"format": FORMAT, **content, "episodes": episodes})
    with replace_file(folder / "keystates.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["episode", "name", "key_state", "step", "mi_nats"])
        for who, episode in zip(identity, episodes, strict=True):
            name = who.get("name", who.get("seed", ""))
            table.writerows([who["episode"], name, *key_state.values()] for key_state in episode["key_states"])
    with replace_file(folder / "keystates.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            episode=np.array([who["episode"] for who in identity]),
            seed=np.array([who.get("seed", -1) for who in identity]),
            concept=np.arange(steps.shape[1]) + 1,
            step=steps,
            mi=mi,
            config=json.dumps(content["config"]),
            weights_sha256=content["weights_sha256"] or "",
            states=np.stack([trajectory[own] for trajectory, own in zip(states, steps, strict=True)]),
        )
