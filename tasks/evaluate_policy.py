"""Measure the success rate of a policy.

    python tasks/evaluate_policy.py env=PickCube
    python tasks/evaluate_policy.py env=StackCube policy=runs/policies/StackCube/infoatlas-0/policy.safetensors eval.split=seen

The protocol is that of the CoTPC and MaxMI papers: seen scenes are those of the policy's own demonstrations, unseen ones have
the seeds 2000 to 2099 (PegInsertion: to 2399); horizons are 150, 200 and 250 steps; an episode succeeds if the task is
solved at any step. Success at the last step, intermediate events and Wilson intervals are reported, too. Finished episodes
are noted, so that a killed run goes on where it was.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl.files import lock_folder, require_writable
from infoatlas_rl.policies.evaluation import Evaluation, evaluate, noted
from infoatlas_rl.policies.protocol import policy_task, released_policy
from infoatlas_rl.records import provenance, require_results, write_json
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.shell.progress import progress_bar


def run(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate, print and write; returns what is written."""
    asked, task = cfg.eval, policy_task(cfg.env.task)
    evaluation = Evaluation.of(
        Path(cfg.policy) if cfg.policy else released_policy(task.name),
        task,
        asked.split,
        first_seed=asked.first_seed,
        episodes=asked.episodes,
        stop_at_success=asked.stop_at_success,
    )
    folder = Path(cfg.run)
    notes, out = folder / evaluation.notes, Path(cfg.out) if cfg.out else folder / evaluation.result
    require_writable(notes)
    require_results(out)
    with lock_folder(folder):
        content = _evaluate(evaluation, notes, processes=asked.processes, resume=cfg.resume)
        write_json(out, content)
    _print(content)
    print(f"results: {out}")
    return content


def _evaluate(evaluation: Evaluation, notes: Path, *, processes: int, resume: bool) -> dict[str, Any]:
    if not resume:
        notes.unlink(missing_ok=True)
    reused = not noted(notes).keys().isdisjoint(evaluation.seeds)
    began = time.perf_counter()
    with progress_bar(f"{evaluation.task.name}, {evaluation.split}", len(evaluation.seeds)) as bar:
        episodes = evaluate(
            evaluation.policy,
            evaluation.seeds,
            stop_at_success=evaluation.stop_at_success,
            processes=processes,
            record=notes,
            progress=lambda done, k: bar(done, f"{k} of {done} solved ({k / done:.0%})"),
        )
    seconds = None if reused else time.perf_counter() - began
    return evaluation.content(episodes, seconds, provenance("evaluate_policy"))


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
