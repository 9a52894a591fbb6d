"""Discover the key states of a task from demonstrations, by maximal mutual information.

    python tasks/discover_keystates.py env=PegInsertion
    python tasks/discover_keystates.py env=PickCube experiment=quick
    python tasks/discover_keystates.py env=StackCube demos.path=trajectory.h5
    python tasks/discover_keystates.py env=any demos.path=trajectory.h5 env.concepts=5     # any task of ManiSkill
    python tasks/discover_keystates.py env=any demos.path=trajectories.npz                 # any trajectories

Collects demonstrations where there are none, finds their key states, and writes to ``runs/keystates/<env>-<name>``:
``keystates.json`` and ``keystates.npz``, ``report.html`` with all pictures (``timeline.png``, ``mi_profile.png``,
``contact_sheet.png``, ``keystates.gif``), ``log.csv`` and TensorBoard scalars. A killed run goes on from its last epoch.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file
from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, KeyStates, KeyStateScore, TrajectorySet, score_key_states
from infoatlas_rl.keystates.files import load_trajectories
from infoatlas_rl.keystates.metrics import consistency
from infoatlas_rl.keystates.report import write_report
from infoatlas_rl.keystates.rules import evenly_spaced
from infoatlas_rl.keystates.trajectories import column_scales
from infoatlas_rl.maniskill import pictures
from infoatlas_rl.maniskill.demos import DemonstrationSet, load_demonstrations, recorded_env
from infoatlas_rl.maniskill.events import ground_truth
from infoatlas_rl.maniskill.states import STATE_INDEX, positions
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.records import command_line, describe_machine
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.collect_demos import demonstrations
from infoatlas_rl.tasks.options import hydra_main
from infoatlas_rl.tasks.progress import RunLog, progress_bar
from infoatlas_rl.weights import weights_hash

SHOWN = 6
"""Demonstrations in the pictures."""


@dataclass(frozen=True)
class Source:
    """What key states are looked for in."""

    name: str
    states: list[NDArray]
    """As recorded, with velocities where there are any."""
    trajectories: list[NDArray]
    """What discovery sees."""
    labels: list[str]
    about: dict[str, Any]
    demos: DemonstrationSet | None = None
    events: list[dict[str, int | None]] | None = None
    """Ground truth, which is compared with and nothing else."""


@dataclass(frozen=True)
class Profile:
    """The MI profile of some trajectories."""

    steps: NDArray[np.int64]
    pointwise: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.pointwise.mean(0)


def discover(cfg: DictConfig) -> Path:
    """The whole job; returns the folder of results."""
    began = time.monotonic()
    torch.set_num_threads(cfg.threads)
    out = Path(cfg.out)
    source = _source(cfg)
    print(f"{len(source.trajectories)} demonstrations of {source.name} from {source.about['path']}")

    config: KeyStateConfig = instantiate(cfg.discovery)
    trajectories = TrajectorySet(source.trajectories, config.delta)
    finder = KeyStateFinder(trajectories, instantiate(cfg.estimator) if cfg.estimator else None, config)
    seconds = _train(finder, out, resume=cfg.resume)
    key_states = finder.key_states()
    mi_loss = instantiate(cfg.profile)
    profile = Profile(*finder.profile(mi_loss, every=2))

    scores = {}
    if source.events:
        scores = {
            "discovered": score_key_states(list(key_states.steps), source.events),
            "evenly spaced": score_key_states(list(evenly_spaced(trajectories.lengths, config.concepts)), source.events),
        }
    concepts = _concepts(source, finder, key_states)
    _draw(out, source, finder, key_states, profile, scores, concepts)
    _write_results(out, cfg, source, finder, key_states, profile, mi_loss, scores, concepts, seconds)
    _print(scores, concepts)
    print(f"key states: {out / 'keystates.json'}, {out / 'keystates.npz'}")
    print(f"report: {out / 'report.html'}; discovery {seconds:.0f} s, {time.monotonic() - began:.0f} s in all")
    return out


def _source(cfg: DictConfig) -> Source:
    path = cfg.demos.path
    if cfg.env.task is None and path is None:
        raise ValueError("env=any needs demos.path=FILE, a ManiSkill .h5 with its .json, or an .npz of trajectories")
    if str(path).endswith(".npz"):
        names, arrays = load_trajectories(path)
        return Source(Path(path).stem, arrays, arrays, names, {"path": str(path), "count": len(arrays)})
    if cfg.env.task is None:
        env_id = recorded_env(path)
        demos = load_demonstrations(path, get_task(env_id, env_id))
    else:
        demos = demonstrations(cfg, get_task(**cfg.env.task))
    task = demos.task
    events = [ground_truth(demo, task) for demo in demos]
    return Source(
        name=task.name,
        states=[demo.states for demo in demos],
        trajectories=[positions(demo.states, task) for demo in demos],
        labels=[f"demonstration {demo.episode_id} (seed {demo.seed})" for demo in demos],
        about={
            "path": str(demos.path),
            "env_id": task.env_id,
            "source": demos.source,
            "control_mode": demos.control_mode,
            "count": len(demos),
        },
        demos=demos,
        events=events if any(events) else None,
    )


def _train(finder: KeyStateFinder, out: Path, *, resume: bool) -> float:
    """Seconds that discovery took, those before an interruption included."""
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.is_file():
        finder.load(checkpoint)
        print(f"resumed from {checkpoint} at epoch {finder.epoch}")
    log = RunLog(out, keep=finder.epoch > 0)
    with progress_bar("discovery", finder.config.epochs, start=finder.epoch) as bar:
        for figures in finder.fit(checkpoint):
            epoch = int(figures.pop("epoch"))
            log.write(epoch, figures)
            bar(epoch, f"information {figures['information']:.3f} nats, moved {figures['moved']:.0f} ticks")
    log.close()
    return finder.seconds


def _concepts(source: Source, finder: KeyStateFinder, key_states: KeyStates) -> list[dict[str, Any]]:
    spread = consistency(key_states.steps, source.trajectories, source.events)
    phases = key_states.steps / (finder.trajectories.lengths[:, None] - 1)
    information = [value if np.isfinite(value) else 0.0 for value in key_states.information] + [None]
    return [
        {
            "concept": k,
            "time": round(float(phases[:, k].mean()), 4),
            "time_std": round(spread.phase_std[k], 4),
            "state_spread": round(spread.state_spread[k], 4),
            "information": None if information[k] is None else round(information[k], 4),
        }
        for k in range(phases.shape[1])
    ]


def _draw(
    out: Path,
    source: Source,
    finder: KeyStateFinder,
    key_states: KeyStates,
    profile: Profile,
    scores: dict[str, KeyStateScore],
    concepts: list[dict[str, Any]],
) -> None:
    count = min(SHOWN, len(source.trajectories))
    panels = [
        pictures.Panel(
            source.labels[row],
            _curves(source, row),
            key_states.steps[row],
            source.events[row] if source.events else {},
            profile.steps[row],
            profile.pointwise[row],
            profile.mean,
        )
        for row in range(count)
    ]
    dotted = " and ground-truth events (dotted)" if source.events else ""
    pictures.timeline(out / "timeline.png", f"{source.name}: key states (solid){dotted}", panels)
    phase = finder.phase[finder.config.delta : -1 : 2]
    pictures.mi_profile(
        out / "mi_profile.png",
        f"{source.name}: MI of states {finder.config.delta} ticks apart, from {len(profile.pointwise)} of the demonstrations",
        phase,
        profile.mean,
        [float(np.mean(finder.clock(column))) for column in key_states.steps.T],
        _event_phases(source, finder),
    )
    frames = "drawn: there is no rendering device here"
    if source.demos is not None:
        camera = pictures.open_camera(source.demos.task)
        frames = "rendered" if isinstance(camera, pictures.RenderedFrames) else frames
        shown = source.demos.demonstrations[: min(count, 4)]
        pictures.contact_sheet(
            out / "contact_sheet.png",
            [[camera.frame(demo, int(step)) for step in steps] for demo, steps in zip(shown, key_states.steps)],
            [[f"key state {k + 1}, step {step}" for k, step in enumerate(steps)] for steps in key_states.steps[: len(shown)]],
            [f"demonstration {demo.episode_id}" for demo in shown],
            [range(finder.config.concepts)] * len(shown),
        )
        pictures.animation(out / "keystates.gif", camera, shown[0], key_states.steps[0])
        camera.close()
    intro = f"{len(source.trajectories)} demonstrations from {source.about['path']}, {finder.config.concepts} key states."
    sections: list[tuple[str, str, Any]] = []
    if scores:
        sections.append(
            ("Agreement with ground-truth events", "Within 5 steps; discovery never sees them.", _score_table(scores))
        )
    sections += [
        ("Key states", "Time: mean and standard deviation, as a share of the trajectory.", _concept_table(concepts)),
        ("MI profile on the common clock", "Grey: the middle 80 % of the events' times.", out / "mi_profile.png"),
        ("A demonstration, pausing at its key states", f"Frames are {frames}.", out / "keystates.gif"),
        ("Key states of some demonstrations", f"Frames are {frames}.", out / "contact_sheet.png"),
        ("Timeline", "Purple: mutual information with the state shortly before.", out / "timeline.png"),
    ]
    write_report(out / "report.html", f"Key states of {source.name}", intro, sections)


def _curves(source: Source, row: int) -> dict[str, NDArray]:
    if source.demos is not None and source.demos.task.object is not None:
        states = source.states[row]
        return {
            "gripper width (cm)": 100 * states[:, STATE_INDEX["gripper_width"]][:, 0],
            "object height (cm)": 100 * states[:, STATE_INDEX["object_position"]][:, 2],
        }
    states = source.trajectories[row] / column_scales(source.trajectories)[1]
    speed = np.linalg.norm(np.gradient(states, axis=0), axis=1)
    return {"speed (standard deviations per step)": speed}


def _event_phases(source: Source, finder: KeyStateFinder) -> dict[str, NDArray]:
    if not source.events:
        return {}
    out = {}
    for name in {name: None for happened in source.events for name in happened}:
        steps = np.array([-1 if happened.get(name) is None else happened[name] for happened in source.events])
        out[name] = finder.clock(np.maximum(steps, 0))[steps >= 0]
    return {name: times for name, times in out.items() if len(times)}


def _write_results(
    out: Path,
    cfg: DictConfig,
    source: Source,
    finder: KeyStateFinder,
    key_states: KeyStates,
    profile: Profile,
    mi_loss: Any,
    scores: dict[str, KeyStateScore],
    concepts: list[dict[str, Any]],
    seconds: float,
) -> None:
    _, pointwise = finder.profile(mi_loss, ticks=[cut - 1 for cut in finder.cuts[1:]], most=len(source.trajectories))
    identity = [
        {"episode": demo.episode_id, "seed": demo.seed} for demo in (source.demos.demonstrations if source.demos else [])
    ] or [{"episode": index, "name": label} for index, label in enumerate(source.labels)]
    episodes = [
        {
            **who,
            "length": len(trajectory),
            "key_states": [{"concept": k, "step": int(s), "mi": round(float(m), 4)} for k, (s, m) in enumerate(zip(steps, mi))],
            "events": source.events[index] if source.events else {},
        }
        for index, (who, trajectory, steps, mi) in enumerate(
            zip(identity, source.trajectories, key_states.steps, pointwise, strict=True)
        )
    ]
    by_infoatlas = cfg.estimator.get("_target_") == "infoatlas_rl.InfoAtlasLoss"
    content: dict[str, Any] = {
        "format": "infoatlas-keystates-2",
        "task": source.name,
        "version": __version__,
        "demonstrations": source.about,
        "weights_sha256": weights_hash(cfg.estimator.weights) if by_infoatlas else None,
        "profile_weights_sha256": weights_hash(cfg.profile.weights),
        "config": OmegaConf.to_container(cfg, resolve=True),
        "machine": describe_machine(cfg.threads),
        "seconds": round(seconds, 1),
        "seconds_per_step": round(finder.seconds_per_step, 4),
        "command": command_line("discover_keystates"),
        "concepts": concepts,
        "mi_profile": {
            "time": finder.phase[finder.config.delta : -1 : 2].round(4).tolist(),
            "mi": profile.mean.round(4).tolist(),
        },
        "scores": {name: score.to_json() for name, score in scores.items()},
        "episodes": episodes,
    }
    with replace_file(out / "keystates.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    with replace_file(out / "keystates.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            episode=np.array([who["episode"] for who in identity]),
            seed=np.array([who.get("seed", -1) for who in identity]),
            concept=np.arange(key_states.steps.shape[1]),
            step=key_states.steps,
            mi=pointwise,
            config=json.dumps(content["config"]),
            weights_sha256=content["weights_sha256"] or "",
            states=np.stack([states[steps] for states, steps in zip(source.states, key_states.steps, strict=True)]),
        )


def _score_table(scores: dict[str, KeyStateScore]) -> tuple[list[str], list[list[str]]]:
    events = list(next(iter(scores.values())).by_event)
    header = ["", "F1", "precision", "recall", "median error", *(f"hits {name}" for name in events)]
    rows = [
        [name, f"{score.f1:.3f}", f"{score.precision:.1%}", f"{score.recall:.1%}", f"{score.median_step_error:.0f} steps"]
        + [f"{score.by_event[event]['recall']:.1%}" for event in events]
        for name, score in scores.items()
    ]
    return header, rows


def _concept_table(concepts: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["key state", "time", "+-", "spread of the state", "information"]
    rows = []
    for c in concepts:
        information = "end" if c["information"] is None else f"{c['information']:.2f} nats"
        spreads = [f"{c['time']:.2f}", f"{c['time_std']:.3f}", f"{c['state_spread']:.2f}"]
        rows.append([str(c["concept"] + 1), *spreads, information])
    return header, rows


def _print(scores: dict[str, KeyStateScore], concepts: list[dict[str, Any]]) -> None:
    print("\nkey states: time as a share of the trajectory, its standard deviation over demonstrations, spread of the state")
    print(Table(*_concept_table(concepts)).text())
    if scores:
        print("agreement with ground-truth events, which discovery never sees (hit: within 5 steps)")
        print(Table(*_score_table(scores)).text())


@hydra_main("discover_keystates")
def main(cfg: DictConfig) -> None:
    discover(cfg)


if __name__ == "__main__":
    main()
