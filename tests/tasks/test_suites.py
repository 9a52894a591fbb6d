"""The suites of the benchmark: their constructions have the truths they claim, and they run."""

import json

import numpy as np
import pytest

from infoatlas_rl.distributions import DISCRETE_TASKS, Mixture, four_clusters_mi, table_mi
from infoatlas_rl.tasks.suites import ablation, known
from tests.conftest import ROOT, compose, run

POSTER = [0.144, 0.719, 0.654, 0.712, 0.516]


@pytest.mark.parametrize(("task", "truth"), zip(DISCRETE_TASKS, POSTER, strict=True), ids=lambda v: getattr(v, "name", ""))
def test_discrete_tasks_have_the_truths_of_the_poster(task, truth):
    assert task.mi == pytest.approx(truth, abs=0.001)


@pytest.mark.parametrize("task", DISCRETE_TASKS[2:], ids=lambda task: task.name)
def test_discrete_samples_have_the_mutual_information_they_claim(task):
    x, y = task.sample(200_000, 0)
    total = 0.0
    for i in range(x.shape[1]):
        table = np.histogram2d(x[:, i], y[:, i], bins=[np.arange(-0.5, 31), np.arange(-0.5, 31)])[0] / len(x)
        total += table_mi(table)
    # The plug-in estimate is biased upwards by about (cells - 1) / 2n a coordinate: below 0.002 in all.
    assert total == pytest.approx(task.mi, abs=0.01)


def test_copula_tasks_have_the_margins_they_claim():
    beta, gamma = (task.sample(50_000, 0)[0] for task in DISCRETE_TASKS[:2])
    assert beta.mean() == pytest.approx(2 / 3, abs=0.005)
    assert gamma.mean() == pytest.approx(2, abs=0.02)
    assert gamma.var() == pytest.approx(2, abs=0.05)


def test_mixtures_of_the_order_suite_integrate_to_their_mutual_information():
    for k in (1, 4):
        mixture = Mixture(k, np.random.default_rng(k))
        c = mixture.covariance
        if k == 1:
            assert mixture.mi(0) == pytest.approx(-0.5 * np.log(1 - c[0, 0, 1] ** 2 / c[0, 0, 0] / c[0, 1, 1]))
        # In 60 x 60 bins of equal mass: 3600 cells of 400 000 samples add 0.004 nats, and blur what is narrower than they are.
        columns = [np.argsort(np.argsort(column)) * 60 // 400_000 for column in mixture.sample(400_000).T]
        table = np.zeros((60, 60))
        np.add.at(table, tuple(columns), 1 / 400_000)
        assert mixture.mi(200_000) == pytest.approx(table_mi(table), rel=0.05)


def test_clusters_of_the_consistency_suite_are_dependent():
    # In 200 x 200 cells of the plane, whatever is behind them: log ratios of two sums of four Gaussians each.
    axis = np.linspace(-7, 7, 57)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    centres = 2 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    mass = np.stack([np.exp(-0.5 * ((plane - centre) ** 2).sum(1)) for centre in centres])
    mass /= mass.sum(1, keepdims=True)
    assert four_clusters_mi() == pytest.approx(table_mi(mass.T @ mass / 4), abs=0.003)


def test_a_suite_runs_from_the_command_line(tmp_path):
    out = tmp_path / "result.json"
    answer = run("tasks/benchmark_mi.py", "suite=discrete", "seeds=1", "threads=1", f"out={out}", f"paths.runs={tmp_path}")
    assert answer.returncode == 0, answer.stderr
    assert "mean error" in answer.stdout
    result = json.loads(out.read_text())
    assert set(result["tasks"]) == {task.name for task in DISCRETE_TASKS}
    assert result["weights_sha256"] == json.loads((ROOT / "pretrained/manifest.json").read_text())["base"]["sha256"]


def test_small_runs_of_the_other_suites(tmp_path):
    from infoatlas_rl.tasks.benchmark_mi import SUITES

    options = ["seeds=1", "problems=3", "independent_sets=2", "triplets=2", "picture=null", f"paths.runs={tmp_path}"]
    cfg = compose("benchmark_mi", *options)
    for name in ("independence", "order", "gradient"):
        suite, table = SUITES[name]
        result = suite(cfg)
        assert result["suite"] == name
        assert table(result).rows


def test_atlas_suite_compares_in_every_cell(monkeypatch):
    from infoatlas_rl.tasks.suites import atlas

    monkeypatch.setattr(atlas, "SIZES", (100,))
    monkeypatch.setattr(atlas, "DIMS", (1, 3))
    result = atlas.run(compose("benchmark_mi", "problems=8"))
    assert [(c["n"], c["d"]) for c in result["cells"]] == [(100, 1), (100, 3)]
    assert "KSG" in atlas.table(result).header


def test_the_suite_of_tests_has_the_dependences_of_the_paper(monkeypatch, tmp_path):
    from infoatlas_rl.tasks.suites import testing

    monkeypatch.setattr(testing, "DIMS", (16,))
    monkeypatch.setattr(testing, "SIZES", (200,))
    monkeypatch.setattr(testing, "SLICES", 2)
    options = ["populations=2", "steps=10", f"picture={tmp_path}/testing.png", f"run={tmp_path}/run"]
    result = testing.run(compose("benchmark_mi", *options))
    cells = {cell["kind"]: cell for cell in result["cells"]}
    assert set(cells) == {"one feature", "two features", "independent coordinates"}
    # A correlation of 0.7 in every one of 16 columns, and a factor that all of 16 columns share.
    for kind in ("one feature", "independent coordinates"):
        assert cells[kind]["auc"]["independence_test"] == cells[kind]["auc"]["linear"] == 1
        assert cells[kind]["power"] == 1
    assert result["tests"] == 6
    assert set(cells["one feature"]["auc"]) == {"independence_test", "sliced", "linear", "KSG", "InfoNet", "MINE"}
    assert "Area under the ROC curve" in testing.table(result).note
    assert (tmp_path / "testing.png").stat().st_size > 10_000
    monkeypatch.setattr(testing, "_measure", None)  # an error, if a finished panel were measured again
    assert testing.run(compose("benchmark_mi", *options)) == result


def test_ablation_has_the_arms_that_differ_in_one_part(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablation, "SIZES", (100,))
    monkeypatch.setattr(ablation, "DIMS", (1,))
    result = ablation.run(compose("benchmark_mi", "ablation_steps=1", "problems=10"))
    assert len(ablation.table(result).rows) == len(result["arms"])
    assert next(iter(result["arms"])) == "Gaussian base only"
    assert len(result["arms"]) == 1 + len(ablation.ARMS)


def test_published_rows_fit_the_tables():
    assert all(len(values) == 8 for values in known.PUBLISHED["bmi"].values())
    assert all(len(values) == 5 for values in known.PUBLISHED["discrete"].values())
