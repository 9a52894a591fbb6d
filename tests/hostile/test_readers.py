"""Files that were cut, overwritten or made up: every reader reads them or refuses them, in one line that names the file."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from infoatlas_rl import InfoAtlas
from infoatlas_rl.columns import read_columns
from infoatlas_rl.estimator.model import write_weights
from infoatlas_rl.files import read_checkpoint
from infoatlas_rl.keystates.datasets import load_dataset
from infoatlas_rl.keystates.files import load_trajectories, read_key_states
from infoatlas_rl.weights import WeightsError
from tests.conftest import TINY, small_policy
from tests.hostile.conftest import cases, refused
from tests.keystates.test_datasets import write_lerobot, write_robomimic, write_zarr
from tests.maniskill.test_demos import write_demonstrations

pytest.importorskip("h5py")
pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.policies.learner_files import read_arrays, read_evaluations, write_arrays
from infoatlas_rl.policies.policy import KeyStatePolicy


class Format(NamedTuple):
    write: Callable[[Path], Any]
    """A good file, or a folder of files, at a path."""
    read: Callable[[Path], Any]
    name: str


def parquet_table(path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": np.arange(40.0), "b": np.arange(40) % 3, "c": [*"uvwx"] * 10}), path)


def key_states(path: Path) -> None:
    np.savez(path, seed=np.arange(4), step=np.ones((4, 2), int), states=np.ones((4, 2, 5)), weights_sha256="")


def curve(path: Path) -> None:
    np.savez(path, **{name: np.zeros((3, 2)) for name in ("timesteps", "results", "ep_lengths", "successes")})


FORMATS = {
    "csv": Format(
        lambda p: p.write_text("a,b\n" + "1,2\n3,4\n" * 20), lambda p: read_columns(p, "0:", drop_missing=True), "t.csv"
    ),
    "parquet": Format(parquet_table, lambda p: read_columns(p, "0:"), "t.parquet"),
    "npy": Format(lambda p: np.save(p, np.eye(9)), lambda p: read_columns(p, "0:"), "t.npy"),
    "npz": Format(lambda p: np.savez(p, a=np.eye(9), b=np.arange(9)), lambda p: read_columns(p, "0:"), "t.npz"),
    "trajectories": Format(lambda p: np.savez_compressed(p, a=np.eye(9), b=np.eye(9)), load_trajectories, "t.npz"),
    "key states": Format(key_states, lambda p: read_key_states(p, [0, 3]), "keystates.npz"),
    "robomimic": Format(write_robomimic, load_dataset, "low_dim.hdf5"),
    "LeRobot": Format(lambda p: write_lerobot(p, "v3.0"), load_dataset, "lerobot"),
    "Zarr": Format(write_zarr, load_dataset, "replay.zarr"),
    "ManiSkill": Format(write_demonstrations, lambda p: load_demonstrations(p / "demo.h5", get_task("PickCube")), "demos"),
    "weights": Format(lambda p: write_weights(p, InfoAtlas(TINY), {}), InfoAtlas.from_pretrained, "w.safetensors"),
    "policy": Format(lambda p: small_policy().save(p, {}), KeyStatePolicy.load, "p.safetensors"),
    "checkpoint": Format(
        lambda p: torch.save({"run": 1, "state": torch.ones(9)}, p), lambda p: read_checkpoint(p, "run"), "checkpoint.pt"
    ),
    "buffer": Format(lambda p: write_arrays(p, {"a": np.eye(5)}), lambda p: read_arrays(p, ["a"]), "buffer.safetensors"),
    "curve": Format(curve, read_evaluations, "evaluations.npz"),
}
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "flip", "flip", "write", "drop", "insert", "zero"]),
        st.floats(0, 1),
        st.one_of(
            st.binary(min_size=1, max_size=24), st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"9" * 12, b"nan", b"-1", b"{}"])
        ),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    data = bytearray(content)
    for how, place, what in damage:
        at = min(int(place * len(data)), max(len(data) - 1, 0))
        if how == "cut":
            del data[at:]
        elif how == "flip" and data:
            data[at] ^= 1 << (what[0] % 8)
        elif how == "write":
            data[at : at + len(what)] = what
        elif how == "zero":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        elif how == "drop":
            del data[at : at + len(what)]
        elif how == "insert":
            data[at:at] = what
    return bytes(data)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good one of every format."""
    folder = tmp_path_factory.mktemp("good")
    for name, kind in FORMATS.items():
        (folder / name).mkdir()
        kind.write(folder / name / kind.name)
    return {name: folder / name / kind.name for name, kind in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
@cases(damage=DAMAGE, which=st.integers(0, 2**16))
def test_a_damaged_file_is_read_or_refused(name, good, tmp_path_factory, damage, which):
    path, read = tmp_path_factory.getbasetemp() / f"hostile {name}" / good[name].name, FORMATS[name].read
    shutil.rmtree(path.parent, ignore_errors=True)
    shutil.copytree(good[name].parent, path.parent)
    files = sorted(file for file in path.parent.rglob("*") if file.is_file())
    file = files[which % len(files)]
    file.write_bytes(damaged(file.read_bytes(), damage))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path)
        except (ValueError, WeightsError) as error:
            refused(error, path.stem, file.stem)
