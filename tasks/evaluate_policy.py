"""Measure the success rate of a policy.

    python tasks/evaluate_policy.py env=PickCube
    python tasks/evaluate_policy.py env=StackCube policy=runs/policies/StackCube/infoatlas-0/policy.safetensors eval.split=seen

The protocol is that of the CoTPC and MaxMI papers: seen scenes are those of the policy's own demonstrations, unseen ones have
the seeds 2000 to 2099 (PegInsertion: to 2399); horizons are 150, 200 and 250 steps; an episode succeeds if the task is
solved at any step. Success at the last step, intermediate events and Wilson intervals are reported, too. Finished episodes
are noted, so that a killed run goes on where it was.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import evaluation_scenes, policy_task, released_policy
from infoatlas_rl.policies.rollout import evaluate, noted, summary
from infoatlas_rl.records import command_line, describe_machine
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.shell.progress import progress_bar


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate, print and write; returns what is written."""
    task = policy_task(cfg.env.name)
    path = Path(cfg.policy) if cfg.policy else released_policy(task.name)
    _, record = KeyStatePolicy.load_with_record(path, task.name)
    seeds = evaluation_scenes(task.name, record, cfg.eval.split, first_seed=cfg.eval.first_seed, episodes=cfg.eval.episodes)
    digest = sha256(path)
    folder = Path(cfg.run)
    folder.mkdir(parents=True, exist_ok=True)
    notes = folder / f"{digest[:12]}{'-stopped' if cfg.eval.stop_at_success else ''}.jsonl"
    if not cfg.resume:
        notes.unlink(missing_ok=True)
    reused = not noted(notes).keys().isdisjoint(seeds)
    began = time.perf_counter()
    with progress_bar(f"{task.name}, {cfg.eval.split}", len(seeds)) as bar:
        episodes = evaluate(
            path,
            seeds,
            stop_at_success=cfg.eval.stop_at_success,
            processes=cfg.eval.processes,
            record=notes,
            progress=lambda done, k: bar(done, f"{k} of {done} solved ({k / done:.0%})"),
        )
    content: dict[str, Any] = {
        "format": "infoatlas-evaluation-1",
        "task": task.name,
        "env_id": task.env_id,
        "horizon": task.horizon,
        "backend": "physx_cpu",
        "version": __version__,
        "policy": {"path": str(path), "sha256": digest, "keystates": record.get("keystates"), "seed": _seed(record)},
        "demonstrations": record["demonstrations"]["count"],
        "split": cfg.eval.split,
        **summary(episodes),
        "seconds": None if reused else round(time.perf_counter() - began, 1),  # of all episodes, or not known
        "machine": describe_machine(),
        "command": command_line("evaluate_policy"),
        "episodes": [asdict(episode) for episode in episodes],
    }
    if cfg.eval.stop_at_success:
        del content["k_at_end"]
    out = Path(cfg.out) if cfg.out else folder / f"{cfg.eval.split}-{digest[:12]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(out) as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    _print(content)
    print(f"results: {out}")
    return content


def _seed(record: dict[str, Any]) -> int:
    return record["config"]["training"]["seed"]


def _print(content: dict[str, Any]) -> None:
    low, high = content["wilson95"]
    n = content["n"]
    rows = [["success at any step", f"{content['k']} of {n}", f"{content['rate']:.1%}", f"{low:.1%} to {high:.1%}"]]
    if "k_at_end" in content:
        rows.append(["success at the end", f"{content['k_at_end']} of {n}", f"{content['k_at_end'] / n:.1%}", ""])
    rows += [[name, f"{k} of {n}", f"{k / n:.1%}", ""] for name, k in content["events"].items()]
    seeds = [episode["seed"] for episode in content["episodes"]]
    print(
        f"\n{content['task']}, {content['split']} scenes (seeds {min(seeds)} to {max(seeds)}), horizon {content['horizon']}, "
        f"{content['demonstrations']} demonstrations"
    )
    print(Table(["", "episodes", "rate", "95 % (Wilson)"], rows).text())
    if content["seconds"] is not None:
        print(f"{n} episodes in {content['seconds']:.0f} s")


@hydra_main("evaluate_policy")
def main(cfg: DictConfig) -> None:
    run(cfg)


if __name__ == "__main__":
    main()
