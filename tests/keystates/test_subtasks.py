"""Key states in a LeRobot data set, read back as LeRobot reads subtasks: one holds until the next one."""

import json
import shutil

import numpy as np
import pytest

from infoatlas_rl.keystates.datasets import DatasetError, load_dataset
from infoatlas_rl.keystates.subtasks import write_subtasks
from tests.conftest import compose
from tests.keystates.test_datasets import FEATURES, episodes, write_lerobot, write_robomimic

pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

STEPS = {episode: [10 + episode % 5, 10 + episode % 5, 25, 39 if episode else 30] for episode in range(20)}
"""Key states of 20 of 24 episodes of 40 steps; two of each are one step, and the last one is the end but in the first."""


@pytest.fixture
def dataset(tmp_path):
    return write_lerobot(tmp_path / "set", "v3.0")


def table_of(dataset):
    (file,) = (dataset / "data").rglob("*.parquet")
    return parquet.read_table(file)


def active(rows, time, style="subtask"):
    """What holds at a time."""
    said = [row for row in rows if row["style"] == style and row["timestamp"] <= np.float32(time)]
    return max(said, key=lambda row: row["timestamp"])["content"] if said else None


def add_rows(dataset, rows):
    (file,) = (dataset / "data").rglob("*.parquet")
    table = parquet.read_table(file)
    table = table.append_column("language_persistent", pyarrow.array([rows] * len(table)))
    parquet.write_table(table.replace_schema_metadata({"huggingface": "{}", "mine": "1"}), file)


def row(style, content, time=0.0, **more):
    return {"role": "assistant", "content": content, "style": style, "timestamp": time, "camera": None, "tool_calls": None} | more


def test_every_frame_tells_its_stage(dataset):
    before = table_of(dataset)
    write_subtasks(dataset, STEPS)
    after = table_of(dataset)
    assert after.select(before.column_names).equals(before)
    assert str(after.schema.field("language_persistent").type).startswith(
        "list<element: struct<role: string, content: string, style"
    )
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    language = {"dtype": "language", "shape": [1], "names": None}
    assert features == FEATURES | {"language_persistent": language, "language_events": language}
    for frame in after.to_pylist():
        steps, step = STEPS.get(frame["episode_index"]), frame["frame_index"]
        # Stage k ends with key state k: it holds up to the step before.
        expected = None if steps is None else f"stage {1 + sum(step >= key for key in steps)}"
        if steps and steps[-1] == 39 and step == 39:
            expected = "stage 4"
        assert active(frame["language_persistent"], frame["timestamp"]) == expected
        assert frame["language_events"] == []
    again = load_dataset(dataset)
    assert again.columns == {"observation.state": 3}
    np.testing.assert_allclose(again.trajectories[3], episodes()[0][3], atol=1e-6)


def test_a_second_time_replaces_the_first_and_nothing_else(dataset):
    call = [{"type": "function", "function": {"name": "say"}}]
    add_rows(dataset, [row("plan", "first this, then that", 0.5, tool_calls=call), row("subtask", "stage 1")])
    write_subtasks(dataset, STEPS)
    once = table_of(dataset)
    write_subtasks(dataset, {episode: [5, 39] for episode in STEPS})
    write_subtasks(dataset, STEPS)
    assert table_of(dataset).equals(once)
    said = once.column("language_persistent")[50].as_py()
    assert [(row["style"], row["content"]) for row in said][:3] == [("subtask", "stage 1"), ("plan", "first this, then that"),
                                                                   ("subtask", "stage 3")]  # fmt: skip
    assert json.loads(said[1]["tool_calls"][0]) == call[0]
    assert once.schema.metadata == {b"mine": b"1"}


def test_subtasks_of_others_stay(dataset):
    add_rows(dataset, [row("subtask", "grasp the cup")])
    before = table_of(dataset)
    with pytest.raises(DatasetError, match=r"has subtasks already \('grasp the cup'\), which are not replaced; annotate a copy"):
        write_subtasks(dataset, STEPS)
    assert table_of(dataset).equals(before)


def test_other_formats_have_no_place(tmp_path):
    pytest.importorskip("hydra")
    from infoatlas_rl.tasks.discover_keystates import discover

    for path in (write_lerobot(tmp_path / "old", "v2.1"), write_robomimic(tmp_path / "low_dim.hdf5")):
        options = ["env=any", f"demos.path={path}", "demos.annotate=true", f"paths.root={tmp_path}"]
        with pytest.raises(DatasetError, match="only LeRobot data sets of version 3 have a place for subtasks"):
            discover(compose("discover_keystates", *options))
    assert not (tmp_path / "runs").exists()


def test_the_command_annotates_a_data_set(dataset, tmp_path):
    pytest.importorskip("hydra")
    from infoatlas_rl.tasks.discover_keystates import discover

    shutil.copytree(dataset, tmp_path / "mine")
    options = [
        "env=any",
        f"demos.path={tmp_path / 'mine'}",
        "demos.annotate=true",
        f"paths.root={tmp_path}",
        "discovery.concepts=2",
    ]
    quick = ["estimator.k=2", "profile.slices=2", "profile.k=2", "discovery.epochs=4"]
    out = discover(compose("discover_keystates", *options, *quick))
    found = json.loads((out / "keystates.json").read_text())["episodes"]
    table = table_of(tmp_path / "mine")
    for episode in found:
        first, last = (state["step"] for state in episode["key_states"])
        rows = table.column("language_persistent")[40 * episode["episode"]].as_py()
        begins = [0, first, *([last] if last < 39 else [])]
        assert [round(20 * row["timestamp"]) for row in rows] == begins
