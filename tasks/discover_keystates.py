"""Discover the key states of a task from demonstrations, by maximal mutual information.

    python tasks/discover_keystates.py env=PegInsertion
    python tasks/discover_keystates.py env=PickCube experiment=quick
    python tasks/discover_keystates.py env=StackCube demos.path=trajectory.h5

Collects demonstrations where there are none, trains the localiser, and writes to ``runs/keystates/<env>-<name>``:
``keystates.json`` and ``keystates.npz``, ``timeline.png``, ``contact_sheet.png`` where frames can be rendered, and
``log.csv`` and TensorBoard scalars. A killed run goes on from its last epoch.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file
from infoatlas_rl.keystates import (
    KeyStateConfig,
    KeyStateFinder,
    KeyStates,
    KeyStateScore,
    TrajectorySet,
    evenly_spaced,
    score_key_states,
)
from infoatlas_rl.maniskill.demos import DemonstrationSet, load_demonstrations
from infoatlas_rl.maniskill.events import detect_events
from infoatlas_rl.maniskill.pictures import contact_sheet, timeline
from infoatlas_rl.maniskill.tasks import Task, get_task
from infoatlas_rl.weights import weights_hash
from tasks.collect_demos import collect
from tasks.common import RunLog, describe_machine, hydra_main, progress_bar


def discover(cfg: DictConfig) -> Path:
    """The whole job; returns the folder of results."""
    began = time.monotonic()
    torch.set_num_threads(cfg.threads)
    task = get_task(cfg.env.name)
    out = Path(cfg.out)
    demos = _demonstrations(cfg, task)
    print(f"{len(demos)} demonstrations of {task.name} from {demos.path}")

    config: KeyStateConfig = instantiate(cfg.discovery)
    trajectories = TrajectorySet([demo.states for demo in demos], config.delta)
    finder = KeyStateFinder(trajectories, instantiate(cfg.estimator), config)
    _train(finder, out, resume=cfg.resume)
    key_states = finder.key_states()

    # Ground truth enters here, after training, and only to be compared with.
    events = [detect_events(demo.states, task) for demo in demos]
    scores = {
        "discovered": score_key_states(key_states.steps, events),
        "evenly spaced": score_key_states(evenly_spaced(trajectories.lengths, config.concepts), events),
    }
    _draw(out, task, demos, finder, key_states, events)
    _write_results(out, cfg, demos, key_states, events, scores, time.monotonic() - began)
    _print_table(scores)
    print(f"key states: {out / 'keystates.json'}, {out / 'keystates.npz'}; {time.monotonic() - began:.0f} s in all")
    return out


def _demonstrations(cfg: DictConfig, task: Task) -> DemonstrationSet:
    if cfg.demos.path is not None:
        return load_demonstrations(cfg.demos.path, task)
    report = collect(
        task, Path(cfg.paths.demos), cfg.demos.count, cfg.demos.first_seed, cfg.demos.processes, control_mode="pd_joint_pos"
    )
    return load_demonstrations(report.path, task, count=cfg.demos.count)


def _train(finder: KeyStateFinder, out: Path, *, resume: bool) -> None:
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.is_file():
        finder.load(checkpoint)
        print(f"resumed from {checkpoint} at epoch {finder.epoch}")
    log = RunLog(out, keep=finder.epoch > 0)
    with progress_bar("discovery", finder.config.epochs, start=finder.epoch) as bar:
        for figures in finder.fit(checkpoint):
            epoch = int(figures.pop("epoch"))
            log.write(epoch, figures)
            bar(epoch, f"loss {figures['loss']:.3f}, MI {figures['mi']:.3f} nats")
    log.close()


def _write_results(
    out: Path,
    cfg: DictConfig,
    demos: DemonstrationSet,
    key_states: KeyStates,
    events: list[dict[str, int | None]],
    scores: dict[str, KeyStateScore],
    seconds: float,
) -> None:
    episodes = [
        {
            "episode": demo.episode_id,
            "seed": demo.seed,
            "length": len(demo),
            "key_states": [
                {"concept": concept, "step": int(step), "mi": round(float(score), 4)}
                for concept, (step, score) in enumerate(zip(steps, mi, strict=True))
            ],
            "events": happened,
        }
        for demo, steps, mi, happened in zip(demos, key_states.steps, key_states.scores, events, strict=True)
    ]
    content: dict[str, Any] = {
        "format": "infoatlas-keystates-1",
        "task": demos.task.name,
        "env_id": demos.task.env_id,
        "version": __version__,
        "demonstrations": {
            "path": str(demos.path),
            "source": demos.source,
            "control_mode": demos.control_mode,
            "count": len(demos),
        },
        "weights_sha256": weights_hash(cfg.estimator.weights),
        "config": OmegaConf.to_container(cfg, resolve=True),
        "machine": describe_machine(cfg.threads),
        "seconds": round(seconds, 1),
        "command": "python " + " ".join(["tasks/discover_keystates.py", *sys.argv[1:]]),
        "concept_mi": [round(float(mi), 4) for mi in key_states.mi],
        "scores": {
            name: {
                "median_step_error": score.median_step_error,
                "hit_rate": score.hit_rate,
                "precision": score.precision,
                "f1": score.f1,
                "by_event": score.by_event,
            }
            for name, score in scores.items()
        },
        "episodes": episodes,
    }
    with replace_file(out / "keystates.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    if cfg.summary is not None:
        with replace_file(cfg.summary) as temporary:
            temporary.write_text(json.dumps({key: value for key, value in content.items() if key != "episodes"}, indent=1) + "\n")
    with replace_file(out / "keystates.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            episode=np.array([demo.episode_id for demo in demos]),
            seed=np.array([demo.seed for demo in demos]),
            concept=np.arange(key_states.steps.shape[1]),
            step=key_states.steps,
            mi=key_states.scores,
            config=json.dumps(content["config"]),
            weights_sha256=content["weights_sha256"],
            states=np.stack([demo.states[steps] for demo, steps in zip(demos, key_states.steps, strict=True)]),
        )


def _draw(
    out: Path,
    task: Task,
    demos: DemonstrationSet,
    finder: KeyStateFinder,
    key_states: KeyStates,
    events: list[dict[str, int | None]],
) -> None:
    shown = demos.demonstrations[:6]
    phases, pointwise = finder.profile(every=2, most=150)
    timeline(out / "timeline.png", task, shown, key_states.steps[:6], events[:6], (phases, pointwise[:6]), pointwise.mean(0))
    print(f"timeline of {len(shown)} demonstrations: {out / 'timeline.png'}")
    try:
        contact_sheet(out / "contact_sheet.png", task, shown, key_states.steps[:6])
        print(f"rendered key states: {out / 'contact_sheet.png'}")
    except RuntimeError as error:
        print(f"no contact sheet: {error}")


def _print_table(scores: dict[str, KeyStateScore]) -> None:
    events = list(next(iter(scores.values())).by_event)
    columns = ["", "median error", "hit rate", "F1", *(f"hits {name}" for name in events)]
    rows = [
        [name, f"{score.median_step_error:.0f} steps", f"{score.hit_rate:.1%}", f"{score.f1:.3f}"]
        + [f"{score.by_event[event]['hit_rate']:.1%}" for event in events]
        for name, score in scores.items()
    ]
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print("\nagreement with ground-truth events, which training never sees (hit: within 5 steps)")
    for row in [columns, *rows]:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(["", row[0].ljust(len(name)), *cells]))
    print()


@hydra_main("discover_keystates")
def main(cfg: DictConfig) -> None:
    discover(cfg)


if __name__ == "__main__":
    main()
