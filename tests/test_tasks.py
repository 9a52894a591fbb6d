"""The entry points: configs, error messages, and the whole job on a small scale."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hydra")

import hydra
from hydra.utils import instantiate

from infoatlas_rl.baselines.infonet import load_infonet
from infoatlas_rl.benchmark import BMI_TASKS
from infoatlas_rl.maniskill.report import write_report
from infoatlas_rl.maniskill.tasks import TASKS, get_task
from tasks import update_docs
from tasks.common import CONFIGS, _check_overrides

ROOT = CONFIGS.parent
TOP_LEVEL = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        return hydra.compose(name, list(overrides))


def needs(name):
    return ["env=PickCube"] if "- env: ???" in (CONFIGS / f"{name}.yaml").read_text() else []


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_every_config_belongs_to_a_script_and_composes(name):
    assert (ROOT / "tasks" / f"{name}.py").is_file()
    assert compose(name, *needs(name)).paths.runs == "./runs"


def test_every_task_has_a_config():
    assert {path.stem for path in (CONFIGS / "env").glob("*.yaml")} == {*TASKS, "LiftPegUpright", "any"}
    for name in TASKS:
        assert get_task(**compose("discover_keystates", f"env={name}").env.task) is TASKS[name]
    further = get_task(**compose("discover_keystates", "env=LiftPegUpright").env.task)
    assert (further.env_id, further.events) == ("LiftPegUpright-v1", ())


def test_every_arm_of_the_benchmark_can_be_made():
    arms = compose("benchmark_keystates", "env=PickCube").arms
    assert list(arms) == ["infoatlas", "infonet", "mine-100", "mine-1000", "none"]
    assert [instantiate(arms[arm]).steps for arm in ("mine-100", "mine-1000")] == [100, 1000]
    for name, arm in (("infoatlas", arms.infoatlas), ("infonet", arms.infonet), ("none", arms.none)):
        assert compose("discover_keystates", "env=PickCube", f"estimator={name}").estimator == arm


@pytest.mark.parametrize(
    ("config", "node"),
    [
        ("pretrain", "model"),
        ("pretrain", "atlas"),
        ("pretrain", "pretrain"),
        ("pretrain", "calibrate"),
        ("discover_keystates", "discovery"),
        ("pretrain_infonet", "model"),
        ("pretrain_infonet", "training"),
    ],
)
def test_configs_state_all_defaults_as_they_are_in_the_code(config, node):
    given = compose(config, *needs(config))[node]
    built = instantiate(given)
    assert set(given) - {"_target_"} == {field.name for field in fields(built)}
    assert built == type(built)()


def test_quick_experiment_is_smaller():
    assert compose("discover_keystates", "env=PickCube", "experiment=quick").demos.count == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=Foo"], "unknown env 'Foo'; accepted: LiftPegUpright, PegInsertion, PickCube, StackCube, any"),
        ([], r"say which env: env=LiftPegUpright\|PegInsertion\|PickCube\|StackCube\|any"),
        (
            ["env=PickCube", "discovery.epoch=3"],
            "unknown option 'discovery.epoch'; accepted in discovery: concepts, delta, epochs, samples",
        ),
        (["env=PickCube", "epochs=3"], "unknown option 'epochs'; accepted on the top level: .*discovery"),
        (["env=PickCube", "experiment=huge"], "unknown experiment 'huge'; accepted: quick"),
    ],
)
def test_wrong_options_list_the_accepted_ones(arguments, message):
    with pytest.raises(SystemExit, match=message):
        _check_overrides("discover_keystates", arguments)


def test_good_options_pass():
    _check_overrides("discover_keystates", ["env=PickCube", "discovery.epochs=3", "hydra.verbose=true", "paths.root=/tmp"])


def run(*command, cwd=ROOT):
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.simulator
def test_the_whole_job_and_its_resumption(tmp_path):
    command = [
        "tasks/discover_keystates.py",
        "env=PickCube",
        f"paths.root={tmp_path}",
        "demos.count=20",
        "discovery.epochs=2",
        "profile.slices=2",
    ]
    first = run(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "evenly spaced" in first.stdout
    out = tmp_path / "runs/keystates/PickCube-default"
    result = json.loads((out / "keystates.json").read_text())
    arrays = np.load(out / "keystates.npz")
    assert arrays["step"].shape == (20, 4)
    assert arrays["states"].shape == (20, 4, 100)
    assert arrays["concept"].tolist() == [0, 1, 2, 3]
    assert str(arrays["weights_sha256"]) == result["weights_sha256"]
    assert json.loads(str(arrays["config"])) == result["config"]
    for index, episode in enumerate(result["episodes"]):
        steps = [key_state["step"] for key_state in episode["key_states"]]
        assert steps == arrays["step"][index].tolist()
        assert max(steps) < episode["length"]
    assert len(result["weights_sha256"]) == 64
    assert result["config"]["discovery"]["epochs"] == 2
    for picture in ("timeline", "mi_profile", "contact_sheet"):
        assert (out / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "keystates.gif").read_bytes().startswith(b"GIF8")
    logged = {row["name"] for row in csv.DictReader((out / "log.csv").open())}
    assert logged == {"information", "moved", "seconds_per_step"}
    assert len(result["mi_profile"]["mi"]) == len(result["mi_profile"]["time"])
    report = (out / "report.html").read_text()
    assert report.count("data:image/") == 4
    assert "http" not in report.replace("data:image", "")
    assert list((out / "tensorboard").iterdir())

    again = run(*command)
    assert "20 demonstrations are there already" in again.stdout
    assert "at epoch 2" in again.stdout
    assert json.loads((out / "keystates.json").read_text())["episodes"] == result["episodes"]

    other = run(*command, "discovery.delta=3")
    assert other.returncode == 1
    assert "delta: 2 there, 3 here" in other.stderr
    assert "resume=false" in other.stderr

    # Any ManiSkill file, without knowing its task.
    source = next((tmp_path / "demos").rglob("trajectory.h5"))
    options = [f"demos.path={source}", f"paths.root={tmp_path}", "discovery.epochs=1", "profile.slices=2"]
    answer = run("tasks/discover_keystates.py", "env=any", *options, "env.concepts=2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "20 demonstrations of PickCube from" in answer.stdout

    # The comparison of estimators, and its cached runs.
    out = tmp_path / "keystates.json"
    options = [f"demos.path={source}", f"paths.root={tmp_path}", f"out={out}", "discovery.epochs=1", "timed_steps=1"]
    command = [
        "tasks/benchmark_keystates.py",
        "env=PickCube",
        "only=[infoatlas,none]",
        "seeds=[0,1]",
        "profile.slices=2",
        *options,
    ]
    answer = run(*command)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    arms = json.loads(out.read_text())["PickCube"]
    assert set(arms) == {"infoatlas", "none", "profile maxima", "even", "gripper changes", "velocity minima", "last state"}
    assert {"f1", "precision", "recall", "by_event", "median_step_error", "phase_std", "seconds_per_step"} <= set(
        arms["infoatlas"]
    )
    assert arms["infoatlas"]["seeds"] == [0, 1]
    assert run("tasks/benchmark_keystates.py", "env=PickCube", "only=[foo]", *options).returncode == 1


def test_key_states_of_plain_arrays(tmp_path):
    rng = np.random.default_rng(0)
    corner = rng.integers(10, 20, size=30)
    paths = {
        f"run{i}": np.concatenate([np.linspace([0, 0], [1, 0], c), np.linspace([1, 0], [1, 1], 30 - c)])
        + 0.005 * rng.normal(size=(30, 2))
        for i, c in enumerate(corner)
    }
    np.savez(tmp_path / "paths.npz", **paths)
    options = [f"demos.path={tmp_path / 'paths.npz'}", f"paths.root={tmp_path}", "env.concepts=2", "discovery.epochs=4"]
    answer = run("tasks/discover_keystates.py", "env=any", "estimator.k=2", "profile.slices=2", "profile.k=2", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = np.load(tmp_path / "runs/keystates/any-default/keystates.npz")["step"]
    assert (np.abs(found[:, 0] - corner) <= 2).mean() > 0.9
    missing = run("tasks/discover_keystates.py", "env=any", f"paths.root={tmp_path}")
    assert missing.returncode == 1
    assert "env=any needs demos.path=FILE" in missing.stderr


BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.mark.skipif(BROWSER is None, reason="no headless browser: apt-get install chromium")
def test_the_report_shows_its_pictures_in_a_browser(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.imsave(tmp_path / "red.png", np.full((60, 200, 3), [1.0, 0, 0]))
    sections = [("A table", "of one row", (["a", "b"], [["<1>", "2"]])), ("A picture", "red", tmp_path / "red.png")]
    write_report(tmp_path / "report.html", "Key states of <nothing>", "An introduction.", sections)
    (tmp_path / "red.png").unlink()  # the report holds it
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    page = (tmp_path / "report.html").as_uri()
    shot = [f"--screenshot={tmp_path / 'shot.png'}", "--window-size=800,800", page]
    subprocess.run([BROWSER, *options, *shot], check=True, capture_output=True, timeout=120)
    shown = plt.imread(tmp_path / "shot.png")[..., :3]
    assert ((shown[..., 0] > 0.9) & (shown[..., 1:] < 0.1).all(-1)).sum() > 10_000
    text = subprocess.run([BROWSER, *options, "--dump-dom", page], check=True, capture_output=True, text=True, timeout=120).stdout
    assert "Key states of &lt;nothing&gt;" in text


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


def test_benchmark_has_the_truths_of_the_paper():
    published = [0.59, 1.02, 0.45, 0.18, 1.02, 1.02, 1.71, 0.41]
    assert [round(task.mi, 2) for task in BMI_TASKS] == published


def test_benchmark_measures_the_released_weights(tmp_path):
    out = tmp_path / "bmi.json"
    answer = run("tasks/benchmark_mi.py", "suite=bmi", "n=2000", "seeds=1", f"out={out}", f"paths.root={tmp_path}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    result = json.loads(out.read_text())
    assert set(result["tasks"]) == {task.name for task in BMI_TASKS}
    # One seed at n = 2000: 0.050 here, and 0.058 with a standard deviation of 0.010 over eight seeds.
    assert result["mae"] < 0.09
    assert "MINE" in answer.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "docs/results").glob("*.json")), ids=lambda path: path.stem)
def test_committed_results_belong_to_the_released_weights(path):
    manifest = json.loads((ROOT / "pretrained/manifest.json").read_text())
    content = json.loads(path.read_text())
    results = [content]
    if path.stem in ("keystates", "table2"):  # {env: {arm: result}}
        results = [arm for arms in content.values() for arm in arms.values()]
    elif path.stem in ("policies", "scale", "rl"):  # {env: result}
        results = list(content.values())
    for result in results:
        assert result["weights_sha256"] == manifest["base"]["sha256"]


def test_committed_accuracy_is_within_its_target():
    assert json.loads((ROOT / "docs/results/bmi.json").read_text())["mae"] <= 0.06


def test_figures_in_the_documentation_are_those_of_the_results():
    assert update_docs.outdated() == []


@pytest.mark.parametrize("task", BMI_TASKS, ids=lambda task: task.name)
def test_samplers_agree_with_the_reference_samples(task):
    content = json.loads((ROOT / "tests/data/bmi_reference.json").read_text())
    levels, reference = np.array(content["levels"]), content["tasks"][task.origin]
    assert task.mi == pytest.approx(reference["mi"], abs=1e-6)
    sample = task.sample(15_000, 0)
    for side, ours in zip("xy", sample, strict=True):
        for i, quantiles in enumerate(reference["quantiles"][side]):
            at = np.searchsorted(np.sort(ours[:, i]), quantiles) / len(ours)
            # Two samples of 15 000: the Kolmogorov-Smirnov distance exceeds 0.025 with probability below 1e-4.
            assert np.abs(at - levels).max() < 0.025
    # Second moments of bounded functions of all coordinates tell the dependence; the noise of a correlation is 0.012.
    assert np.abs(_moments(*sample) - np.array(reference["moments"])).max() < 0.06


def _moments(x, y):
    z = np.hstack([x, y])
    z = np.tanh(z / np.median(np.abs(z)))
    return np.nan_to_num(np.corrcoef(np.hstack([z, z**2, z[:, :1] * z]).T))


def test_doctor_finds_no_fault_here():
    answer = run("-m", "infoatlas_rl.doctor")
    assert answer.returncode == 0, answer.stdout
    assert "no faults" in answer.stdout


def test_doctor_says_the_fix_for_numpy_2(monkeypatch):
    from infoatlas_rl import doctor

    monkeypatch.setattr(doctor, "_version", lambda package: "2.1.0" if package == "numpy" else "0.1.1")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    finding = doctor.check_numpy_mplib()
    assert finding.state == doctor.FAULT
    assert finding.fix == "pip install 'numpy<2'"


def test_doctor_survives_a_check_that_breaks(monkeypatch):
    from infoatlas_rl import doctor

    def check_nothing():
        raise OSError("boom")

    monkeypatch.setattr(doctor, "CHECKS", (check_nothing,))
    assert doctor.examine() == [doctor.Finding("nothing", doctor.FAULT, "OSError: boom")]


def test_paths_are_relative_to_where_one_stands(tmp_path):
    assert Path(compose("collect_demos", "env=PickCube").paths.demos) == Path("demos")
