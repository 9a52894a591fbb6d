"""Write the figures of README.md and docs/ from the committed results.

    python tasks/update_docs.py            # rewrite the marked sections
    python tasks/update_docs.py check=true # fail where one is out of date

A section stands between ``<!-- figures: NAME -->`` and ``<!-- end -->``; everything between is generated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl.estimator.model import read_weights
from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.maniskill.states import LAYOUT
from infoatlas_rl.maniskill.tasks import TASKS
from infoatlas_rl.tasks.options import hydra_main
from infoatlas_rl.tasks.suites.known import PUBLISHED
from infoatlas_rl.tasks.suites.order import INFONET
from infoatlas_rl.weights import pretrained_folder, released

ROOT = Path(__file__).resolve().parents[1]
PAPER_TABLE2 = {"PickCube": (94.2, 82.0), "StackCube": (68.2, 37.0), "PegInsertion": (72.4, 18.3)}
"""Seen and unseen success (%) of the InfoAtlas paper's Table 2, in ManiSkill 2."""
RESULTS = ROOT / "docs" / "results"
FILES = ("README.md", "docs/benchmarks.md", "docs/keystates.md", "docs/policies.md", "docs/state.md", "pretrained/README.md")


def _result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _source(result: dict[str, Any], name: str) -> str:
    """The command, and where it ran."""
    threads = result["machine"]["threads"]
    where = f"version {result['version']}, {threads} CPU thread{'' if threads == 1 else 's'}"
    return f"`{result['command']}`, {where} ([result](docs/results/{name}.json))."


def bmi() -> str:
    return _known("bmi", 2)


def discrete() -> str:
    return _known("discrete", 3)


def _known(suite: str, digits: int) -> str:
    result = _result(suite)
    tasks = result["tasks"]
    truth = [task["truth"] for task in tasks.values()]
    rows = [["truth", *(f"{value:.{digits}f}" for value in truth), ""]]
    ours = [f"**{task['mean']:.{digits}f}**" for task in tasks.values()]
    rows.append(["**infoatlas-rl**", *ours, f"**{result['mae']:.3f}**"])
    bounds = [f"{task['bound']:.{digits}f}" for task in tasks.values()]
    rows.append(["its bound, uncalibrated", *bounds, f"{result['mae_bound']:.3f}"])
    for method, values in PUBLISHED[suite].items():
        mae = sum(abs(v - t) for v, t in zip(values, truth, strict=True)) / len(truth)
        rows.append([method, *(f"{value:.{digits}f}" for value in values), f"{mae:.3f}"])
    text = _table(["nats", *tasks, "mean error"], rows)
    note = f"n = {result['n']}, mean of {len(result['seeds'])} seeds; the rows below ours are published figures."
    coverage = f"The 90 % interval covers the truth in {result['coverage']:.0%}."
    return f"{text}\n\n{note} {coverage} {_source(result, suite)}"


def atlas() -> str:
    result = _result("atlas")
    rows = []
    for c in result["cells"]:
        errors = [f"{c[f'mae_{name}']:.3f}" for name in ("ours", "bound", "ksg", "gaussian_copula")]
        ranks = [f"{c[f'rank_{name}']:.3f}" for name in ("ours", "ksg", "gaussian_copula")]
        rows.append([str(c["n"]), str(c["d"]), f"{c['mean_truth']:.2f}", *errors, *ranks, f"{c['coverage']:.0%}"])
    header = [
        "n",
        "d",
        "mean truth",
        "error: ours",
        "our bound",
        "KSG",
        "Gaussian copula",
        "rank: ours",
        "KSG",
        "Gaussian copula",
    ]
    total = len(result["cells"])
    note = (
        f"{result['problems']} problems a cell, mean absolute error in nats and rank correlation with the truth. The error is "
        f"{result['mae_ratio']:.2f} of that of the better of KSG (k = 5) and the Gaussian copula on average, and lower than both "
        f"in {result['cells_with_lower_mae']} of {total} cells; the rank correlation is above KSG's in "
        f"{result['cells_with_higher_rank']}; the 90 % interval covers {result['coverage']:.1%}."
    )
    return _table([*header, "covered"], rows) + f"\n\n{note} {_source(result, 'atlas')}"


def independence() -> str:
    result = _result("independence")
    rows = [[str(c["n"]), str(c["d"]), f"{c['mean']:.4f}", f"{c['cross_fitted']:+.4f}"] for c in result["cells"]]
    table = _table(["n", "d", "calibrated estimate", "cross-fitted bound"], rows)
    return f"{table}\n\nMean of {result['sets']} data sets, nats. {_source(result, 'independence')}"


def order() -> str:
    result = _result("order")
    rows = [["**infoatlas-rl**", *(f"**{100 * row['accuracy']:.1f}**" for row in result["rows"])]]
    rows.append(["true log ratio, same samples", *(f"{100 * row['oracle']:.1f}" for row in result["rows"])])
    rows.append(["InfoNet", *(f"{value:.1f}" for value in INFONET)])
    table = _table(["% right, K =", *(str(row["k"]) for row in result["rows"])], rows)
    return f"{table}\n\n{result['triplets']} triplets for every K, n = 2000. {_source(result, 'order')}"


def consistency() -> str:
    result = _result("consistency")
    rows = []
    for name, row in result["families"].items():
        rows.append([f"{name} (MI {row['truth']:.2f})", *(f"{value:.3f}" for value in row["error"])])
        rows.append(["its bound", *(f"{value:.3f}" for value in row["error_bound"])])
    table = _table(["mean absolute error (nats), n =", *(str(n) for n in result["sizes"])], rows)
    return f"{table}\n\n{len(result['seeds'])} seeds. {_source(result, 'consistency')}"


def ablation() -> str:
    result = _result("ablation")
    rows = []
    for name, arm in result["arms"].items():
        cross = arm.get("error_cross_fitted")
        rows.append(
            [
                name,
                f"{arm['loss_on_fresh_samples']:.3f}",
                f"{arm['error_in_sample']:.3f}",
                "" if cross is None else f"{cross:.3f}",
            ]
        )
    header = ["small networks", "relative loss, fresh samples", "error of the in-sample bound", "error of the cross-fitted bound"]
    return f"{_table(header, rows)}\n\n{result['steps']} steps of pretraining each. {_source(result, 'ablation')}"


def gradient() -> str:
    result = _result("gradient")
    rows = [[str(c["n"]), str(c["d"]), f"{c['cosine']:.3f}", f"{c['size']:.2f}"] for c in result["cells"]]
    return _table(["n", "d", "cosine", "size / truth"], rows) + f"\n\n{_source(result, 'gradient')}"


def time() -> str:
    result = _result("time")
    seconds, memory = result["seconds"], result["peak_memory_mb"]
    loss = "`InfoAtlasLoss`, forward and backward, n = 100, d = 100, 25 slices"
    rows = [[loss, f"{1000 * seconds['loss']:.0f} ms", "", ""]]
    for name, value in seconds.items():
        if name.startswith("estimate_"):
            n = name.removeprefix("estimate_")
            peak = f"{memory[n]} MB" if n in memory else ""
            rows.append([f"`estimate`, d = 5, n = {n}", f"{1000 * value:.0f} ms", f"{1000 * seconds[f'ksg_{n}']:.0f} ms", peak])
    table = _table(["call", "median time", "KSG (k-d trees)", "peak memory of the process"], rows)
    return f"{table}\n\n{_source(result, 'time')}"


def keystates() -> str:
    """The short table of the README."""
    rows = []
    for env, arms in _keystates().items():
        for arm in ("infoatlas", "mine-1000", "mine-100", "infonet", "none", "profile maxima", "velocity minima", "even"):
            if arm in arms:
                r = arms[arm]
                cells = [f"{r['f1']:.2f}", _retimed(r), f"{r['precision']:.0%}", f"{r['recall']:.0%}", _seconds(r)]
                rows.append([env, f"**{arm}**" if arm == "infoatlas" else arm, *cells])
    header = ["env", "key states by", "F1", "F1, no stops", "precision", "recall", "s per step"]
    return _table(header, rows) + "\n\n" + _keystates_sources()


def keystates_all() -> str:
    """Every arm and every figure."""
    parts = []
    for env, arms in _keystates().items():
        rows = []
        for arm, r in arms.items():
            low, high = r["f1_interval"]
            rows.append(
                [
                    f"**{arm}**" if arm == "infoatlas" else arm,
                    f"{r['f1']:.3f} ({low:.3f} to {high:.3f})",
                    _retimed(r, 3),
                    f"{r['precision']:.0%}",
                    ", ".join(f"{event} {entry['recall']:.0%}" for event, entry in r["by_event"].items()),
                    f"{r['median_step_error']:.0f}",
                    f"{r['phase_std']:.3f}" if "phase_std" in r else "",
                    f"{r['agreement_of_key_states']:.0%}, {r['agreement']:.0%}" if "agreement" in r else "",
                    _seconds(r),
                ]
            )
        first = next(iter(arms.values()))
        spread = ", ".join(f"{event} {value:.3f}" for event, value in first["event_phase_std"].items())
        header = [
            "key states by",
            "F1 (95 %)",
            "no stops",
            "precision",
            "recall by event",
            "median error",
            "time +-",
            "seeds agree",
            "s per step",
        ]
        note = f"{first['concepts']} key states. Standard deviation of the events' own times: {spread}."
        parts.append(f"### {env}\n\n{_table(header, rows)}\n\n{note}")
    return "\n\n".join(parts) + "\n\n" + _keystates_sources()


def _keystates() -> dict[str, dict[str, Any]]:
    content = _result("keystates")
    return {env: content[env] for env in sorted(content, key=[*TASKS, *content].index)}


def _retimed(result: dict[str, Any], digits: int = 2) -> str:
    return f"{result['retimed']['f1']:.{digits}f}" if "retimed" in result else ""


def _seconds(result: dict[str, Any]) -> str:
    return f"{result['seconds_per_step']:.2f}" if "seconds_per_step" in result else ""


def _keystates_sources() -> str:
    lines = []
    for env, arms in _keystates().items():
        r = arms["infoatlas"]
        fewer = [arm for arm in arms if len(arms[arm].get("seeds", r["seeds"])) < len(r["seeds"])]
        seeds = f"{len(r['seeds'])} seeds" + (f" ({len(arms[fewer[0]]['seeds'])} of {' and '.join(fewer)})" if fewer else "")
        if "retimed" in r:
            seeds += f", no stops: {len(r['retimed']['seeds'])}"
        what = f"{r['demonstrations']} demonstrations from seed {r['first_seed']} on, {seeds}"
        lines.append(f"- {env}: {what}; {_source(r, 'keystates')}")
    return "\n".join(lines)


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
    return _table(header, rows) + "\n\n" + "\n".join(sources)


def table2() -> str:
    """Policies with the key states of every arm."""
    content = _result("table2")
    names = sorted(
        {arm for arms in content.values() for arm in arms},
        key=["none", "even", "no-mi", "mine-100", "mine-1000", "infonet", "infoatlas"].index,
    )
    envs = [env for env in TASKS if env in content]
    rows = []
    for arm in names:
        cells, rates = [], []
        for env in envs:
            r = content[env].get(arm)
            for split in ("seen", "unseen"):
                if r is None:
                    cells.append("")
                    continue
                rates.append(r[split]["k"] / r[split]["n"])
                cells.append(f"{rates[-1]:.1%} ({r[split]['k']} of {r[split]['n']})")
        mean = f"{sum(rates) / len(rates):.1%}" if len(rates) == 2 * len(TASKS) else ""
        seeds = ", ".join(str(len(content[env][arm]["seeds"])) if arm in content[env] else "0" for env in envs)
        rows.append([f"**{arm}**" if arm == "infoatlas" else arm, *cells, mean, seeds])
    header = ["key states", *(f"{env}, {split}" for env in envs for split in ("seen", "unseen")), "mean of all", "training seeds"]
    lines = []
    for env in envs:
        difference = content[env].get("infoatlas", {}).get("minus_none")
        if difference:
            parts = []
            for split in ("seen", "unseen"):
                d = difference[split]
                low, high = d["interval95"]
                apart = f"{split} {d['better']} and {d['worse']} of {d['episodes']}"
                if d["better"] + d["worse"]:
                    apart += f" ({100 * d['difference']:+.1f} points; 95 %: {100 * low:+.1f} to {100 * high:+.1f})"
                parts.append(apart)
            lines.append(f"- {env}, solved with InfoAtlas and not with none, and the reverse: {', '.join(parts)}.")
        r = next(iter(content[env].values()))
        what = f"{r['demonstrations']} demonstrations, {r['training_steps']} training steps"
        lines.append(f"- {env}: {what}; {_source(r, 'table2')}")
    return _table(header, rows) + "\n\n" + "\n".join(lines)


def scale() -> str:
    content = _result("scale")
    counts = sorted({int(count) for entry in content.values() for results in entry["arms"].values() for count in results})
    rows, lines = [], []
    for env, entry in content.items():
        for arm, results in entry["arms"].items():
            found = [results.get(str(count)) for count in counts]
            rows.append([env, arm, *("" if r is None else f"{r['k'] / r['n']:.0%} ({r['k']} of {r['n']})" for r in found)])
        lines.append(f"- {env}: {_source(entry, 'scale')}")
    header = ["env", "key states", *(f"{count} demonstrations" for count in counts)]
    return _table(header, rows) + "\n\n" + "\n".join(lines)


def rl() -> str:
    """Every third evaluation, and the last one."""
    parts = []
    for title, entry in _result("rl").items():
        steps = sorted({int(steps) for r in entry["arms"].values() for steps in r["curve"]})
        shown = [str(step) for i, step in enumerate(steps, start=1) if i % 3 == 0 or i == len(steps)]
        rows = []
        for arm, r in entry["arms"].items():
            cells = [" + ".join(map(str, r["curve"].get(step, []))) for step in shown]
            rows.append([arm, *cells, " + ".join([str(r["n"])] * len(r["seeds"]))])
        header = [f"{title}: scenes solved after", *(f"{int(step):,} steps" for step in shown), "of"]
        parts.append(f"{_table(header, rows)}\n\n{_source(entry, 'rl')}")
    return "\n\n".join(parts)


def state_layout() -> str:
    rows, start = [], 0
    for name, size, meaning in LAYOUT:
        span = f"{start}" if size == 1 else f"{start} to {start + size - 1}"
        rows.append([span, f"`{name}`", meaning])
        start += size
    return _table(["index", "name", "meaning"], rows)


def weights() -> str:
    rows = []
    for name, entry in released().items():
        path = pretrained_folder() / entry["file"]
        model, record = read_weights(path)
        size = path.stat().st_size / 2**20
        parameters = sum(p.numel() for p in model.parameters())
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
    return _table(["name", "parameters", "file", "training", "time", "sha256"], rows)


def policy_files() -> str:
    from infoatlas_rl.policies.policy import KeyStatePolicy
    from infoatlas_rl.tasks.evaluate_policy import released_policy

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
    return _table(["task", "file", "key states", "training", "horizon", "sha256"], rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "bmi": bmi,
    "discrete": discrete,
    "atlas": atlas,
    "independence": independence,
    "order": order,
    "consistency": consistency,
    "ablation": ablation,
    "gradient": gradient,
    "time": time,
    "keystates": keystates,
    "keystates-all": keystates_all,
    "policies": policies,
    "table2": table2,
    "scale": scale,
    "rl": rl,
    "state-layout": state_layout,
    "weights": weights,
    "policy-files": policy_files,
}


def render(name: str) -> str:
    """The text of a file with every marked section generated anew; links are made relative to the file."""
    up = {"docs": "", "pretrained": "../docs/"}.get(Path(name).parent.name, "docs/")

    def section(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind not in SECTIONS:
            raise ValueError(f"unknown section {kind!r}; there are {', '.join(SECTIONS)}")
        return f"<!-- figures: {kind} -->\n{SECTIONS[kind]().replace('](docs/', f']({up}')}\n<!-- end -->"

    return re.sub(r"<!-- figures: ([\w-]+) -->\n.*?<!-- end -->", section, (ROOT / name).read_text(), flags=re.DOTALL)


def outdated() -> list[str]:
    """Files whose sections differ from the committed results."""
    return [name for name in FILES if render(name) != (ROOT / name).read_text()]


@hydra_main("update_docs")
def main(cfg: DictConfig) -> None:
    names = outdated()
    if cfg.check and names:
        raise ValueError(f"out of date: {', '.join(names)}; run python tasks/update_docs.py")
    for name in names:
        text = render(name)
        with replace_file(ROOT / name) as temporary:
            temporary.write_text(text)
    print(f"rewritten: {', '.join(names) or 'nothing'}")


if __name__ == "__main__":
    main()
