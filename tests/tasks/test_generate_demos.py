"""``tasks/generate_demos.py`` and what is gathered of its comparison."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("hydra")
pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.tasks.suites import generation
from infoatlas_rl.weights import weights_hash
from tests.conftest import compose, refusal, run, with_demonstrations

SMALL = ["discovery.epochs=2", "discovery.samples=200", "generate.processes=1", "threads=1"]


@pytest.mark.simulator
def test_the_whole_job(demo_root, tmp_path):
    folder = with_demonstrations(tmp_path, demo_root) / "demos/PickCube-v1"
    options = ["env=PickCube", "demos.count=3", "generate.count=3", f"paths.root={tmp_path}", *SMALL]
    answer = run("tasks/generate_demos.py", *options)
    assert answer.returncode == 0, answer.stderr
    assert "moves with" in answer.stdout
    path = folder / "generated" / "3-keystates" / "trajectory.h5"
    assert f"demos.path={path}" in answer.stdout
    assert len(load_demonstrations(path, get_task("PickCube"))) == 3
    again = run("tasks/generate_demos.py", *options)
    assert "3 demonstrations are there already" in again.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["cuts=halves"], "cuts has to be one of keystates, velocity, even, events, none, not 'halves'"),
        (["demos.path=nowhere.h5"], "nowhere.h5: no such file"),
        (["discovery.concepts=0"], "concepts has to be at least 1, not 0"),
        (["generate.count=0"], "generate.count has to be at least 1, not 0"),
        (["generate.processes=two"], "generate.processes has to be an integer"),
    ],
)
def test_mistakes_are_answered_in_one_line(options, message, tmp_path):
    assert message in refusal("generate_demos", "env=PickCube", f"paths.root={tmp_path}", *options)
    assert not list(tmp_path.iterdir())


def test_rates_and_policies_are_gathered(tmp_path, capsys):
    options = [f"run={tmp_path}/run", f"out={tmp_path}/out.json", "seeds=[0,1]", "counts=[1,5]", "scenes=10", "only_collect=true"]
    cfg = compose("benchmark_generation", "env=PickCube", *options)
    jobs = generation._jobs(cfg)
    # All arms at five demonstrations, two of them at one.
    assert len(jobs) == 2 * (len(generation.ARMS) + len(generation.FEW))
    with pytest.raises(ValueError, match="nothing has been run"):
        generation.run(cfg)
    for job in jobs:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        solved = list(range(8 + job.seed if job.arm == "infoatlas" else 5))
        rate = {"solved": solved, "scenes": 10, "at_once": solved[:4], "weights_sha256": weights_hash("base")}
        job.path.write_text(json.dumps(rate))
    for how, k in (("generated", 9), ("generated-even", 7), ("alone", 2)):
        folder = tmp_path / "run" / f"{how}-5-0"
        folder.mkdir()
        episodes = [{"seed": seed, "success": seed < k} for seed in range(10)]
        (folder / "unseen.json").write_text(json.dumps({"episodes": episodes}))
    generation.run(cfg)
    content = json.loads((tmp_path / "out.json").read_text())["PickCube"]
    assert content["rates"]["infoatlas"]["5"] == {
        "seeds": [0, 1],
        "k_by_seed": [8, 9],
        "at_once_by_seed": [4, 4],
        "n": 10,
    }
    assert content["generated"]["5"]["k"] == 9
    assert content["generated"]["made"]["generated"] == cfg.generated
    said = capsys.readouterr().out
    assert "40 ± 0 % (85 %)" in said
    assert "20.0 % (2 of 10; 6 to 51)" in said
    assert content["generated-even"]["5"]["k"] == 7
    assert re.search(r"yes, cut evenly +70.0 % \(7 of 10", said)
    # What is left out keeps its figures, and what they were made with.
    cfg.only = ["rates", "alone"]
    jobs[0].path.write_text(json.dumps(rate | {"solved": []}))
    (tmp_path / "run" / "generated-5-0" / "unseen.json").unlink()
    generation.run(cfg)
    kept = json.loads((tmp_path / "out.json").read_text())["PickCube"]
    assert kept["generated"] == content["generated"]
    assert kept["rates"] != content["rates"]
    assert kept["rates"]["made"]["weights_sha256"] == weights_hash("base")
    jobs[0].path.write_text(json.dumps(rate | {"weights_sha256": "of others"}))
    with pytest.raises(ValueError, match="other InfoAtlas weights; remove it"):
        generation.run(cfg)
