"""The benchmark of the loss: it runs, goes on where it was stopped, and says what it needs."""

import json
import sys
from functools import partial

import pytest

pytest.importorskip("hydra")

from tests.conftest import compose


def test_a_short_run_is_collected_and_not_repeated(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    from infoatlas_rl.tasks.suites import loss, loss_problems

    # One epoch: what a probe finds is not looked at here.
    monkeypatch.setattr(loss_problems, "probe_r2", partial(loss_problems.probe_r2, epochs=1))
    (tmp_path / "run").mkdir()
    # Times are there already: measuring them takes longer than all the rest.
    (tmp_path / "run/times.json").write_text('{"views": {"infoatlas": 3.0, "InfoNCE": 1.0}, "removal": {"infoatlas": 9.0}}')
    paths = [f"out={tmp_path}/loss.json", f"picture={tmp_path}/loss.png", f"run={tmp_path}/run"]
    options = ["steps=10", "seeds=[0]", "methods=[none,infoatlas,adversary,InfoNCE]", "only=[views-6,tanh-1]"]
    loss.run(compose("benchmark_loss", *options, *paths))
    assert "InfoNCE" in capsys.readouterr().out
    result = json.loads((tmp_path / "loss.json").read_text())
    views, removal = result["problems"]["views-6"]["methods"], result["problems"]["tanh-1"]["methods"]
    assert set(views) == {"infoatlas", "InfoNCE"}
    assert set(removal) == {"none", "infoatlas", "adversary"}
    assert set(removal["adversary"]["settings"]) == {"0.3", "1", "3"}
    assert 0.1 < views["infoatlas"]["settings"]["1"]["linear"]["mean"] <= 1
    assert (tmp_path / "loss.png").stat().st_size > 10_000
    monkeypatch.setattr(loss.Runs, "do", None)  # an error, if anything were run again
    assert loss.run(compose("benchmark_loss", *options, *paths))["problems"] == result["problems"]
    with pytest.raises(ValueError, match="only: there is no 'cifar'; choose of views-16, views-6"):
        loss.run(compose("benchmark_loss", "only=[cifar]", *paths))


def test_problems_beside_the_main_ones_run(tmp_path, monkeypatch, capsys):
    """Two halves of a code, and values against a truth: a few steps."""
    pytest.importorskip("sklearn")
    from infoatlas_rl.tasks.suites import loss, loss_problems

    monkeypatch.setattr(loss_problems, "probe_accuracy", partial(loss_problems.probe_accuracy, epochs=1))
    (tmp_path / "times.json").write_text("{}")
    paths = [f"out={tmp_path}/loss.json", f"picture={tmp_path}/loss.png", f"run={tmp_path}"]
    options = ["steps=10", "seeds=[0]", "methods=[none,infoatlas]", "only=[halves,mixed-128,gaussian-128,curved-128]"]
    problems = loss.run(compose("benchmark_loss", *options, *paths))["problems"]
    assert "without the problem robot" not in capsys.readouterr().out
    halves = problems["halves"]["methods"]["infoatlas"]["settings"]["0.3"]
    assert 0 <= halves["leak"]["mean"] <= 1
    for name in ("mixed-128", "gaussian-128", "curved-128"):
        value = problems[name]["methods"]["infoatlas"]["settings"]["1"]
        assert 0.05 < value["first"]["mean"] < 1.4  # log 4 is the most for four classes
        assert value["error"]["mean"] < 1


def test_without_scikit_learn_one_line_says_what_to_install(tmp_path, monkeypatch):
    from infoatlas_rl.tasks.suites import loss

    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(RuntimeError, match=r"needs sklearn: pip install"):
        loss.run(compose("benchmark_loss", "only=[labels]", f"run={tmp_path}", f"out={tmp_path}/o", f"picture={tmp_path}/p"))
