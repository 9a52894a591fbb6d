"""Key states written back into a LeRobot data set, as its subtasks.

LeRobot 3 has a place for them: ``language_persistent``, a column of ``data/**/*.parquet`` that holds, in every frame of an
episode, all that is said about the episode, as rows ``role, content, style, timestamp, camera, tool_calls``. A row of
``style="subtask"`` holds from its timestamp, in seconds, until the next one. Stage k ends with key state k; what comes after the
last key state, if anything does, is a stage of its own. Rows of other styles stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infoatlas_rl.files import replace_file
from infoatlas_rl.keystates.datasets import DatasetError, format_of
from infoatlas_rl.records import write_json

COLUMNS = ("language_persistent", "language_events")
"""LeRobot reads both or none."""
OURS = re.compile(r"stage \d+")


def require_place_for_subtasks(path: Path | str) -> None:
    """Ask before the work, not after it.

    Raises:
        DatasetError: no LeRobot data set of version 3, or one with subtasks that others have written.
    """
    if format_of(path) != "LeRobot" or not str(_info(Path(path)).get("codebase_version")).startswith("v3"):
        raise DatasetError(
            f"{path}: only LeRobot data sets of version 3 have a place for subtasks, demos.annotate=true; those of 2.1 are "
            "converted by lerobot, and key states of all formats are in keystates.json and .csv"
        )
    for file, table in _tables(Path(path)):
        for rows in table.column(COLUMNS[0]).to_pylist() if COLUMNS[0] in table.column_names else ():
            for row in rows or ():
                if row["style"] == "subtask" and not OURS.fullmatch(row["content"] or ""):
                    raise DatasetError(
                        f"{file}: it has subtasks already ({row['content']!r}), which are not replaced; annotate a copy without "
                        "them"
                    )


def write_subtasks(path: Path | str, steps: Mapping[int, Sequence[int]]) -> None:
    """Write the stages of episodes, ``{episode_index: steps of its key states}``, in the place of those of an earlier run.

    Raises:
        DatasetError: see :func:`require_place_for_subtasks`.
    """
    import pyarrow
    from pyarrow import parquet

    require_place_for_subtasks(path)
    row = [("role", pyarrow.string()), ("content", pyarrow.string()), ("style", pyarrow.string())]
    rest = [("camera", pyarrow.string()), ("tool_calls", pyarrow.list_(pyarrow.string()))]
    persistent = pyarrow.list_(pyarrow.struct([*row, ("timestamp", pyarrow.float32()), *rest]))
    events = pyarrow.list_(pyarrow.struct([*row, *rest]))
    for file, table in _tables(Path(path)):
        episodes, frames, times = (table.column(name).to_numpy() for name in ("episode_index", "frame_index", "timestamp"))
        said = table.column(COLUMNS[0]) if COLUMNS[0] in table.column_names else None
        numbers, place = np.unique(episodes, return_inverse=True)
        content = []
        for number in numbers:
            own = np.flatnonzero(episodes == number)
            own = own[np.argsort(frames[own], kind="stable")]
            others = [] if said is None else [_plain(row) for row in said[int(own[0])].as_py() or () if row["style"] != "subtask"]
            content.append(sorted(others + _stages(steps.get(int(number), ()), times[own]), key=lambda row: row["timestamp"]))
        columns = {COLUMNS[0]: pyarrow.array(content, persistent).take(pyarrow.array(place))}
        if COLUMNS[1] not in table.column_names:
            columns[COLUMNS[1]] = pyarrow.array([[]] * len(table), events)
        for name, values in columns.items():
            there = table.schema.get_field_index(name)
            table = table.append_column(name, values) if there < 0 else table.set_column(there, name, values)
        # The features that the library `datasets` notes in a file are those of before.
        noted = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"huggingface"}
        with replace_file(file) as temporary:
            parquet.write_table(table.replace_schema_metadata(noted), temporary)
    info = _info(Path(path))
    language = {name: {"dtype": "language", "shape": [1], "names": None} for name in COLUMNS}
    write_json(Path(path) / "meta/info.json", {**info, "features": {**info.get("features", {}), **language}})


def _stages(steps: Sequence[int], times: np.ndarray) -> list[dict[str, Any]]:
    """Rows of an episode with frames at ``times``; where two key states are one step, the stage in between has no frames."""
    if not len(steps):
        return []
    begins = {step: number for number, step in enumerate([0, *map(int, steps)], start=1) if step < len(times) - 1}
    alike = {"role": "assistant", "style": "subtask", "camera": None, "tool_calls": None}
    return [{**alike, "content": f"stage {number}", "timestamp": float(times[step])} for step, number in begins.items()]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row of another style, with its calls of tools as LeRobot keeps them, JSON."""
    calls = row["tool_calls"]
    return {**row, "tool_calls": calls and [call if isinstance(call, str) else json.dumps(call) for call in calls]}


def _info(path: Path) -> dict[str, Any]:
    return json.loads((path / "meta/info.json").read_text())


def _tables(path: Path) -> Iterator[tuple[Path, Any]]:
    from pyarrow import parquet

    for file in sorted((path / "data").rglob("*.parquet")):
        yield file, parquet.read_table(file)
