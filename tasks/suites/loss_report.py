"""What the suite ``loss`` found: tables with the figures that were asked for, and a picture of accuracy against what is left."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.cameras import pyplot
from infoatlas_rl.tables import Table

OURS, NONE = "infoatlas", "none"
WITHIN, MOST_LEFT, MARGIN, VIEW_MARGIN, TIMES = 0.01, 0.10, 0.03, 0.005, 4.0
"""Asked: accuracy within this of no penalty; probe R2 at most this, and at most this above the best peer's; the mean of both
measures of views at least InfoNCE's minus this; time at most so many times InfoNCE's."""
NOISE = 0.01
"""Of a probe's R2 between two trainings of it: a rise over the weight below it is none."""


MEASURES = {
    "views": ("linear", "neighbours"),
    "labels": ("linear", "neighbours"),
    "robot": ("next", "command"),
    "removal": ("accuracy", "r2"),
    "halves": ("accuracy", "leak"),
    "value": ("error",),
}
"""Figures of every kind of problem that its settings are chosen by."""
VALUE_ERROR = 0.20
"""Asked: of the value in training, on average."""


def tables(result: dict[str, Any]) -> list[Table]:
    return [_maximised(result), _robot(result), _minimised(result), _halves(result), _values(result), _times(result)]


def _of_kind(result: dict[str, Any], *kinds: str) -> Iterator[tuple[str, dict[str, Any], dict[str, dict[str, Any]]]]:
    """Name, problem, and the runs of its methods at the settings that were chosen."""
    for name, problem in result["problems"].items():
        if problem["kind"] in kinds:
            yield name, problem, {m: runs for m, entry in problem["methods"].items() if (runs := at_choice(entry))}


def _setting(problem: dict[str, Any], method: str) -> str:
    entry = problem["methods"][method]
    return entry["chosen"] if len(entry["tuning"]) > 1 else ""


def at_choice(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The runs at the setting that was chosen."""
    return entry["settings"].get(entry["chosen"])


def _cell(figure: dict[str, Any]) -> str:
    return f"{figure['mean']:.3f}" + ("" if figure["half"] is None else f" ± {figure['half']:.3f}")


def _score(found: dict[str, Any]) -> float:
    return (found["linear"]["mean"] + found["neighbours"]["mean"]) / 2


def _asked(met: bool, text: str) -> str:
    return f"{text}: {'met' if met else 'missed'}"


def _maximised(result: dict[str, Any]) -> Table:
    rows = []
    for name, problem, found in _of_kind(result, "views", "labels"):
        for method, runs in found.items():
            verdict = _view_verdict(found) if method == OURS else ""
            cells = [_cell(runs["linear"]), _cell(runs["neighbours"]), f"{_score(runs):.3f}", str(len(runs["seeds"])), verdict]
            rows.append([name, _bold(method), _setting(problem, method), *cells])
    header = ["maximise", "objective", "tuned", "linear probe", "5 neighbours", "mean of both", "seeds", "asked"]
    note = "`tuned`: temperature of InfoNCE, weight of VICReg, clip of SMILE, learning rate of MINE's critic."
    return Table(header, rows, f"{note} ± is half a 95 % interval over seeds.")


def _view_verdict(found: dict[str, dict[str, Any]]) -> str:
    """Ours against the peers, in the mean of both measures."""
    ours, parts = _score(found[OURS]), []
    for peer, margin in (("InfoNCE", VIEW_MARGIN), ("VICReg", 0.0)):
        if peer in found:
            least = _score(found[peer]) - margin
            met = ours >= least if margin else ours > least
            parts.append(_asked(met, f"{peer} {ours - _score(found[peer]):+.3f}"))
    if "cross-entropy" in found:
        parts.append(f"cross-entropy {ours - _score(found['cross-entropy']):+.3f}")
    return "; ".join(parts)


def _minimised(result: dict[str, Any]) -> Table:
    rows = []
    for name, problem, found in _of_kind(result, "removal"):
        for method, runs in found.items():
            cost = "" if method == NONE or NONE not in found else f"{_cost(found, method):+.3f}"
            verdict = removal_verdict(problem) if method == OURS else ""
            weight = "" if method == NONE else problem["methods"][method]["chosen"]
            rows.append([name, _bold(method), weight, _cell(runs["accuracy"]), cost, _cell(runs["r2"])])
            rows[-1] += [_curve(problem["methods"][method]), str(len(runs["seeds"])), verdict]
    header = ["remove", "penalty", "weight", "label accuracy", "against none", "probe R2", "R2 over weights", "seeds", "asked"]
    note = f"`against none`: mean difference over the seeds of both. Asked: accuracy within {WITHIN}, R2 at most {MOST_LEFT:.2f} "
    note += f"and at most {MARGIN} above the best peer that is within {WITHIN}, R2 that falls with the weight. "
    note += "`R2 over weights`: 0.3, 1 and 3, over the seeds that were run with all of them."
    return Table(header, rows, note)


def _robot(result: dict[str, Any]) -> Table:
    rows = []
    for name, problem, found in _of_kind(result, "robot"):
        for method, runs in found.items():
            mean = (runs["next"]["mean"] + runs["command"]["mean"]) / 2
            cells = [_cell(runs["next"]), _cell(runs["command"]), f"{mean:.3f}", str(len(runs["seeds"]))]
            rows.append([name, _bold(method), _setting(problem, method), *cells])
    header = ["maximise", "objective", "tuned", "R2 next key state", "R2 command", "mean of both", "seeds"]
    note = (
        "R2 on unseen demonstrations, of where gripper and object are at the next key state by a linear map of the code, and of "
    )
    return Table(header, rows, note + "the command by a network of it.")


def _halves(result: dict[str, Any]) -> Table:
    rows = []
    for name, problem, found in _of_kind(result, "halves"):
        for method, runs in found.items():
            cost = "" if method == NONE or NONE not in found else f"{_cost(found, method):+.3f}"
            weight = "" if method == NONE else problem["methods"][method]["chosen"]
            cells = [_cell(runs["accuracy"]), cost, _cell(runs["leak"]), _cell(runs["error"]), str(len(runs["seeds"]))]
            rows.append([name, _bold(method), weight, *cells])
    header = ["separate", "penalty", "weight", "label by content", "against none", "label by style", "error", "seeds"]
    note = "`label by style`: accuracy of a fresh network above chance, 0 to 1. `error`: of the reconstruction, of the variance."
    return Table(header, rows, note)


def _values(result: dict[str, Any]) -> Table:
    rows, ours = [], []
    for name, problem, found in _of_kind(result, "value"):
        for method, runs in found.items():
            verdict = ""
            if method == OURS:
                ours.append(runs["error"]["mean"])
                verdict = _asked(ours[-1] <= VALUE_ERROR, f"at most {VALUE_ERROR:.0%}")
            span = f"{runs['first']['mean']:.2f} to {runs['last']['mean']:.2f}"
            error = f"{runs['error']['mean']:.1%}"
            rows.append([name, _bold(method), _setting(problem, method), span, error, str(len(runs["seeds"])), verdict])
    header = ["encoder, batch", "objective", "tuned", "truth, nats", "error of the value", "seeds", "asked"]
    mean = f" Mean of ours: {sum(ours) / len(ours):.1%}." if ours else ""
    return Table(header, rows, f"Mean absolute error while training, of the mean of the truth.{mean}")


def _cost(found: dict[str, dict[str, Any]], method: str) -> float:
    """Accuracy against no penalty, over common seeds."""
    ours, none = (dict(zip(found[m]["seeds"], found[m]["accuracy"]["by_seed"])) for m in (method, NONE))
    common = ours.keys() & none.keys()
    return sum(ours[seed] - none[seed] for seed in common) / max(len(common), 1)


def over_weights(entry: dict[str, Any]) -> list[tuple[float, float, float]]:
    """Weight, accuracy and R2, mean over the seeds that were run with every weight."""
    settings = entry["settings"]
    if len(settings) < 3:
        return []
    common = set.intersection(*(set(runs["seeds"]) for runs in settings.values()))
    out = []
    for weight, runs in settings.items():
        values = [dict(zip(runs["seeds"], runs[figure]["by_seed"])) for figure in ("accuracy", "r2")]
        if common:
            out.append((float(weight), *(sum(v[seed] for seed in common) / len(common) for v in values)))
    return out


def _curve(entry: dict[str, Any]) -> str:
    return ", ".join(f"{r2:.3f}" for _, _, r2 in over_weights(entry))


def removal_verdict(problem: dict[str, Any]) -> str:
    found = {method: runs for method, entry in problem["methods"].items() if (runs := at_choice(entry))}
    if NONE not in found:
        return ""
    r2, cost, parts = found[OURS]["r2"]["mean"], _cost(found, OURS), []
    parts.append(_asked(cost >= -WITHIN, f"accuracy {cost:+.3f}"))
    parts.append(_asked(r2 <= MOST_LEFT, f"R2 {r2:.3f}"))
    peers = {m: runs["r2"]["mean"] for m, runs in found.items() if m not in (OURS, NONE) and _cost(found, m) >= -WITHIN}
    if peers:
        best = min(peers, key=peers.get)
        parts.append(_asked(r2 <= peers[best] + MARGIN, f"{r2 - peers[best]:+.3f} to {best}"))
    else:
        parts.append(f"no peer is within {WITHIN}")
    curve = [r2 for _, _, r2 in over_weights(problem["methods"][OURS])]
    if curve:
        parts.append(_asked(all(b <= a + NOISE for a, b in pairwise(curve)), "monotone"))
    return "; ".join(parts)


def _times(result: dict[str, Any]) -> Table:
    times = result["ms"]
    reference = times.get("views", {}).get("InfoNCE")
    rows = []
    for kind, label in (("views", "maximise"), ("removal", "minimise")):
        for method, ms in times.get(kind, {}).items():
            verdict = _asked(ms <= TIMES * reference, f"{ms / reference:.1f} x InfoNCE") if method == OURS else ""
            rows.append([label, _bold(method), f"{ms:.1f}", verdict])
    note = "CPU milliseconds of a training step on one thread, batch 256, code of 16, with its encoder; mean of 64 steps."
    return Table(["direction", "objective", "ms per step", f"asked: at most {TIMES:.0f} x InfoNCE"], rows, note)


def _bold(method: str) -> str:
    return f"**{method}**" if method == OURS else method


def picture(path: Path, result: dict[str, Any]) -> None:
    """Label accuracy against probe R2, a curve over the weight for every method, one panel for every problem of removal; every
    point is the mean of the seeds that were run with it."""
    problems = {name: problem for name, problem, _ in _of_kind(result, "removal")}
    if not problems:
        return
    plt = pyplot()
    figure, axes = plt.subplots(1, len(problems), figsize=(3.6 * len(problems), 3.9), squeeze=False)
    methods = list(dict.fromkeys(m for problem in problems.values() for m in problem["methods"] if m != NONE))
    colours = dict(zip(methods, ("#c1272d", "#0b5fa5", "#3a923a", "#9467bd", "#e68a00", "0.4", "#17a2a2")))
    for axis, (name, problem) in zip(axes[0], problems.items(), strict=True):
        for method in methods:
            entry = problem["methods"].get(method)
            settings = sorted(entry["settings"].items(), key=lambda item: float(item[0])) if entry else []
            points = [(float(weight), runs["accuracy"]["mean"], runs["r2"]["mean"]) for weight, runs in settings]
            style = {"color": colours[method], "lw": 2.2 if method == OURS else 1.1, "zorder": 4 if method == OURS else 2}
            axis.plot([r2 for *_, r2 in points], [a for _, a, _ in points], **style, label=method)
            for weight, accuracy, r2 in points:
                axis.scatter(r2, accuracy, s=14 + 22 * (weight > 0.5) + 34 * (weight > 2), color=style["color"], zorder=5)
        none = at_choice(problem["methods"].get(NONE, {"settings": {}, "chosen": None}))
        if none:
            accuracy = none["accuracy"]["mean"]
            axis.scatter(none["r2"]["mean"], accuracy, marker="*", s=110, color="black", zorder=6, label="no penalty")
            axis.axhline(accuracy - WITHIN, color="0.6", ls=":", lw=1)
        axis.axvline(MOST_LEFT, color="0.6", ls=":", lw=1)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("probe R2 of the nuisance")
    axes[0, 0].set_ylabel("label accuracy")
    handles = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncol=len(handles), fontsize=8, frameon=False)
    figure.text(
        0.5, 0.01, "larger dots: weight 0.3, 1, 3; up and left is better; dotted: what was asked", ha="center", fontsize=8
    )
    figure.tight_layout(rect=(0, 0.04, 1, 0.92))
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
