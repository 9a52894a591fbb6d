"""The generated sections of README and docs: every figure from a committed file of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from infoatlas_rl.estimator import model
from infoatlas_rl.estimator.model import read_weights
from infoatlas_rl.files import sha256
from infoatlas_rl.maniskill.states import LAYOUT
from infoatlas_rl.maniskill.tasks import TASKS
from infoatlas_rl.policies.evaluation import interval_of_runs
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import released_policy
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.benchmark_mi import SUITES
from infoatlas_rl.tasks.suites import generation, keystates, loss_report, peers, rl, scale, slicing, table2
from infoatlas_rl.tasks.suites.known import PUBLISHED
from infoatlas_rl.weights import hashes_of_critic, pretrained_folder, released, weights_hash

ROOT = Path(__file__).resolve().parents[2]
PAPER_TABLE2 = {"PickCube": (94.2, 82.0), "StackCube": (68.2, 37.0), "PegInsertion": (72.4, 18.3)}
"""Seen and unseen success (%) of the InfoAtlas paper's Table 2, in ManiSkill 2."""
RESULTS = ROOT / "docs" / "results"
LINK = "docs/results/{}.json"
OF_THE_CRITIC = ("generation", "gradient", "keystates", "loss", "pairs", "raw", "sizes", "table2", "testing", "time")
"""Results that do not depend on what the calibrated head has learned."""


def _result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _source(result: dict[str, Any], name: str) -> str:
    """The command, and where it ran; with which weights, if not with those that are released now."""
    threads = result["machine"]["threads"]
    where = f"version {result['version']}, {threads} CPU thread{'' if threads == 1 else 's'}"
    released_now = hashes_of_critic("base") if name in OF_THE_CRITIC else {weights_hash("base")}
    if result.get("weights_sha256") not in {None, *released_now}:
        where += f", earlier estimator weights `{result['weights_sha256'][:8]}`"
    return f"`{result['command']}`, {where} ([result]({LINK.format(name)}))."


def _sources(content: dict[str, Any], name: str, about: Callable[[dict[str, Any]], str], of: Callable[[Any], Any]) -> str:
    """A line for every task of a file of results."""
    return "\n".join(f"- {env}: {about(entry)}{_source(of(entry), name)}" for env, entry in content.items())


def suite(name: str) -> str:
    """A suite of ``benchmark_mi``."""
    result = _result(name)
    text = SUITES[name][1](result).markdown()
    return f"{text}{' ' if SUITES[name][1](result).note else chr(10) * 2}{_source(result, name)}"


def extra(name: str, table: Callable[[dict[str, Any]], Table]) -> str:
    """A further table of a suite of ``benchmark_mi``."""
    result = _result(name)
    return f"{table(result).markdown()} {_source(result, name)}"


def headline() -> str:
    """The figures to know."""
    bmi, time = _result("bmi"), _result("time")
    many, few = _result("peers")["groups"][:2]
    unseen = [entry["unseen"] for entry in _result("policies").values()]

    def error(method: str) -> float:
        pairs = zip(PUBLISHED["bmi"][method], bmi["tasks"].values(), strict=True)
        return sum(abs(value - task["truth"]) for value, task in pairs) / len(bmi["tasks"])

    def run_here(group: dict[str, Any]) -> str:
        errors = {name: row["mae"] for name, row in group["estimators"].items()}
        ours = errors.pop(peers.OURS)
        best = min(errors, key=errors.__getitem__)
        return f"{ours:.3f} nats with {group['n']} samples ({best}, the best of {len(errors)} others, {errors[best]:.3f})"

    others = {method: error(method) for method in PUBLISHED["bmi"]}
    own = others.pop("InfoAtlas (paper)")
    best = min(others, key=others.__getitem__)
    accuracy = f"the paper's own network {own:.3f}, {best}, the best of {len(others)} others, {others[best]:.3f}"
    ms, threads = 1000 * time["seconds"]["loss"], time["machine"]["threads"]
    solved = f"{sum(r['k'] for r in unseen)} of {sum(r['n'] for r in unseen)}"
    return "\n".join(
        [
            f"- **{bmi['mae']:.3f} nats** mean error on the eight tasks of the paper's Table 1 ({accuracy}; published figures): "
            "[measurements](docs/benchmarks.md).",
            f"- On all {len(many['truth'])} tasks of the BMI benchmark, run here: {run_here(many)}, {run_here(few)}: "
            "[every estimator in one run](docs/benchmarks.md#every-estimator-in-one-run).",
            f"- **{ms:.0f} ms** for the loss, forward and backward, of 100 samples of 100 dimensions on {threads} CPU threads: "
            "[speed](docs/benchmarks.md#time-and-memory).",
            f"- **{solved}** unseen PickCube, StackCube and PegInsertion scenes solved by the released policies: "
            "[policies](docs/policies.md).",
        ]
    )


def key_states(*, whole: bool) -> str:
    content = _result("keystates")
    content = {env: content[env] for env in sorted(content, key=[*TASKS, *content].index)}
    if not whole:
        note = (
            f"Mean of up to three seeds; [all arms and figures](docs/keystates.md#results), [result]({LINK.format('keystates')})."
        )
        return replace(keystates.summary_table(content), note=note).markdown()
    sources = [f"- {env}: {keystates.measured_on(arms)}.{_made_by(arms)}" for env, arms in content.items()]
    return "\n\n".join([*(keystates.env_table(env, arms).markdown() for env, arms in content.items()), "\n".join(sources)])


def _made_by(arms: dict[str, Any]) -> str:
    """Which command made which rows of a task."""
    parts = [f"\n  - {', '.join(names)}: {_source(result, 'keystates')}" for names, result in keystates.runs(arms)]
    return "".join(parts)


def policies_short() -> str:
    content = _result("policies")
    rows = []
    for env in TASKS:
        cells = [f"{r['rate']:.1%} ({r['k']} of {r['n']})" for r in (content[env]["seen"], content[env]["unseen"])]
        rows.append([env, *cells, " / ".join(f"{rate:.1f}%" for rate in PAPER_TABLE2[env])])
    header = ["success at any step", "seen scenes", "unseen scenes", "InfoAtlas paper (ManiSkill 2), seen / unseen"]
    return Table(header, rows, f"[Intervals, and all else](docs/policies.md), [result]({LINK.format('policies')}).").markdown()


def policies() -> str:
    """Released policies."""
    rows = []
    for env in TASKS:
        entry = _result("policies").get(env)
        if entry is None:
            continue
        cells = []
        for split in ("seen", "unseen"):
            r = entry[split]
            low, high = r["wilson95"]
            cells.append(f"**{r['rate']:.1%}** ({r['k']} of {r['n']}; {low:.1%} to {high:.1%})")
            cells.append(f"{r['k_at_end'] / r['n']:.1%}")
        seen, unseen = PAPER_TABLE2[env]
        minutes = f"{entry['training']['seconds'] / 60:.1f} min"
        none = _result("table2")[env]["none"]
        without = " / ".join(f"{none[split]['k'] / none[split]['n']:.1%}" for split in ("seen", "unseen"))
        rows.append([env, cells[0], cells[1], cells[2], cells[3], without, f"{seen:.1f}% / {unseen:.1f}%", minutes])
    header = [
        "env",
        "seen scenes",
        "at the end",
        "unseen scenes",
        "at the end",
        "ours without key states, seen / unseen",
        "InfoAtlas paper (ManiSkill 2), seen / unseen",
        "gradient steps take",
    ]
    sources = []
    for env, entry in _result("policies").items():
        r = entry["unseen"]
        training = f"{entry['training']['steps']} training steps at {entry['training']['steps_per_s']} per s on one thread"
        sources.append(f"- {env}: {r['demonstrations']} demonstrations, {training}; {_source(r, 'policies')}")
    return Table(header, rows, "\n".join(sources)).markdown()


def arms(name: str = "table2", *, further: bool = False) -> str:
    """Policies with the key states of every arm: on the three tasks, or on further ones."""
    found = _result(name)
    content = {env: found[env] for env in sorted(found, key=[*TASKS, *found].index) if (env not in TASKS) == further}
    table = table2.table(content)

    def about(entry: dict[str, Any]) -> str:
        r = next(iter(entry.values()))
        return f"{r['demonstrations']} demonstrations, {r['training_steps']} training steps; "

    return f"{table.markdown()}\n{_sources(content, name, about, lambda entry: next(iter(entry.values())))}"


def demonstrations() -> str:
    content = _result("scale")
    return f"{scale.table(content).markdown()}\n\n{_sources(content, 'scale', lambda _: '', lambda entry: entry)}"


def reinforcement() -> str:
    parts = [f"{rl.table(title, entry, most=5).markdown()}\n\n{_source(entry, 'rl')}" for title, entry in _result("rl").items()]
    return "\n\n".join(parts)


def reinforcement_short() -> str:
    """What key states give where all arms have the same demonstrations, after numbers of steps that all of them have."""
    ending = ", sparse reward, demonstrations in every batch"
    entries = {title.removesuffix(ending): entry["arms"] for title, entry in _result("rl").items() if title.endswith(ending)}
    names = {"plain SAC": "none", "SAC with even key states": "evenly spaced", "SAC with key states": "**InfoAtlas**"}
    every = [arms[arm] for arms in entries.values() for arm in names if arm in arms]
    shown = [steps for steps in every[0]["curve"] if all(len(r["curve"].get(steps, [])) == len(r["seeds"]) for r in every)]
    rows = []
    for env, arms in entries.items():
        for arm in (arm for arm in names if arm in arms):
            cells = []
            for steps in shown:
                solved = arms[arm]["curve"][steps]
                k, n = sum(solved), arms[arm]["n"] * len(solved)
                low, high = interval_of_runs(solved, arms[arm]["n"])
                cells.append(f"{k / n:.0%} ({k} of {n}; {low:.0%} to {high:.0%})")
            rows.append([env, names[arm], *cells])
    scenes = f"Fresh scenes, {every[0]['n']} for every seed."
    note = f"{scenes} [All curves](docs/policies.md#reinforcement-learning), [result]({LINK.format('rl')})."
    return Table(["", "key states", *(f"after {int(steps):,} steps" for steps in shown)], rows, note).markdown()


def training(part: int) -> str:
    """A table of the suite ``loss``."""
    result = _result("loss")
    return f"{loss_report.tables(result)[part].markdown()}\n\n{_source(result, 'loss')}"


def state_layout() -> str:
    rows, start = [], 0
    for name, size, meaning in LAYOUT:
        span = f"{start}" if size == 1 else f"{start} to {start + size - 1}"
        rows.append([span, f"`{name}`", meaning])
        start += size
    return Table(["index", "name", "meaning"], rows).markdown()


def weights() -> str:
    rows = []
    for name, entry in released(model.FORMAT).items():
        path = pretrained_folder() / entry["file"]
        network, record = read_weights(path)
        size = path.stat().st_size / 2**20
        parameters = sum(p.numel() for p in network.parameters())
        rows.append(
            [
                f"`{name}`",
                f"{parameters:,}",
                f"{size:.1f} MB",
                f"{record['problems']:,} problems in {record['steps']:,} steps",
                f"{record['hours']:.1f} h + {record['calibration_hours']:.1f} h, {record['processes']} CPU processes",
                f"`{entry['sha256'][:16]}...`",
            ]
        )
    return Table(["name", "parameters", "file", "training", "time", "sha256"], rows).markdown()


def policy_files() -> str:
    rows = []
    for name, task in TASKS.items():
        path = released_policy(task.name)
        policy, record = KeyStatePolicy.load_with_record(path, name)
        parameters = sum(p.numel() for p in policy.parameters())
        keystates, training = record["keystates"], record["config"]["training"]
        what = f"{policy.config.key_states} by {keystates['arm']}, weights `{keystates['weights_sha256'][:8]}...`"
        data = f"{record['demonstrations']['count']} demonstrations, {training['steps']} steps, seed {training['seed']}"
        file = f"`policies/{path.name}`, {parameters:,} parameters, {path.stat().st_size / 2**20:.1f} MB"
        rows.append([f"`{task.env_id}`", file, what, data, f"{task.horizon}", f"`{sha256(path)[:16]}...`"])
    return Table(["task", "file", "key states", "training", "horizon", "sha256"], rows).markdown()


def generated(part: str) -> str:
    """Demonstrations from a few."""
    content = _result("generation")
    if part == "rates":
        return f"{generation.rate_table(content).markdown()}\n\n{_generated_by(content, 'rates')}"
    said = {
        "alone": "Policies of the few demonstrations alone:",
        "generated": "Policies of demonstrations that were generated from them, cut at key states:",
        "generated-even": "Policies of demonstrations that were generated from them, cut evenly:",
    }
    measured = {how: text for how, text in said.items() if any(how in entry for entry in content.values())}
    sources = [f"{text}\n\n{_generated_by(content, how)}" for how, text in measured.items()]
    return "\n\n".join([generation.policy_table(content).markdown(), *sources])


def _generated_by(content: dict[str, Any], part: str) -> str:
    measured = {env: entry for env, entry in content.items() if part in entry}
    return _sources(measured, "generation", lambda entry: "", lambda entry: entry[part]["made"])


def generated_short() -> str:
    """What a policy learns from a few demonstrations."""
    content = _result("generation")
    rows = []
    for env in TASKS:
        alone, more = (content[env][how]["5"] for how in ("alone", "generated"))
        rows.append([env, *(f"{100 * r['k'] / r['n']:.0f} % ({r['k']} of {r['n']})" for r in (alone, more))])
    counts = sorted({content[env]["generated"]["made"]["generated"] for env in TASKS})
    note = (
        f"Unseen scenes, one training for every hundred; {', '.join(map(str, counts))} generated demonstrations. "
        f"[Result]({LINK.format('generation')})."
    )
    return Table(["trained on", "five demonstrations", "those generated from the five"], rows, note).markdown()


SECTIONS: dict[str, Callable[[], str]] = {
    **{name: partial(suite, name) for name in SUITES},
    "peers-tasks": partial(extra, "peers", peers.task_table),
    "slicing-sweep": partial(extra, "slicing", slicing.sweep_table),
    "headline": headline,
    "keystates": partial(key_states, whole=False),
    "keystates-maxmi": lambda: keystates.maxmi_table(_result("keystates")).markdown(),
    "keystates-all": partial(key_states, whole=True),
    "policies": policies,
    "policies-short": policies_short,
    "table2": arms,
    "table2-further": partial(arms, further=True),
    "raw": partial(arms, "raw"),
    "scale": demonstrations,
    "rl": reinforcement,
    "rl-short": reinforcement_short,
    "generation-short": generated_short,
    "generation-rates": partial(generated, "rates"),
    "generation-policies": partial(generated, "policies"),
    "loss-maximise": partial(training, 0),
    "loss-robot": partial(training, 1),
    "loss-minimise": partial(training, 2),
    "loss-halves": partial(training, 3),
    "loss-value": partial(training, 4),
    "loss-time": partial(training, 5),
    "state-layout": state_layout,
    "weights": weights,
    "policy-files": policy_files,
}
