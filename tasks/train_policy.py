"""Train a key-state-conditioned policy on demonstrations, by behaviour cloning.

    python tasks/train_policy.py env=StackCube keystates=infoatlas
    python tasks/train_policy.py env=StackCube keystates=none training.seed=1
    python tasks/train_policy.py env=PickCube experiment=quick

Collects demonstrations where there are none, reads the key states that ``tasks/discover_keystates.py`` found in them, and
writes to ``runs/policies/<env>/<keystates>-<seed>``: ``policy.safetensors`` (the checkpoint that solved most validation
scenes), ``training.json``, ``log.csv`` and TensorBoard scalars. A killed run goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.files import lock_folder
from infoatlas_rl.maniskill.tasks import describe
from infoatlas_rl.policies.cloning import CloningConfig
from infoatlas_rl.policies.policy import PolicyConfig
from infoatlas_rl.policies.protocol import policy_task
from infoatlas_rl.policies.training import PolicyTraining, ValidationConfig, key_steps
from infoatlas_rl.records import provenance
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import defaults, hydra_main, typed_env
from infoatlas_rl.tasks.shell.progress import RunLog, progress_bar
from infoatlas_rl.tasks.shell.sources import demonstrations

defaults("train_policy/policy", PolicyConfig)
defaults("train_policy/training", CloningConfig)
defaults("train_policy/validation", ValidationConfig)


def train(cfg: DictConfig) -> Path:
    """The whole job; returns the file of the policy."""
    task, out, arm = policy_task(cfg.env.task), Path(cfg.out), cfg.keystates
    if cfg.env.concepts is None and "${" in str(OmegaConf.to_container(cfg.policy)["key_states"]):
        raise ValueError("env.concepts=null: a policy has a number of key states; say env.concepts=K, as many as were discovered")
    policy, config, validation = (OmegaConf.to_object(cfg[name]) for name in ("policy", "training", "validation"))
    if policy.task != describe(task):
        raise ValueError(f"policy.task={policy.task} is no choice: with env={task.name} it is {task.name}")
    if arm.name == "none":
        config = replace(config, key_weight=0.0)
    if arm.path is not None and not Path(arm.path).is_file():
        raise ValueError(f"no key states at {arm.path}; {_remedy(cfg)}")
    with lock_folder(out):
        demos = demonstrations(cfg, task)
        try:
            steps, about = key_steps(demos, policy.key_states, arm.name, arm.path)
        except ValueError as error:
            raise ValueError(f"{error}; {_remedy(cfg)}") from error
        record = {
            "task": task.name,
            "keystates": about,
            "config": OmegaConf.to_container(cfg, resolve=True),
            **provenance("train_policy", threads=cfg.threads),
        }
        path = _run(PolicyTraining(demos, steps, policy, config, validation, out, record), task.name, resume=cfg.resume)
    print(f"policy: {path}")
    print(f"evaluate it: python tasks/evaluate_policy.py env={typed_env(task.name)} policy={path}")
    return path


def _run(training: PolicyTraining, task: str, *, resume: bool) -> Path:
    """Train, validate, choose; shown and logged."""
    cloning = training.cloning
    if resume and training.resume():
        print(f"resumed from {training.checkpoint} at step {cloning.step}")
    log = RunLog(training.out, keep=cloning.step > 0)
    with progress_bar(f"cloning {task}", cloning.config.steps, start=cloning.step) as bar:
        for figures in training.fit():
            log.write(cloning.step, figures)
            bar(cloning.step, f"loss {figures['loss']:.4f}, {figures['steps_per_s']:.1f} steps/s")
    for step in training.due:
        with progress_bar(f"validating step {step}", training.validation.episodes) as bar:
            found = training.validate(step, lambda done, k, bar=bar: bar(done, f"{k} of {done} solved"))
        log.write(step, {"validation": found["rate"]})
    log.close()
    path, record = training.finish()
    print(f"\nvalidation on scenes {training.validation.first_seed} and up, success at any step")
    print(Table(["step", "success", "of"], [[str(r["step"]), str(r["k"]), str(r["n"])] for r in training.rounds]).text())
    print(f"{cloning.step} steps in {cloning.seconds:.0f} s, {record['steps_per_s']} per s; chosen: step {record['chosen_step']}")
    return path


def _remedy(cfg: DictConfig) -> str:
    """The command that makes the key states that the options need, or the option that takes those that are there."""
    env, here = cfg.env, Path(cfg.keystates.path)
    command = cfg.keystates.command or f"python tasks/discover_keystates.py env={env.name}"
    command = command.replace(f"env={env.name}", f"env={typed_env(env.name)}")
    usual = {"path": None, "count": 50 if "experiment=quick" in command else 500, "first_seed": 0}
    options = [f"demos.{name}={cfg.demos[name]}" for name, value in usual.items() if cfg.demos[name] != value]
    options += [f"env.concepts={cfg.policy.key_states}"] if cfg.policy.key_states != env.concepts else []
    remedy = " ".join(["make them with:", command, *options])
    quick = here.parent.with_name(f"{env.name}-quick") / here.name
    if here.parent.name == f"{env.name}-default" and quick.is_file():
        return f"there are key states of fewer demonstrations at {quick}, experiment=quick trains with these; or {remedy}"
    return remedy


@hydra_main("train_policy")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
