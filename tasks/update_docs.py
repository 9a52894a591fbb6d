"""Write the figures of README.md and docs/ from the committed results.

    python tasks/update_docs.py            # rewrite the marked sections
    python tasks/update_docs.py check=true # fail where one is out of date

A section stands between ``<!-- figures: NAME -->`` and ``<!-- end -->``; everything between is generated.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.states import LAYOUT
from infoatlas_rl.maniskill.tasks import TASKS
from infoatlas_rl.weights import pretrained_folder, read_weights, released
from tasks.benchmark_mi import PUBLISHED
from tasks.common import hydra_main

RESULTS = ROOT / "docs" / "results"
FILES = ("README.md", "docs/state.md", "pretrained/README.md")


def _result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _source(result: dict[str, Any], name: str) -> str:
    where = f"version {result['version']}, {result['machine']['threads']} CPU threads ([result](docs/results/{name}.json))"
    return f"`{result['command']}`, {where}."


def bmi() -> str:
    result = _result("bmi")
    tasks = result["tasks"]
    rows = [["truth", *(f"{task['truth']:.2f}" for task in tasks.values()), ""]]
    rows.append(["**infoatlas-rl**", *(f"**{task['mean']:.2f}**" for task in tasks.values()), f"**{result['mae']:.3f}**"])
    truth = [task["truth"] for task in tasks.values()]
    for method, values in PUBLISHED.items():
        mae = sum(abs(v - t) for v, t in zip(values, truth, strict=True)) / len(truth)
        rows.append([method, *(f"{value:.2f}" for value in values), f"{mae:.3f}"])
    text = _table(["nats", *tasks, "mean error"], rows)
    note = f"n = {result['n']}, mean of {len(result['seeds'])} seeds; the other rows are the paper's."
    return f"{text}\n\n{note} {_source(result, 'bmi')}"


def gradient() -> str:
    result = _result("gradient")
    rows = [[str(c["n"]), str(c["d"]), f"{c['cosine']:.3f}", f"{c['size']:.2f}"] for c in result["cells"]]
    return _table(["n", "d", "cosine", "size / truth"], rows) + f"\n\n{_source(result, 'gradient')}"


def time() -> str:
    result = _result("time")
    seconds = result["seconds"]
    rows = [["`InfoAtlasLoss`, forward and backward, n = 100, d = 100, 25 slices", f"{1000 * seconds['loss']:.0f} ms"]]
    rows += [
        [f"`estimate`, d = 5, n = {name.removeprefix('estimate_')}", f"{1000 * value:.0f} ms"]
        for name, value in seconds.items()
        if name != "loss"
    ]
    return _table(["call", "median time"], rows) + f"\n\n{_source(result, 'time')}"


def keystates() -> str:
    rows, sources = [], []
    for task in TASKS:
        if not (RESULTS / f"keystates_{task}.json").is_file():
            continue
        result = _result(f"keystates_{task}")
        for arm, score in result["scores"].items():
            hits = ", ".join(f"{event} {entry['hit_rate']:.0%}" for event, entry in score["by_event"].items())
            error = f"{score['median_step_error']:.0f} steps"
            rows.append([task, arm, error, f"{score['hit_rate']:.1%}", f"{score['f1']:.3f}", hits])
        count = result["demonstrations"]["count"]
        sources.append(
            f"{task}: {count} demonstrations, {result['seconds'] / 60:.1f} minutes in all; {_source(result, f'keystates_{task}')}"
        )
    table = _table(["env", "key states", "median error", "hit rate", "F1", "hits by event"], rows)
    return "\n".join([table, "", *(f"- {source}" for source in sources)])


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
        machine = record["machine"]
        rows.append(
            [
                f"`{name}`",
                f"{parameters:,}",
                f"{size:.1f} MB",
                f"{record['problems']:,} problems in {record['steps']:,} steps",
                f"{record['hours']:.1f} h, {machine['threads']} CPU thread(s)",
                f"`{entry['sha256'][:16]}...`",
            ]
        )
    return _table(["name", "parameters", "file", "training", "time", "sha256"], rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "bmi": bmi,
    "gradient": gradient,
    "time": time,
    "keystates": keystates,
    "state-layout": state_layout,
    "weights": weights,
}


def render(text: str) -> str:
    """The text with every marked section generated anew."""

    def section(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in SECTIONS:
            raise ValueError(f"unknown section {name!r}; there are {', '.join(SECTIONS)}")
        return f"<!-- figures: {name} -->\n{SECTIONS[name]()}\n<!-- end -->"

    return re.sub(r"<!-- figures: ([\w-]+) -->\n.*?<!-- end -->", section, text, flags=re.DOTALL)


def outdated() -> list[str]:
    """Files whose sections differ from the committed results."""
    return [name for name in FILES if render((ROOT / name).read_text()) != (ROOT / name).read_text()]


@hydra_main("update_docs")
def main(cfg: DictConfig) -> None:
    names = outdated()
    if cfg.check and names:
        raise ValueError(f"out of date: {', '.join(names)}; run python tasks/update_docs.py")
    for name in names:
        text = render((ROOT / name).read_text())
        with replace_file(ROOT / name) as temporary:
            temporary.write_text(text)
    print(f"rewritten: {', '.join(names) or 'nothing'}")


if __name__ == "__main__":
    main()
