"""The suites that compare estimators: their figures are those of their estimates, and known answers come out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from infoatlas_rl.baselines.classical import gaussian_copula
from infoatlas_rl.baselines.mist import MISTConfig, MISTNetwork, write_mist
from infoatlas_rl.distributions import varied_tasks
from infoatlas_rl.tasks.suites import peers, selfconsistency, sizes, slicing
from infoatlas_rl.tasks.suites.ranking import average_precision, roc_auc
from infoatlas_rl.weights import weights_hash
from tests.conftest import ROOT, compose


def test_areas_of_known_scores():
    assert roc_auc([0.0, 1.0], [1.0, 2.0]) == 0.875
    assert average_precision([0.0, 1.0], [2.0, 3.0]) == 1
    # By falling scores: one of one right, then two of three.
    assert average_precision([2.0, 0.0], [3.0, 1.0]) == pytest.approx((1 + 2 / 3) / 2)
    # Where all are equal the precision is the share of members.
    assert average_precision([0.0] * 3, [0.0]) == 0.25


def test_the_suite_of_peers_measures_every_estimator(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "BMI_40", peers.BMI_40[:1])
    monkeypatch.setattr(peers, "varied_tasks", lambda: varied_tasks()[:1])
    monkeypatch.setattr(peers, "FEW", (100,))
    mist = f"{tmp_path}/mist.safetensors"
    write_mist(Path(mist), MISTNetwork(MISTConfig(width=8, blocks=1)), {})
    options = [f"picture={tmp_path}/peers.png", f"run={tmp_path}/run", f"mist_weights={mist}"]
    cfg = compose("benchmark_mi", "n=200", "seeds=2", "steps=10", *options)
    result = peers.run(cfg)
    with monkeypatch.context() as patch:
        patch.setattr(peers, "_measure", None)  # an error, if anything were estimated again
        assert peers.run(cfg) == result
        # With other weights ours alone is.
        again = []
        patch.setattr(
            "infoatlas_rl.baselines.estimators.weights_hash", lambda name: "others" if name == "base" else weights_hash(name)
        )
        patch.setattr(
            peers,
            "_measure",
            lambda *data: again.append([p.name for p in data[-1]]) or {p.name: [9.0, 1.0, 8.0, 10.0] for p in data[-1]},
        )
        other = peers.run(cfg)
        assert again == [[peers.OURS]] * 6
        for before, after in zip(result["groups"], other["groups"], strict=True):
            assert list(before["estimators"]) == list(after["estimators"])
            changed = [name for name, figures in before["estimators"].items() if after["estimators"][name] != figures]
            assert changed == [peers.OURS]
    assert (tmp_path / "peers.png").is_file()
    assert [group["n"] for group in result["groups"]] == [200, 100, peers.FAMILY_SAMPLES]
    for group in result["groups"]:
        assert set(group["estimators"]) == set(result["settings"])
        (infonce,), (ours,) = (group["estimators"][name]["estimates"].values() for name in ("InfoNCE", "InfoAtlas"))
        assert (len(infonce), len(ours)) == (1, 2)
        assert {name for name, figures in group["estimators"].items() if "covered" in figures} == {"InfoAtlas", "MIST"}
    assert len(peers.table(result).rows) == len(result["settings"])
    assert re.search(r"holds the truth: InfoAtlas \d+%, \d+%, \d+%; MIST \d+%", peers.table(result).note)
    (row,) = peers.task_table(result).rows
    assert len(row) == 2 + len(result["settings"])


def test_time_and_memory_are_those_of_a_process_that_estimates(monkeypatch, tmp_path):
    monkeypatch.setattr(sizes, "SIZES", (50, 100))
    monkeypatch.setattr(sizes, "peers", lambda *args, **options: peers.peers(*args, **options)[1:3])
    monkeypatch.setattr(sizes, "LONGEST", 1e-9)
    result = sizes.run(compose("benchmark_mi", "steps=10", f"picture={tmp_path}/sizes.png"))
    assert (tmp_path / "sizes.png").is_file()
    # With more samples than those that took too long nothing is tried.
    assert {name: list(by_size) for name, by_size in result["estimators"].items()} == {"KSG": ["50"], "Gaussian copula": ["50"]}
    assert [row[2] for row in sizes.table(result).rows] == ["", ""]
    copula = result["estimators"]["Gaussian copula"]["50"]
    x, noise = np.random.default_rng(0).normal(size=(2, 50, sizes.COLUMNS))
    y = sizes.CORRELATION * x + np.sqrt(1 - sizes.CORRELATION**2) * noise
    assert copula["mi"] == pytest.approx(gaussian_copula(x, y), abs=1e-4)
    assert 0 < copula["seconds"] < 60
    assert copula["megabytes"] < 500
    before = sizes._peak(reset=True)
    kept = np.ones(20_000_000)  # 153 MB
    assert 140 < sizes._peak() - before < 200
    del kept
    assert sizes._peak(reset=True) - before < 60


def test_committed_figures_of_peers_are_those_of_their_estimates():
    result = json.loads((ROOT / "docs/results/peers.json").read_text())
    for group in result["groups"]:
        for name, row in group["estimators"].items():
            errors = [abs(v - group["truth"][task]) for task, values in row["estimates"].items() for v in values]
            assert len(errors) == len(group["truth"]) * min(peers.FEWER_SEEDS.get(name, 99), len(result["seeds"]))
            assert row["mae"] == pytest.approx(np.mean(errors), abs=6e-5)
            assert row["worst"] == pytest.approx(np.max(errors), abs=6e-5)


def test_bands_are_apart_where_they_fall_and_do_not_touch():
    assert selfconsistency.bands_apart([[1.0, 1.1], [0.8, 0.9], [0.5, 0.6]]) == 2
    assert selfconsistency.bands_apart([[1.0, 1.4], [0.9, 1.1], [0.5, 0.6]]) == 1
    assert selfconsistency.bands_apart([[0.5, 0.6], [1.0, 1.1]]) == 0


def test_the_suite_of_self_consistency_sees_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(selfconsistency, "LEVELS", (0.0, 0.1))
    monkeypatch.setattr(selfconsistency, "INFONET_SLICES", 4)

    def halves(level, seed):
        g = torch.Generator().manual_seed(seed)
        shared = torch.randn(200, 3, generator=g)
        return tuple(shared @ torch.randn(3, 30, generator=g) + 40 * level * torch.randn(200, 30, generator=g) for _ in range(2))

    cfg = compose("benchmark_mi", "seeds=2", "steps=20", f"picture={tmp_path}/halves.png")
    result = selfconsistency.compare(cfg, "selfconsistency", "halves", halves)
    assert (tmp_path / "halves.png").is_file()
    sliced, *_ = result["estimators"].values()
    clean, noisy = np.mean(sliced["estimates"][0]), np.mean(sliced["estimates"][-1])
    assert clean > 2 * noisy
    assert all(len(level) == 2 for row in result["estimators"].values() for level in row["estimates"])
    assert len(selfconsistency.table(result).rows) == len(result["estimators"])


def test_without_the_digits_self_consistency_says_what_to_install(monkeypatch):
    monkeypatch.setattr("infoatlas_rl.tasks.suites.loss_data.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs sklearn, mlxtend: pip install"):
        selfconsistency.run(compose("benchmark_mi"))


def test_the_failure_cases_of_slicing_are_those_of_the_paper():
    # The paper's example: a correlation of 1 in one pair is as much to slices as 0.7963 in both.
    assert slicing.dense_twin(0.999999) == pytest.approx(0.7963, abs=1e-3)
    found = slicing.cases()
    (one, both), lengths = list(found.values())[:2], list(found.values())[2:]
    assert one[2] > 2 * both[2] - 0.1
    g = torch.Generator().manual_seed(0)
    for x, y, _ in (one, both):
        # Mean information of Gaussian slices, from their correlations: the same but for 400 random slices.
        u, v = (torch.nn.functional.normalize(torch.randn(2, 4000, generator=g), dim=0) for _ in range(2))
        rho = torch.stack([torch.corrcoef(torch.stack([x @ a, y @ b]))[0, 1] for a, b in zip(u.T[:400], v.T[:400], strict=True)])
        assert float((-0.5 * (1 - rho**2).log()).mean()) == pytest.approx(slicing.sliced_sparse(slicing.RHO), abs=0.04)
    for x, y, truth in lengths:
        assert truth == pytest.approx(np.log(2))
        torch.testing.assert_close(x.norm(dim=1), y.norm(dim=1))
    wide = slicing.hidden(*lengths[0][:2])
    assert wide[0].shape == (slicing.SAMPLES, slicing.HIDDEN_IN)


def test_the_error_of_slices_falls_with_their_root():
    result = {"sweep": [{"k": 5, "mean": 0.5, "std": 0.1}]}
    assert slicing.sweep_table(result).rows == [["5", "0.500", "0.045", "0.020", "0.010"]]
