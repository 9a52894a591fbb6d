"""Sweeps of commands on other engines: joblib on this machine, submitit on a cluster."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytest.importorskip("mani_skill")

from hydra import compose, initialize_config_dir

from infoatlas_rl.tasks import benchmark_mi, discover_keystates, evaluate_policy, pretrain, train_policy, train_rl  # noqa: F401
from infoatlas_rl.tasks.shell.options import CONFIGS
from tests.conftest import run


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("discover_keystates", ["env=StackCube"]),
        ("train_policy", ["env=StackCube"]),
        ("train_rl", ["env=StackCube"]),
        ("evaluate_policy", ["env=StackCube"]),
        ("benchmark_mi", ["suite=bmi"]),
        ("pretrain", []),
    ],
)
def test_a_job_of_slurm_is_composed(config, options):
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=cpu", "hydra.launcher.cpus_per_task=2"]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        found = compose(config, [*options, *slurm], return_hydra_config=True).hydra
    assert found.launcher._target_.endswith("SlurmLauncher")
    assert (found.launcher.partition, found.launcher.cpus_per_task) == ("cpu", 2)
    assert found.output_subdir is None  # results hold their options; Hydra writes nothing beside them


def test_joblib_runs_a_sweep_in_processes(tmp_path):
    line, rng = np.linspace(0, 1, 40), np.random.default_rng(0)
    corner = np.stack([np.minimum(line, 0.5), np.maximum(line - 0.5, 0)], axis=1)
    ends = rng.uniform(0.5, 1.5, size=(24, 1, 2))
    np.savez(tmp_path / "corners.npz", **{f"demo_{i:02d}": corner * end for i, end in enumerate(ends)})
    quick = ["estimator.k=2", "profile.slices=2", "profile.k=2", "discovery.epochs=2", "threads=1", f"paths.root={tmp_path}"]
    sweep = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "discovery.seed=0,1", "name=seed${discovery.seed}"]
    answer = run("tasks/discover_keystates.py", *sweep, "env=any", f"demos.path={tmp_path / 'corners.npz'}", *quick)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for seed in (0, 1):
        record = json.loads((tmp_path / f"runs/keystates/corners-seed{seed}/keystates.json").read_text())
        assert f"discovery.seed={seed}" in json.dumps(record)
        assert "discovery.seed=0,1" not in json.dumps(record)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [
        "runs"
    ]  # and no folder of Hydra's where it was started
    assert {path.parent.name for path in tmp_path.glob("runs/keystates/*/keystates.npz")} == {"corners-seed0", "corners-seed1"}
