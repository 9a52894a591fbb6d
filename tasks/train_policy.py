"""Train a key-state-conditioned policy on demonstrations, by behaviour cloning.

    python tasks/train_policy.py env=StackCube keystates=infoatlas
    python tasks/train_policy.py env=StackCube keystates=none training.seed=1

Collects demonstrations where there are none, reads the key states that ``tasks/discover_keystates.py`` found in them, and
writes to ``runs/policies/<env>/<keystates>-<seed>``: ``policy.safetensors`` (the checkpoint that solved most validation
scenes), ``training.json``, ``log.csv`` and TensorBoard scalars. A killed run goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.keystates.rules import evenly_spaced
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.policies.cloning import Cloning
from infoatlas_rl.policies.dataset import Windows
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task, validation_scenes
from infoatlas_rl.policies.rollout import evaluate, summary
from infoatlas_rl.records import command_line, describe_machine
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.collect_demos import demonstrations
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.shell.progress import RunLog, progress_bar


def train(cfg: DictConfig) -> Path:
    """The whole job; returns the file of the policy."""
    torch.set_num_threads(cfg.threads)
    out = Path(cfg.out)
    task = policy_task(cfg.env.name)
    if cfg.keystates.name == "none":
        cfg.training.key_weight = 0.0
    config = instantiate(cfg.training)
    due = _rounds(cfg)
    if cfg.keystates.path is not None and not Path(cfg.keystates.path).is_file():
        raise ValueError(f"no key states at {cfg.keystates.path}; {_remedy(cfg)}")
    demos = demonstrations(cfg, task)
    if both := {demo.seed for demo in demos} & set(validation_scenes(cfg)):
        raise ValueError(
            f"{len(both)} of the validation scenes are among the demonstrations (seed {min(both)}, for one); choose another "
            f"validation.first_seed than {cfg.validation.first_seed}"
        )
    key_steps, about = key_states(cfg, demos)
    torch.manual_seed(config.seed)
    policy = KeyStatePolicy(instantiate(cfg.policy))
    cloning = Cloning(policy, Windows(demos, key_steps, policy.config.context, policy.config.chunk), config)

    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if cfg.resume and checkpoint.is_file():
        cloning.load(checkpoint)
        print(f"resumed from {checkpoint} at step {cloning.step}")
    else:
        for old in out.glob("step_*"):
            old.unlink()
    record: dict[str, Any] = {
        "task": cfg.env.name,
        "version": __version__,
        "keystates": about,
        "demonstrations": {"path": str(demos.path), "count": len(demos), "seeds": [demo.seed for demo in demos]},
        "config": OmegaConf.to_container(cfg, resolve=True),
        "machine": describe_machine(cfg.threads),
        "command": command_line("train_policy"),
    }
    rounds = _fit(cloning, cfg, out, due, record)
    best = max(rounds, key=lambda r: (r["k"], r["step"]))
    record |= {
        "validation": rounds,
        "chosen_step": best["step"],
        "seconds": round(cloning.seconds, 1),
        "steps_per_s": round(cloning.step / max(cloning.seconds, 1e-9), 2),
    }
    chosen, _ = KeyStatePolicy.load_with_record(_candidate(out, best["step"]))
    with replace_file(out / "training.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1))
    chosen.save(out / "policy.safetensors", record)  # the last one: where it is, the training is over
    print(f"\nvalidation on scenes {cfg.validation.first_seed} and up, success at any step")
    print(Table(["step", "success", "of"], [[str(r["step"]), str(r["k"]), str(r["n"])] for r in rounds]).text())
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
    try:
        steps, _ = read_key_states(arm.path, [demo.seed for demo in demos])
    except ValueError as error:
        raise ValueError(f"{error}; {_remedy(cfg)}") from error
    if steps.shape[1] != count:
        raise ValueError(
            f"{arm.path} holds {steps.shape[1]} key states a demonstration, the policy needs {count}; {_remedy(cfg)}"
        )
    too_late = [demo.seed for demo, row in zip(demos, steps) if row.max() >= len(demo)]
    if too_late:
        raise ValueError(f"{arm.path}: key states after the end of demonstrations {too_late[:5]}; {_remedy(cfg)}")
    with np.load(arm.path) as file:
        weights = str(file["weights_sha256"]) or None  # of InfoAtlas
    return steps, {"arm": arm.name, "path": str(arm.path), "sha256": sha256(arm.path), "weights_sha256": weights}


def _remedy(cfg: DictConfig) -> str:
    """The command that makes the key states that the options need."""
    usual = {"path": None, "count": 500, "first_seed": 0}
    options = [f"demos.{name}={cfg.demos[name]}" for name, value in usual.items() if cfg.demos[name] != value]
    options += [f"env.concepts={cfg.policy.key_states}"] if cfg.policy.key_states != cfg.env.concepts else []
    return " ".join(["make them with:", cfg.keystates.command, *options])


def _rounds(cfg: DictConfig) -> list[int]:
    """Steps after which the policy is validated; the last one always."""
    shares, last = cfg.validation.rounds, cfg.training.steps
    if not all(0 < share <= 1 for share in shares) or cfg.validation.episodes < 1:
        raise ValueError(
            f"validation.rounds={list(shares)} have to be shares of the training in (0, 1], and "
            f"validation.episodes={cfg.validation.episodes} at least 1"
        )
    return sorted({max(1, round(share * last)) for share in shares} | {last})


def _candidate(out: Path, step: int) -> Path:
    return out / f"step_{step:06d}.safetensors"


def _keep(cloning: Cloning, out: Path, record: dict[str, Any]) -> None:
    """Keep the weights that act now as a candidate; what is known of an earlier one of the same step is void."""
    path = _candidate(out, cloning.step)
    before = sha256(path) if path.is_file() else None
    cloning.average.save(path, record)
    if sha256(path) != before:
        path.with_suffix(".jsonl").unlink(missing_ok=True)


def _fit(cloning: Cloning, cfg: DictConfig, out: Path, due: list[int], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Train, and validate the averaged weights in rounds; every round is kept, so that it need not be run again."""
    last = cloning.config.steps
    rounds: list[dict[str, Any]] = []
    log = RunLog(out, keep=cloning.step > 0)
    if cloning.step in due:
        _keep(cloning, out, record)
    with progress_bar(f"cloning {cfg.env.name}", last, start=cloning.step) as bar:
        for figures in cloning.fit(out / "checkpoint.pt", stops=due):
            log.write(cloning.step, figures)
            bar(cloning.step, f"loss {figures['loss']:.4f}, {figures['steps_per_s']:.1f} steps/s")
            if cloning.step in due:
                _keep(cloning, out, record)
    for step in due:
        path = _candidate(out, step)
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: validation.rounds have changed since this training began; resume=false repeats it"
            )
        seeds = validation_scenes(cfg)
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
