"""Trajectories of data sets that people have: robomimic, LeRobot and diffusion policy.

=================  ======================  ==========================================================================
format             recognised by           states of an episode
=================  ======================  ==========================================================================
robomimic          ``.hdf5``, a ``data``   numeric observations of ``data/demo_*/obs``; ``states`` where there are none
                   of ``demo_*``
LeRobot 2.1, 3     ``meta/info.json``      ``observation.*`` of ``data/**/*.parquet`` (needs pyarrow)
diffusion policy   ``.zarr``, a ``meta``   arrays of ``data`` between ``meta/episode_ends``, without ``action`` (needs zarr)
                   with ``episode_ends``
=================  ======================  ==========================================================================

Which of them are states is inferred: numbers ``(steps, d)`` with at most 512 columns whose names say nothing of images,
velocities, actions or rewards. It can be said instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import one_line

Array = NDArray[np.float64]

NO_STATE = {
    *("image", "images", "img", "depth", "rgb", "rgbd", "action", "actions", "reward", "rewards", "done", "dones", "success"),
    *("discount", "mask", "seg", "emb", "embedding", "time", "step", "steps", "speed", "speeds", "twist", "dq"),
    *("timestamp", "index", "vel", "vels", "qvel", "linvel", "angvel", "velp", "velr", "velocity", "velocities"),
}
"""Words in the names of what is no position."""
MOST_COLUMNS = 512


class DatasetError(ValueError):
    """A data set that cannot be read; the message names format, path and remedy."""


@dataclass(frozen=True)
class Dataset:
    """Trajectories of a data set."""

    format: str
    path: Path
    names: list[str]
    """Of the N episodes."""
    trajectories: list[Array]
    """``(t_i, d)`` each."""
    columns: dict[str, int]
    """What the states are made of, in this order, and how many columns each has."""
    left_out: list[str]
    """What else there is."""

    def __str__(self) -> str:
        states = ", ".join(f"{name} ({size})" for name, size in self.columns.items())
        without = f"; not taken: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.format}, {len(self.names)} episodes; states: {states}{without}; others with demos.columns=[...]"


def format_of(path: Path | str) -> str | None:
    """Which of the three formats is at a path; None if none of them.

    Raises:
        DatasetError: a file that its name calls HDF5, and that is damaged or cannot be read without h5py.
    """
    path = Path(path)
    if (path / "meta" / "info.json").is_file():
        return "LeRobot"
    if path.is_dir() and (path / "meta" / "episode_ends").is_dir():
        return "diffusion policy"
    if path.is_file() and path.suffix.lower() in (".hdf5", ".h5"):
        h5py = _h5py(path)
        try:
            with h5py.File(path, "r") as file:
                data = file.get("data")
                if isinstance(data, h5py.Group) and any(name.startswith("demo") for name in data):
                    return "robomimic"
        except Exception as error:  # HDF5 tells of damage by errors of many kinds
            raise DatasetError(f"{path}: not a readable HDF5 file ({one_line(error)})") from error
    return None


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(f"{path}: reading HDF5 files needs h5py: pip install 'infoatlas-rl[data]'") from error
    return h5py


def load_dataset(path: Path | str, columns: Sequence[str] | None = None, count: int | None = None) -> Dataset:
    """Read the trajectories of a data set.

    Args:
        columns: names of what the states are made of; None: inferred.
        count: the first episodes; None: all.

    Raises:
        DatasetError: no such format, a damaged file, no states, or columns that are not there; the message says which there are.
    """
    path, kind = Path(path), format_of(path)
    columns = [columns] if isinstance(columns, str) else columns
    if columns is not None and not columns:
        raise DatasetError(f"{path}: no columns are asked for; name some, or leave demos.columns out")
    if kind is None:
        raise DatasetError(
            f"{path}: neither robomimic (.hdf5 with data/demo_*), LeRobot (meta/info.json) nor diffusion policy (.zarr with "
            "meta/episode_ends)"
        )
    read = {"robomimic": _robomimic, "LeRobot": _lerobot, "diffusion policy": _zarr}[kind]
    names: list[str] = []
    trajectories: list[Array] = []
    chosen: list[str] = []
    sizes: dict[str, int] = {}
    left_out: list[str] = []
    try:
        for name, parts in read(path):
            if not names:
                chosen, left_out = _choose(path, kind, parts, columns)
                sizes = {column: _matrix(parts[column]).shape[1] for column in chosen}
            if missing := [column for column in chosen if column not in parts]:
                raise DatasetError(f"{path}: {_called(name)} has no {missing[0]}, which the first one has")
            if empty := [column for column in chosen if not len(parts[column])]:
                raise DatasetError(f"{path}: {empty[0]} of {_called(name)} has no steps; leave that episode out")
            states = {column: _matrix(parts[column]) for column in chosen}
            for column, values in states.items():
                if values.shape[1] != sizes[column]:
                    raise DatasetError(
                        f"{path}: {column} of {_called(name)} has {values.shape[1]} columns, of the first one {sizes[column]}"
                    )
                if not np.isfinite(values).all():
                    step = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
                    raise DatasetError(
                        f"{path}: {column} of {_called(name)} has NaN or infinity at step {step}; fill it, or leave that episode "
                        "or column out"
                    )
            names.append(name)
            trajectories.append(np.concatenate(list(states.values()), axis=1).astype(np.float64))
            if count is not None and len(names) == count:
                break
    except DatasetError:
        raise
    except Exception as error:  # HDF5, Parquet and Zarr tell of damage by errors of many kinds
        raise DatasetError(f"{path}: cannot be read as {kind} ({one_line(error)})") from error
    if not names:
        raise DatasetError(f"{path}: a {kind} data set without episodes")
    return Dataset(kind, path, names, trajectories, sizes, left_out)


def _choose(path: Path, kind: str, parts: dict[str, Any], columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names of the states, and of the rest."""
    if columns is not None:
        if unknown := [name for name in columns if name not in parts]:
            raise DatasetError(f"{path}: no {unknown[0]!r} in this {kind} data set; there are {', '.join(parts)}")
        return list(columns), [name for name in parts if name not in columns]
    chosen = [name for name, values in parts.items() if _is_state(name, values)]
    if kind == "LeRobot":  # its other columns are notes and counters
        chosen = [name for name in chosen if name.startswith("observation.")]
    if not chosen:
        raise DatasetError(f"{path}: none of {', '.join(parts)} looks like a state; say which are, with demos.columns=[...]")
    return chosen, [name for name in parts if name not in chosen]


def _is_state(name: str, values: Any) -> bool:
    shape, kind = values.shape, values.dtype.kind
    plain = kind in "fiu" and len(shape) in (1, 2) and (len(shape) == 1 or shape[1] <= MOST_COLUMNS)
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return plain and NO_STATE.isdisjoint(words)


def _matrix(values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    return array[:, None] if array.ndim == 1 else array.reshape(len(array), -1)


def _called(name: str) -> str:
    return name if name.startswith("episode") else f"episode {name}"


def _numbered(name: str) -> tuple[str, int]:
    digits = "".join(character for character in name if character.isdigit())
    return name.rstrip("0123456789"), int(digits or 0)


def _robomimic(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    h5py = _h5py(path)
    with h5py.File(path, "r") as file:
        data = file["data"]
        for name in sorted(data, key=_numbered):
            demo = data[name]
            inside = demo.get("obs", demo)
            parts = {str(key): inside[key] for key in inside if isinstance(inside[key], h5py.Dataset)}
            if "obs" in demo and not any(_is_state(key, values) for key, values in parts.items()) and "states" in demo:
                parts["states"] = demo["states"]
            yield name, parts


def _lerobot(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DatasetError(f"{path}: reading LeRobot data sets needs pyarrow: pip install 'infoatlas-rl[data]'") from error
    version = json.loads((path / "meta" / "info.json").read_text()).get("codebase_version", "")
    if not str(version).startswith(("v2", "v3")):
        raise DatasetError(f"{path}: a LeRobot data set of version {version!r}; accepted are v2.1 and v3.0")
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise DatasetError(f"{path}: no Parquet files in its folder data; download the data set with its data")
    for file in files:
        # Version 2 has a file for every episode, version 3 several episodes in a file.
        table = parquet.read_table(file)
        episodes = table.column("episode_index").to_numpy()
        order = np.argsort(table.column("frame_index").to_numpy(), kind="stable")
        arrays = {name: values for name in table.column_names if (values := _arrow(table.column(name))) is not None}
        for episode in np.unique(episodes):
            rows = order[episodes[order] == episode]
            yield f"episode {episode}", {name: values[rows] for name, values in arrays.items()}


def _arrow(column: Any) -> NDArray[Any] | None:
    """Numbers ``(n,)`` or ``(n, d)`` of a column, None for anything else."""
    values = column.to_numpy()
    if values.dtype.kind in "biuf":
        return values
    if len(values) and isinstance(values[0], np.ndarray) and values[0].dtype.kind in "iuf" and values[0].ndim == 1:
        return np.stack(values) if len({value.shape for value in values}) == 1 else None
    return None


def _zarr(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import zarr
    except ImportError as error:
        raise DatasetError(f"{path}: reading Zarr needs zarr: pip install 'infoatlas-rl[data]'") from error
    group = zarr.open_group(str(path), mode="r")
    ends = np.asarray(group["meta"]["episode_ends"][:])
    data = group["data"]
    arrays = {str(name): data[name] for name in data}
    begins = np.concatenate([[0], ends[:-1]])
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or (ends <= begins).any():
        raise DatasetError(f"{path}: meta/episode_ends has to be integers that rise from above 0; they are {ends.tolist()!r:.80}")
    for name, array in arrays.items():
        if len(array) < ends[-1]:
            raise DatasetError(f"{path}: {name} has {len(array)} steps, but episodes end at {ends[-1]}; copy the data set anew")
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        yield f"episode {number}", {name: _Rows(array, int(begin), int(end)) for name, array in arrays.items()}


class _Rows:
    """Some rows of an array on the disk, which are read when they are asked for: images never are."""

    def __init__(self, array: Any, begin: int, end: int) -> None:
        self._array, self._begin, self._end = array, begin, end
        self.shape, self.dtype = (end - begin, *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._array[self._begin : self._end], dtype)
