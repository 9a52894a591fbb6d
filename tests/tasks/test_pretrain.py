"""Both pretrainings on a small scale."""

import csv

import pytest

pytest.importorskip("hydra")


from infoatlas_rl.baselines.infonet import load_infonet
from tests.conftest import ROOT, run


def test_infonet_pretraining_runs_and_resumes(tmp_path):
    small = ["training.steps=4", "training.batch=4", "training.max_samples=150", "checkpoint_every=2"]
    command = ["tasks/pretrain_infonet.py", f"paths.root={tmp_path}", *small]
    first = run(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    weights = tmp_path / "runs/pretrain_infonet/infonet.safetensors"
    assert load_infonet(weights).config.table == 48
    assert "resumed" in run(*command).stdout
    other = run(*command, "training.seed=5")
    assert other.returncode == 1
    assert "resume=false" in other.stderr


def test_pretraining_runs_resumes_and_leaves_the_released_weights_alone(tmp_path):
    released = (ROOT / "pretrained" / "manifest.json").read_bytes()
    command = [
        "tasks/pretrain.py",
        f"paths.root={tmp_path}",
        "name=try",
        "pretrain.steps=3",
        "pretrain.pairs_per_step=1000",
        "pretrain.validation_problems=1",
        "atlas.max_samples=100",
        "validate_every=2",
        *(f"calibrate.{name}groups=4" for name in ("", "large_", "plain_", "gradient_")),
        "calibrate.group_pairs=300",
        "calibrate.epochs=2",
    ]
    first = run(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    out = tmp_path / "runs/pretrain/try"
    assert (out / "weights.safetensors").is_file()
    assert "resumed" in run(*command).stdout
    rows = list(csv.DictReader((out / "log.csv").open()))
    assert {"loss", "regret", "validation/regret", "calibration/pinball"} <= {row["name"] for row in rows}
    assert (ROOT / "pretrained" / "manifest.json").read_bytes() == released
