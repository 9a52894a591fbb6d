"""Suite ``loss``: ``InfoAtlasLoss`` in training, maximised and minimised, beside what people use.

One run is one problem (:mod:`~infoatlas_rl.tasks.suites.loss_problems`), method, setting and seed, and one small file in ``run``;
a run that is there is not repeated. Weights, temperatures and the like are chosen by a run with the tuning seed, whose test data
are in no table, from three values for every method that has one; maximised alone, ours has none. Chosen is, where dependence is
maximised, the best mean of both measures; of a penalty, the least that a probe finds of those that keep the accuracy of no
penalty to ``WITHIN``, or else the one of the highest accuracy; of values, the least error. All penalties grow over the same 300
calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from scipy.stats import t as student

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.baselines.objectives import (
    CLUB,
    HSIC,
    MINE,
    SMILE,
    Adversary,
    Critic,
    DistanceCorrelation,
    InfoNCE,
    Ramped,
    VICReg,
)
from infoatlas_rl.files import require_writable
from infoatlas_rl.records import provenance, require_results, write_json
from infoatlas_rl.tasks.shell.options import chosen
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.loss_data import TUNING_SEED, require_packages, robot_is_there
from infoatlas_rl.tasks.suites.loss_problems import PROBLEMS, Objective, step_time
from infoatlas_rl.tasks.suites.loss_report import MEASURES, picture, tables
from infoatlas_rl.weights import weights_hash

WITHIN = 0.01
"""Label accuracy that a penalty may cost."""
OURS, NONE = "infoatlas", "none"
WEIGHTS = (0.3, 1.0, 3.0)
NEEDS_ROBOT = "python tasks/collect_demos.py env=StackCube demos.count=100, and then discover_keystates.py with the same options"


class Method(NamedTuple):
    """What is tuned, and how an objective is made of a value of it and a seed."""

    settings: tuple[float, ...]
    make: Callable[[float, int], Objective | None]


def _with_linear_head(width: int, seed: int) -> Objective:
    """Cross-entropy of a linear classifier of the code, trained with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(width, 10)

    class CrossEntropy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(self.head(z), labels)

    return CrossEntropy()


def _penalty(make: Callable[[int], Objective]) -> Method:
    return Method(WEIGHTS, lambda _, seed: Ramped(make(seed)))


_VIEWS = {
    OURS: Method((1.0,), lambda _, seed: InfoAtlasLoss(slices=None, seed=seed)),
    "InfoNCE": Method((0.05, 0.1, 0.2), lambda temperature, _: InfoNCE(temperature)),
    "VICReg": Method((1.0, 5.0, 25.0), lambda weight, _: VICReg(weight, weight)),
    "SMILE": Method((1.0, 5.0, 10.0), lambda clip, seed: SMILE("maximise", clip, Critic(seed=seed))),
    "MINE": Method((1e-3, 2e-3, 5e-3), lambda rate, seed: MINE("maximise", Critic(learning_rate=rate, seed=seed))),
}
_PENALTIES = {
    NONE: Method((0.0,), lambda *_: None),
    OURS: Method(WEIGHTS, lambda _, seed: InfoAtlasLoss(slices=None, direction="minimise", seed=seed)),
    "adversary": _penalty(lambda seed: Adversary(Critic(seed=seed))),
    "HSIC": _penalty(lambda _: HSIC()),
    "distance correlation": _penalty(lambda _: DistanceCorrelation()),
    "CLUB": _penalty(lambda seed: CLUB(Critic(seed=seed))),
    "MINE": _penalty(lambda seed: MINE("minimise", Critic(seed=seed))),
    "SMILE": _penalty(lambda seed: SMILE("minimise", critic=Critic(seed=seed))),
}
METHODS: dict[str, dict[str, Method]] = {
    "views": _VIEWS,
    "labels": {
        OURS: Method((1.0,), lambda _, seed: InfoAtlasLoss(slices=None, classes="y", seed=seed)),
        "cross-entropy": Method((1.0,), lambda _, seed: _with_linear_head(16, seed)),
    },
    "robot": _VIEWS,
    "removal": _PENALTIES,
    "halves": _PENALTIES,
    "value": {name: _VIEWS[name] for name in (OURS, "MINE", "SMILE")},
}
FIRST = (NONE, OURS, "adversary", "InfoNCE", "VICReg", "cross-entropy")
"""Methods that are run before others, and penalties with every weight."""
EARLY = 3
"""Seeds that all methods are run with before any of them is run with more."""


class Job(NamedTuple):
    problem: str
    method: str
    setting: float
    seed: int


class Runs:
    """The folder of finished runs."""

    def __init__(self, cfg: DictConfig) -> None:
        self.folder, self.steps = Path(cfg.run), cfg.steps

    def path(self, job: Job) -> Path:
        return self.folder / f"{job.problem}-{job.method.replace(' ', '-')}-{job.setting:g}-{job.seed}.json"

    def steps_of(self, problem: str) -> int:
        return PROBLEMS[problem].steps if self.steps is None else self.steps

    def read(self, job: Job) -> dict[str, float] | None:
        """Figures of a finished run of as many steps, else None."""
        path = self.path(job)
        found = json.loads(path.read_text()) if path.is_file() else {}
        return found["figures"] if found.get("steps") == self.steps_of(job.problem) else None

    def do(self, job: Job) -> None:
        problem, steps = PROBLEMS[job.problem], self.steps_of(job.problem)
        objective = METHODS[problem.kind][job.method].make(job.setting, job.seed)
        figures = problem.run(objective, job.setting, job.seed, steps)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(job), {"steps": steps, "figures": {name: round(value, 4) for name, value in figures.items()}})

    def chosen(self, problem: str, method: str) -> float | None:
        """The setting that the tuning seed prefers; None while it has not been run."""
        settings = METHODS[PROBLEMS[problem].kind][method].settings
        if len(settings) == 1:
            return settings[0]
        found = {setting: self.read(Job(problem, method, setting, TUNING_SEED)) for setting in settings}
        if None in found.values():
            return None
        kind = PROBLEMS[problem].kind
        measures = MEASURES[kind]
        if kind == "value":
            return min(found, key=lambda setting: found[setting]["error"])
        if kind not in ("removal", "halves"):
            return max(found, key=lambda setting: sum(found[setting][measure] for measure in measures))
        reference = self.read(Job(problem, NONE, 0.0, TUNING_SEED))
        if reference is None:
            return None
        keep = [setting for setting in settings if found[setting]["accuracy"] >= reference["accuracy"] - WITHIN]
        if keep:
            return min(keep, key=lambda setting: found[setting][measures[1]])
        return max(found, key=lambda setting: found[setting]["accuracy"])


def run(cfg: DictConfig) -> dict[str, Any]:
    require_writable(Path(cfg.picture))
    require_results(cfg.out)
    names = chosen("only", cfg.only, PROBLEMS)
    require_packages(names)
    if "robot" in names and not robot_is_there():
        if cfg.only is not None:
            raise ValueError(f"the problem robot needs demonstrations and their key states: {NEEDS_ROBOT}")
        print(f"without the problem robot, which needs demonstrations and their key states: {NEEDS_ROBOT}")
        names.remove("robot")
    wanted = chosen("methods", cfg.methods, dict.fromkeys(method for methods in METHODS.values() for method in methods))
    runs = Runs(cfg)
    pairs = [(name, method) for name in names for method in METHODS[PROBLEMS[name].kind] if method in wanted]
    if not cfg.only_collect:
        count = sum(1 for _ in _jobs(pairs, list(cfg.seeds), runs))
        with progress_bar("loss", count) as bar:
            for done, job in enumerate(_jobs(pairs, list(cfg.seeds), runs)):
                bar(min(done, count), f"{job.problem}, {job.method} {job.setting:g}, seed {job.seed}")
                if runs.read(job) is None:
                    runs.do(job)
        _time(runs)
    problems = {name: found for name in PROBLEMS if (found := _collect(name, list(cfg.seeds), runs))}
    if not problems:
        raise ValueError(f"nothing has been run in {cfg.run}; leave out only_collect=true")
    times = runs.folder / "times.json"
    result = {"problems": problems, "tuning_seed": TUNING_SEED}
    result |= {"ms": json.loads(times.read_text()) if times.is_file() else {}, "weights_sha256": weights_hash("base")}
    result |= provenance("benchmark_loss", threads=cfg.threads)
    write_json(cfg.out, result)
    picture(Path(cfg.picture), result)
    for table in tables(result):
        print(f"\n{table.text()}")
    return result


def _jobs(pairs: list[tuple[str, str]], seeds: list[int], runs: Runs) -> Iterator[Job]:
    """Of pairs of a problem and a method, in order: tuning, the first seeds at what it chose, and their curves over the weight,
    of the most telling methods first; the other seeds. A choice is asked for when the runs that it rests on have been done."""
    settings = {(name, method): METHODS[PROBLEMS[name].kind][method].settings for name, method in pairs}
    for part in (seeds[:EARLY], seeds[EARLY:]):
        for first in (True, False):
            group = [pair for pair in pairs if (pair[1] in FIRST) == first]
            for name in dict.fromkeys(name for name, _ in group):
                mine = [pair for pair in group if pair[0] == name]
                tuned = [pair for pair in mine if len(settings[pair]) > 1 or pair[1] == NONE]
                yield from (Job(*pair, setting, TUNING_SEED) for pair in tuned for setting in settings[pair])
                for seed in part:
                    for pair in mine:
                        # Counted before anything was run, any setting stands for the one that will be chosen.
                        yield Job(*pair, runs.chosen(*pair) or settings[pair][0], seed)
            curves = [pair for pair in group if first and PROBLEMS[pair[0]].kind == "removal"]
            for seed in part:
                yield from (Job(*pair, setting, seed) for pair in curves for setting in settings[pair])


def _collect(name: str, seeds: list[int], runs: Runs) -> dict[str, Any] | None:
    kind, methods = PROBLEMS[name].kind, {}
    for method, (settings, _) in METHODS[kind].items():
        found = {}
        for setting in settings:
            by_seed = {seed: figures for seed in seeds if (figures := runs.read(Job(name, method, setting, seed)))}
            if by_seed:
                found[f"{setting:g}"] = _summary(by_seed)
        if found:
            chosen = runs.chosen(name, method)
            tuning = {f"{s:g}": f for s in settings if (f := runs.read(Job(name, method, s, TUNING_SEED)))}
            methods[method] = {"chosen": None if chosen is None else f"{chosen:g}", "settings": found, "tuning": tuning}
    return {"kind": kind, "steps": runs.steps_of(name), "methods": methods} if methods else None


def _summary(by_seed: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Means over seeds with 95 % intervals by Student's t; None for the half width of a single seed."""
    content: dict[str, Any] = {"seeds": list(by_seed)}
    for figure in next(iter(by_seed.values())):
        values = np.array([figures[figure] for figures in by_seed.values()])
        half = None
        if len(values) > 1:
            half = round(float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5), 4)
        content[figure] = {"mean": round(float(values.mean()), 4), "half": half, "by_seed": values.tolist()}
    return content


def _time(runs: Runs) -> None:
    path = runs.folder / "times.json"
    if path.is_file():
        return
    times: dict[str, dict[str, float]] = {}
    for kind in ("views", "removal"):
        for method, (settings, make) in METHODS[kind].items():
            measure = partial(step_time, make(settings[0], 0), kind == "views")
            times.setdefault(kind, {})[method] = round(min(measure() for _ in range(2)), 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, times)
