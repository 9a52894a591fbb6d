"""Key states by different estimators of information, in the same discovery, and by rules of thumb, against events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ruptures
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, TrajectorySet, make_finder, score_key_states
from infoatlas_rl.keystates.metrics import agreement, consistency
from infoatlas_rl.keystates.retiming import retime
from infoatlas_rl.keystates.rules import (
    approaches,
    evenly_spaced,
    gripper_changes,
    last_state,
    profile_maxima,
    velocity_minima,
    waypoints,
)
from infoatlas_rl.keystates.settings import METHODS
from infoatlas_rl.keystates.trajectories import column_scales, interpolate
from infoatlas_rl.maniskill.demos import DemonstrationSet, trajectory_of
from infoatlas_rl.maniskill.events import ground_truth
from infoatlas_rl.maniskill.recording import SOURCE_MODE
from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import configured_task
from infoatlas_rl.records import keep_result, provenance, require_results
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import chosen, defaults_of_discovery
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.shell.sources import demonstrations
from infoatlas_rl.weights import weights_hash

defaults_of_discovery()

VARIANTS = ("as they are", "retimed")
CHOSEN = "infoatlas, K chosen"
"""The default method, which finds out how many key states there are."""


LARGEST_STEP = 0.1
"""Of a joint, in rad, with ``pd_joint_delta_pos``."""
EPSILON = 1e-9
"""No action is without a direction."""


class Data:
    """Trajectories, actions and events of one variant."""

    def __init__(self, demos: DemonstrationSet, variant: str) -> None:
        self.trajectories = [trajectory_of(demo, demos.task) for demo in demos]
        self.events = [ground_truth(demo, demos.task) for demo in demos]
        if not any(self.events):
            raise ValueError(f"{demos.path} tells neither events nor the stages of a planner: nothing to compare with")
        width = STATE_INDEX["gripper_width"] if demos.task.object is not None else slice(7, 8)  # of the plain state: a finger
        widths = [demo.states[:, width] for demo in demos]
        actions = [demo.actions for demo in demos]
        if variant == "retimed":
            joined = [np.concatenate(pair, axis=1) for pair in zip(self.trajectories, widths, strict=True)]
            joined, self.events, shown = retime(joined, self.events)
            actions = [interpolate(a, steps[:-1].clip(max=len(a) - 1)) for a, steps in zip(actions, shown, strict=True)]
            self.trajectories, widths = [t[:, :-1] for t in joined], [t[:, -1:] for t in joined]
        self.actions = [_as_motions(action, demos.control_mode) for action in actions]
        self.widths = [width[:, 0] for width in widths]
        self.lengths = [len(trajectory) for trajectory in self.trajectories]


def run(cfg: DictConfig) -> dict[str, Any]:
    require_results(cfg.out)
    task = configured_task(cfg.env.task)
    only = chosen("only", cfg.only, cfg.arms)
    arms = [named(method, arm) for method in chosen("methods", cfg.methods, METHODS) for arm in cfg.arms if arm in only]
    config: KeyStateConfig = OmegaConf.to_object(cfg.discovery)
    demos = demonstrations(cfg, task)
    data = {variant: Data(demos, variant) for variant in VARIANTS}
    sets = {variant: TrajectorySet(data[variant].trajectories, config.delta) for variant in VARIANTS}
    # All others place as many key states as are given, or as the default method finds.
    free = _run_arms(cfg, [CHOSEN], sets, replace(config, concepts=None))
    config = replace(config, concepts=config.concepts or free[CHOSEN, "as they are"][cfg.seeds[0]].shape[1])
    about = {
        "demonstrations": len(demos),
        "first_seed": cfg.demos.first_seed,
        "concepts": config.concepts,
        "weights_sha256": weights_hash("base"),
        **provenance("benchmark_keystates", threads=cfg.threads),
    }

    results: dict[str, Any] = {}
    found = free | _run_arms(cfg, arms, sets, config)
    for arm in [*arms, CHOSEN]:
        runs = found[arm, "as they are"]
        results[arm] = _scores(list(runs.values()), data["as they are"]) | {"seeds": list(runs)}
        results[arm]["concepts"] = runs[min(runs)].shape[1]
        if (arm, "retimed") in found:
            runs = found[arm, "retimed"]
            results[arm]["retimed"] = _scores(list(runs.values()), data["retimed"]) | {"seeds": list(runs)}
            results[arm]["retimed"]["concepts"] = runs[min(runs)].shape[1]
    rules = {variant: _rules(data[variant], sets[variant], config, instantiate(cfg.profile)) for variant in VARIANTS}
    for rule, steps in rules["as they are"].items():
        results[rule] = _scores([steps], data["as they are"])
        results[rule]["retimed"] = _scores([rules["retimed"][rule]], data["retimed"])
    # Timed here, one after the other, because the runs above may have shared the machine with others.
    for arm in arms:
        results[arm]["seconds_per_step"] = _time(cfg, arm, sets["as they are"], config)
    reference = _event_spread(data["as they are"])
    results = {arm: about | {"event_phase_std": reference} | scores for arm, scores in results.items()}
    keep_result(cfg.out, task.name, results, merge=True)
    print(env_table(task.name, results).text())
    print(cfg.out)
    return results


def named(method: str, arm: str) -> str:
    """What an arm is called; the default method is not named."""
    return arm if method == METHODS[0] else f"{method}, {arm}"


def _finder(cfg: DictConfig, arm: str, data: TrajectorySet, config: KeyStateConfig, seed: int) -> KeyStateFinder:
    method, name = next((m, name) for m in METHODS for name in cfg.arms if arm in (named(m, name), f"{name}, K chosen"))
    estimator = instantiate(cfg.arms[name]) if cfg.arms[name] else None
    return make_finder(data, estimator, replace(config, seed=seed, method=method))


def _run_arms(
    cfg: DictConfig, arms: list[str], sets: dict[str, TrajectorySet], config: KeyStateConfig
) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """Key states ``(N, K)`` of every arm, variant and seed; from the folder of the run where they are there already."""
    jobs = [(arm, "as they are", seed) for arm in arms for seed in cfg.seeds_of.get(arm.removeprefix("maxmi, "), cfg.seeds)]
    stages = [arm for arm in arms if arm not in cfg.seeds_of and not arm.startswith("maxmi")]
    jobs += [(arm, "retimed", seed) for arm in stages for seed in cfg.retimed_seeds]
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    with progress_bar(f"key states of {cfg.env.name}", len(jobs)) as bar:
        for done, (arm, variant, seed) in enumerate(jobs):
            bar(done, f"{arm}, {variant}, seed {seed}")
            finder = _finder(cfg, arm, sets[variant], config, seed)
            path = Path(cfg.run) / f"{arm.replace(', ', '-').replace(' ', '-')}-{variant.replace(' ', '-')}-{seed}.pt"
            if path.is_file():
                try:
                    finder.load(path)
                except ValueError as error:
                    print(f"running again: {error}")
            for _ in finder.fit(path):
                pass
            found.setdefault((arm, variant), {})[seed] = finder.key_states().steps
        bar(len(jobs), "")
    return found


def _rules(data: Data, trajectories: TrajectorySet, config: KeyStateConfig, mi_loss: InfoAtlasLoss) -> dict[str, Any]:
    return {
        "profile maxima": profile_maxima(KeyStateFinder(trajectories, None, config), mi_loss, config.concepts),
        "even": evenly_spaced(data.lengths, config.concepts),
        "gripper changes": gripper_changes(data.widths),
        "velocity minima": velocity_minima(data.trajectories, config.concepts),
        "waypoints (AWE)": waypoints(data.trajectories, config.concepts),
        "approaches (UVD)": approaches(data.trajectories, config.concepts),
        "change points": change_points(data.trajectories, config.concepts),
        "grouped actions (CoTPC)": grouped_actions(data.actions, config.concepts),
        "last state": last_state(data.lengths),
    }


def change_points(trajectories: list[np.ndarray], concepts: int) -> list[np.ndarray]:
    """The K - 1 steps at which the mean motion changes most, by binary segmentation (ruptures, Truong et al. 2020), and the final
    state."""
    scale = column_scales(trajectories)[1]
    found = []
    for trajectory in trajectories:
        motion = np.gradient(np.asarray(trajectory) / scale, axis=0)
        ends = ruptures.Binseg("l2", jump=1, min_size=3).fit(motion).predict(concepts - 1)
        found.append(np.unique([*ends[:-1], len(motion) - 1]))
    return found


def grouped_actions(actions: list[np.ndarray], concepts: int) -> list[np.ndarray]:
    """Where one of K groups of consecutive actions of like direction ends. After CoTPC (Jia et al. 2024), which groups them by
    change points of the cosine similarity; here the best ones for the given number."""
    found = []
    for action in actions:
        ends = ruptures.KernelCPD("cosine", min_size=3).fit(action + EPSILON).predict(concepts - 1)
        found.append(np.array(ends))  # an action leads to the state after it
    return found


def _as_motions(actions: np.ndarray, control_mode: str) -> np.ndarray:
    """Joint targets as steps from one to the next, in the units of ManiSkill's ``pd_joint_delta_pos``, the gripper as it is."""
    if control_mode != SOURCE_MODE:
        return actions
    return np.concatenate([np.diff(actions[:, :-1], axis=0, prepend=actions[:1, :-1]) / LARGEST_STEP, actions[:, -1:]], axis=1)


def _scores(runs: list[Any], data: Data) -> dict[str, Any]:
    """Mean over runs of different seeds; the interval is that of the demonstrations of all runs together."""
    scores = [score_key_states(steps, data.events) for steps in runs]
    pooled = score_key_states([row for steps in runs for row in steps], data.events * len(runs))
    content = pooled.to_json() | {"f1_by_seed": [score.f1 for score in scores]}
    if all(isinstance(steps, np.ndarray) for steps in runs):
        alike = [steps for steps in runs if steps.shape == runs[0].shape]
        spreads = [consistency(steps, data.trajectories, data.events) for steps in alike]
        content["phase_std"] = float(np.mean([spread.phase_std for spread in spreads]))
        content["phase_std_by_concept"] = np.mean([spread.phase_std for spread in spreads], axis=0).round(4).tolist()
        content["state_spread_by_concept"] = np.mean([spread.state_spread for spread in spreads], axis=0).round(4).tolist()
        content["same_event_by_concept"] = np.mean([spread.same_event for spread in spreads], axis=0).round(4).tolist()
    if len(runs) > 1:
        pairs = np.array([agreement(a, b) for i, a in enumerate(runs) for b in runs[i + 1 :]])
        content["agreement"], content["agreement_of_key_states"] = pairs.mean(0).tolist()
    return content


def _event_spread(data: Data) -> dict[str, float]:
    """Standard deviation of the time of the events themselves, as a share of the trajectory."""
    shares: dict[str, list[float]] = {}
    for happened, length in zip(data.events, data.lengths, strict=True):
        for name, step in happened.items():
            if step is not None:
                shares.setdefault(name, []).append(step / (length - 1))
    return {name: float(np.std(values)) for name, values in shares.items()}


def _time(cfg: DictConfig, arm: str, data: TrajectorySet, config: KeyStateConfig) -> float:
    finder = _finder(cfg, arm, data, config, seed=99)
    finder.measure_steps(1)  # warm up
    return round(finder.measure_steps(cfg.timed_steps), 4)


SHORT = ("infoatlas", "mine-100", "none", "velocity minima")
"""Arms of the short table."""


def summary_table(content: dict[str, dict[str, Any]]) -> Table:
    """Task to arm to scores: F1 as the planner drives, and on the same paths without stops; the best of each in bold."""
    rows = []
    for env, arms in content.items():
        pairs = [(f"{arms[arm]['f1']:.2f}", _retimed(arms[arm], 2)) if arm in arms else None for arm in SHORT]
        best = [max(pair[which] for pair in pairs if pair) for which in range(2)]
        shown = [[f"**{v}**" if v == b else v for v, b in zip(pair, best, strict=True)] if pair else [] for pair in pairs]
        rows.append([env, *(" / ".join(cell) for cell in shown)])
    return Table(["F1 / without stops", *SHORT], rows)


def maxmi_table(content: dict[str, dict[str, Any]]) -> Table:
    """F1 with MaxMI's objective: the mean over seeds, the least and the largest."""
    names = {name: named("maxmi", name) for name in ("infoatlas", "infonet", "mine-100", "none")}
    rows = []
    for env, arms in content.items():
        if names["infoatlas"] in arms:
            found = [arms.get(arm) for arm in names.values()]
            best = max(float(np.mean(r["f1_by_seed"])) for r in found if r)
            rows.append([env, *("" if r is None else _over_seeds(r["f1_by_seed"], best) for r in found)])
    return Table(["F1 (least and largest of three seeds)", *names], rows)


def _over_seeds(scores: list[float], best: float) -> str:
    mean = float(np.mean(scores))
    shown = f"**{mean:.2f}**" if mean == best else f"{mean:.2f}"
    return f"{shown} ({min(scores):.2f} to {max(scores):.2f})" if min(scores) < max(scores) else shown


def env_table(env: str, arms: dict[str, Any]) -> Table:
    """Every arm and every figure of one task: the default method, MaxMI's, rules."""
    rows = []
    for arm, r in sorted(arms.items(), key=lambda item: ("seeds" not in item[1], item[0].startswith("maxmi"))):
        low, high = r["f1_interval"]
        shown = arm.replace("K chosen", f"K = {r['concepts']} chosen")
        rows.append(
            [
                f"**{arm}**" if arm == "infoatlas" else shown,
                f"{r['f1']:.3f} ({low:.3f} to {high:.3f})",
                _retimed(r, 3),
                f"{r['precision']:.0%}",
                ", ".join(f"{event} {entry['recall']:.0%}" for event, entry in r["by_event"].items()),
                f"{r['median_step_error']:.0f}",
                f"{r['steps_to_next']:.1f}" if "steps_to_next" in r else "",
                f"{r['phase_std']:.3f}" if "phase_std" in r else "",
                f"{r['agreement_of_key_states']:.0%}, {r['agreement']:.0%}" if "agreement" in r else "",
                _seconds(r),
            ]
        )
    first = next(iter(arms.values()))
    spread = ", ".join(f"{event} {value:.3f}" for event, value in first["event_phase_std"].items())
    figures = ["F1 (95 %)", "no stops", "precision", "recall by event", "median error", "HIS", "time +-", "seeds agree"]
    note = f"{first['concepts']} key states, unless they are chosen. Standard deviation of the events' own times: {spread}."
    return Table(["key states by", *figures, "s per step"], rows, note, env)


def runs(arms: dict[str, Any]) -> list[tuple[list[str], dict[str, Any]]]:
    """Rows of a task that one command made with one version and weights, and the first of them; rules are in all of them."""
    found: dict[tuple[str, ...], list[str]] = {}
    for arm, r in arms.items():
        found.setdefault((r["command"], r["version"], r["weights_sha256"]), []).append(arm)
    return [(names, arms[names[0]]) for names in found.values()]


def measured_on(arms: dict[str, Any]) -> str:
    """Demonstrations and seeds behind the figures of one task."""
    r = arms["infoatlas"]
    fewer = [arm for arm in arms if len(arms[arm].get("seeds", r["seeds"])) < len(r["seeds"])]
    seeds = f"{len(r['seeds'])} seeds" + (f" ({len(arms[fewer[0]]['seeds'])} of {' and '.join(fewer)})" if fewer else "")
    if "retimed" in r:
        seeds += f", no stops: {len(r['retimed']['seeds'])}"
    return f"{r['demonstrations']} demonstrations from seed {r['first_seed']} on, {seeds}"


def _retimed(result: dict[str, Any], digits: int) -> str:
    return f"{result['retimed']['f1']:.{digits}f}" if "retimed" in result else ""


def _seconds(result: dict[str, Any]) -> str:
    return f"{result['seconds_per_step']:.2f}" if "seconds_per_step" in result else ""
