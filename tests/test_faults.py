"""Faults that belong to no single module, and the table of faults in ``docs/reliability.md``, whose tests are there."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from infoatlas_rl import InfoAtlas
from infoatlas_rl.columns import read_columns
from infoatlas_rl.estimator.model import write_weights
from infoatlas_rl.files import read_checkpoint
from infoatlas_rl.keystates.files import load_trajectories, read_key_states
from infoatlas_rl.weights import WeightsError
from tests.conftest import ROOT, TINY, run


def test_every_fault_of_the_table_has_tests_that_are_there():
    rows = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 15
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert tests, row
        for file, name in tests:
            assert re.search(rf"def {name}\(", (ROOT / file).read_text()), f"{file} has no {name}"


class Planted:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


READERS = {
    "table.npy": lambda path: read_columns(path, "0"),
    "table.npz": lambda path: read_columns(path, "0"),
    "paths.npz": load_trajectories,
    "keystates.npz": lambda path: read_key_states(path, [0]),
    "checkpoint.pt": lambda path: read_checkpoint(path, "run"),
    "weights.safetensors": InfoAtlas.from_pretrained,
}


@pytest.mark.parametrize("name", READERS)
def test_a_planted_pickle_is_refused_and_not_run(name, tmp_path):
    path, ran = tmp_path / name, tmp_path / "ran"
    planted = np.array([Planted(ran)] * 9, dtype=object)
    if name.endswith(".npy"):
        np.save(path, planted, allow_pickle=True)
    elif name.endswith(".npz"):
        np.savez(path, seed=planted, step=planted, states=planted)
    elif name.endswith(".pt"):
        torch.save({"run": Planted(ran)}, path)
    else:
        path.write_bytes(pickle.dumps(Planted(ran)))
    with pytest.raises((ValueError, WeightsError)) as refused:
        READERS[name](path)
    assert str(path) in str(refused.value)
    assert not ran.exists()
    # It would have run.
    pickle.loads(pickle.dumps(Planted(ran)))
    assert ran.exists()


@pytest.mark.parametrize("length", [2**63 - 1, 10**12, 10**6])
def test_a_header_that_declares_more_than_there_is_is_refused(length, tmp_path):
    weights = tmp_path / "weights.safetensors"
    write_weights(weights, InfoAtlas(TINY), {})
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    with pytest.raises(WeightsError, match=rf"{weights}: not a readable safetensors file"):
        InfoAtlas.from_pretrained(weights)
    array = tmp_path / "array.npy"
    with open(array, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (length, 3)})
        file.write(bytes(240))
    with pytest.raises(ValueError, match=rf"{array}: cannot be read as \.npy"):
        read_columns(array, "0")


def test_weights_of_another_version_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(2)}, path, metadata={"format": "infoatlas-2", "config": "{}", "record": "{}"})
    with pytest.raises(WeightsError, match=r"format 'infoatlas-2', this version reads 'infoatlas-4'; retrain with"):
        InfoAtlas.from_pretrained(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": "64"}, "width has to be an integer"),
        ({"joint_layers": 10**9}, "joint_layers is 1000000000, but the file holds"),
        ({"code": "1"}, "unexpected keyword"),
    ],
)
def test_weights_with_a_hostile_configuration_are_refused(changed, message, tmp_path):
    path = tmp_path / "weights.safetensors"
    model = InfoAtlas(TINY)
    config = json.dumps({name: value for name, value in vars(TINY).items()} | changed)
    save_file(model.state_dict(), path, metadata={"format": "infoatlas-4", "config": config, "record": "{}"})
    with pytest.raises(WeightsError, match=message) as refused:
        InfoAtlas.from_pretrained(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("command", ["discover", "pretrain"])
def test_a_full_disk_ends_a_command_in_one_line(command, tiny_disk, tmp_path):
    pytest.importorskip("hydra")
    if command == "discover":
        np.savez(tmp_path / "paths.npz", *np.random.default_rng(0).normal(size=(20, 12, 3)).cumsum(1))
        options = ["tasks/discover_keystates.py", "env=any", f"demos.path={tmp_path}/paths.npz", f"out={tiny_disk}/out"]
        options += ["env.concepts=2", "discovery.epochs=1", "threads=1"]
    else:
        options = ["tasks/pretrain.py", "size=tiny", "pretrain.steps=1", "pretrain.pairs_per_step=500", "atlas.max_samples=100"]
        options += [f"out={tiny_disk}/out", "pretrain.validation_problems=1"]
    (tiny_disk / "much").write_bytes(bytes(250_000))
    answer = run(*options)
    assert answer.returncode == 1
    assert f"no space left on the disk of {tiny_disk}" in answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert not [path for path in tiny_disk.rglob("*.tmp")]
