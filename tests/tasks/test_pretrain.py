"""Both pretrainings on a small scale."""

import csv
import signal

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("hydra")


from infoatlas_rl.baselines.infonet import load_infonet
from tests.conftest import ROOT, kill_when, run


def same_weights(*paths):
    first, *others = (load_file(path) for path in paths)
    return all(torch.equal(value, other[name]) for other in others for name, value in first.items())


def test_a_killed_infonet_pretraining_goes_on_to_the_same_weights(tmp_path):
    small = ["training.steps=60", "training.batch=4", "training.max_samples=150", "checkpoint_every=2", f"paths.root={tmp_path}"]
    command = ["tasks/pretrain_infonet.py", *small]
    out = tmp_path / "runs/pretrain_infonet"
    kill_when((out / "checkpoint.pt").is_file, signal.SIGTERM, *command)
    second = run(*command)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed" in second.stdout
    weights = out / "infonet.safetensors"
    assert load_infonet(weights).config.table == 48
    whole = run(*command, f"run={tmp_path}/whole", f"out={tmp_path}/whole.safetensors")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert same_weights(weights, tmp_path / "whole.safetensors")
    other = run(*command, "training.seed=5")
    assert other.returncode == 1
    assert "resume=false" in other.stderr


def test_a_killed_pretraining_goes_on_to_the_same_weights_and_leaves_the_released_ones_alone(tmp_path):
    released = (ROOT / "pretrained" / "manifest.json").read_bytes()
    command = [
        "tasks/pretrain.py",
        f"paths.root={tmp_path}",
        "name=try",
        "pretrain.steps=4",
        "pretrain.checkpoint_minutes=0",
        "pretrain.pairs_per_step=1000",
        "pretrain.validation_problems=1",
        "atlas.max_samples=100",
        "validate_every=2",
        "calibrate.groups=4",
        *(
            f"calibrate.{name}_groups=4"
            for name in ("small", "large", "plain", "simple", "strong", "redundant", "counts", "gradient")
        ),
        "calibrate.group_pairs=300",
        "calibrate.most_samples=300",
        "calibrate.epochs=2",
    ]
    out = tmp_path / "runs/pretrain/try"
    kill_when((out / "checkpoint.pt").is_file, signal.SIGKILL, *command)
    assert not (out / "weights.safetensors").exists()
    second = run(*command)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed" in second.stdout
    whole = run(*command, f"out={tmp_path}/whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert same_weights(out / "weights.safetensors", tmp_path / "whole/weights.safetensors")
    again = run(*command, f"critic={out}/weights.safetensors", f"out={tmp_path}/again")
    assert again.returncode == 0, again.stdout + again.stderr
    before, after = (load_file(folder / "weights.safetensors") for folder in (out, tmp_path / "again"))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any(name.startswith("calibrated_head.members.") for name in moved)
    assert all(name.startswith("calibrated_head.") and "gradient" not in name for name in moved)
    rows = list(csv.DictReader((out / "log.csv").open()))
    assert {"loss", "regret", "validation/regret", "calibration/pinball"} <= {row["name"] for row in rows}
    assert (ROOT / "pretrained" / "manifest.json").read_bytes() == released
