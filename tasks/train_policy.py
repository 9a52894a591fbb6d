"""Train a key-state-conditioned policy on demonstrations, by behaviour cloning.

    python tasks/train_policy.py env=StackCube keystates=infoatlas
    python tasks/train_policy.py env=StackCube keystates=none training.seed=1

Collects demonstrations where there are none, reads the key states that ``tasks/discover_keystates.py`` found in them, and
writes to ``runs/policies/<env>/<keystates>-<seed>``: ``policy.safetensors`` (the checkpoint that solved most validation
scenes), ``training.json``, ``log.csv`` and TensorBoard scalars. A killed run goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.keystates.rules import evenly_spaced
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.tasks import get_task
from policies.cloning import Cloning
from policies.dataset import Windows
from policies.policy import KeyStatePolicy
from policies.rollout import evaluate, summary
from tasks.collect_demos import demonstrations
from tasks.common import RunLog, describe_machine, hydra_main, print_table, progress_bar


def train(cfg: DictConfig) -> Path:
    """The whole job; returns the file of the policy."""
    torch.set_num_threads(cfg.threads)
    out = Path(cfg.out)
    demos = demonstrations(cfg, get_task(**cfg.env.task))
    config = instantiate(cfg.training)
    if cfg.keystates.name == "none":
        config = instantiate(cfg.training, key_weight=0.0)
    key_steps, about = key_states(cfg, demos)
    torch.manual_seed(config.seed)
    policy = KeyStatePolicy(instantiate(cfg.policy))
    cloning = Cloning(policy, Windows(demos, key_steps, policy.config.context, policy.config.chunk), config)

    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if cfg.resume and checkpoint.is_file():
        cloning.load(checkpoint)
        print(f"resumed from {checkpoint} at step {cloning.step}")
    rounds = _fit(cloning, cfg, out, resumed=cloning.step > 0)
    best = max(rounds, key=lambda r: (r["k"], r["step"]))
    record: dict[str, Any] = {
        "task": cfg.env.name,
        "version": __version__,
        "keystates": about,
        "demonstrations": {"path": str(demos.path), "count": len(demos), "seeds": [demo.seed for demo in demos]},
        "config": OmegaConf.to_container(cfg, resolve=True),
        "validation": rounds,
        "chosen_step": best["step"],
        "seconds": round(cloning.seconds, 1),
        "steps_per_s": round(cloning.step / max(cloning.seconds, 1e-9), 2),
        "machine": describe_machine(cfg.threads),
        "command": "python " + " ".join(["tasks/train_policy.py", *sys.argv[1:]]),
    }
    chosen, _ = KeyStatePolicy.load_with_record(_candidate(out, best["step"]))
    chosen.save(out / "policy.safetensors", record)
    with replace_file(out / "training.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1))
    print(f"\nvalidation on scenes {cfg.validation.first_seed} and up, success at any step")
    print_table(["step", "success", "of"], [[str(r["step"]), str(r["k"]), str(r["n"])] for r in rounds])
    print(f"{cloning.step} steps in {cloning.seconds:.0f} s, {record['steps_per_s']} per s; chosen: step {best['step']}")
    print(f"policy: {out / 'policy.safetensors'}")
    print(f"evaluate it: python tasks/evaluate_policy.py env={cfg.env.name} policy={out / 'policy.safetensors'}")
    return out / "policy.safetensors"


def key_states(cfg: DictConfig, demos: DemonstrationSet) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Steps ``(n, k)`` of the key states of an arm, and where they are from."""
    arm, count = cfg.keystates, cfg.policy.key_states
    if arm.path is None:
        lengths = np.array([len(demo) for demo in demos])
        return np.asarray(evenly_spaced(lengths, count)), {"arm": arm.name}
    path = Path(arm.path)
    remedy = f"make them with: {arm.command}"
    if len(demos) != 500:
        remedy += f" demos.count={len(demos)}"
    if not path.is_file():
        raise ValueError(f"no key states at {path}; {remedy}")
    with np.load(path) as file:
        row_of = {int(seed): row for row, seed in enumerate(file["seed"])}
        steps, weights = file["step"], str(file["weights_sha256"])
    missing = [demo.seed for demo in demos if demo.seed not in row_of]
    if missing or steps.shape[1] != count:
        raise ValueError(
            f"{path} holds {steps.shape[1]} key states of {len(steps)} demonstrations, the policy needs {count} of "
            f"{len(demos)}, {len(missing)} of which are not in the file; {remedy}"
        )
    found = steps[[row_of[demo.seed] for demo in demos]]
    too_late = [demo.seed for demo, row in zip(demos, found) if row.max() >= len(demo)]
    if too_late:
        raise ValueError(f"{path}: key states after the end of demonstrations {too_late[:5]}; it is of other ones, {remedy}")
    return found, {"arm": arm.name, "path": str(path), "sha256": sha256(path), "weights_sha256": weights}


def _candidate(out: Path, step: int) -> Path:
    return out / f"step_{step:06d}.safetensors"


def _keep(cloning: Cloning, out: Path) -> None:
    """Keep the weights that act now as a candidate; what is known of an earlier one of the same step is void."""
    path = _candidate(out, cloning.step)
    before = sha256(path) if path.is_file() else None
    cloning.average.save(path, {})
    if sha256(path) != before:
        path.with_suffix(".jsonl").unlink(missing_ok=True)


def _fit(cloning: Cloning, cfg: DictConfig, out: Path, *, resumed: bool) -> list[dict[str, Any]]:
    """Train, and validate the averaged weights in rounds; every round is kept, so that it need not be run again."""
    last = cloning.config.steps
    due = sorted({max(1, round(share * last)) for share in cfg.validation.rounds} | {last})
    rounds: list[dict[str, Any]] = []
    log = RunLog(out, keep=resumed)
    if cloning.step in due:
        _keep(cloning, out)
    with progress_bar(f"cloning {cfg.env.name}", last, start=cloning.step) as bar:
        for figures in cloning.fit(out / "checkpoint.pt", stops=due):
            log.write(cloning.step, figures)
            bar(cloning.step, f"loss {figures['loss']:.4f}, {figures['steps_per_s']:.1f} steps/s")
            if cloning.step in due:
                _keep(cloning, out)
    for step in due:
        path = _candidate(out, step)
        seeds = range(cfg.validation.first_seed, cfg.validation.first_seed + cfg.validation.episodes)
        with progress_bar(f"validating step {step}", len(seeds)) as bar:
            episodes = evaluate(
                path,
                seeds,
                stop_at_success=True,
                processes=cfg.validation.processes,
                record=path.with_suffix(".jsonl"),
                progress=lambda done, k, bar=bar: bar(done, f"{k} of {done} solved"),
            )
        rounds.append({"step": step, **summary(episodes)})
        log.write(step, {"validation": rounds[-1]["rate"]})
    log.close()
    return rounds


@hydra_main("train_policy")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
