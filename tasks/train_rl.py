"""Reinforcement learning with stable-baselines3, with and without key states, from scratch or from a cloned policy.

    python tasks/train_rl.py env=PickCube                                  # SAC
    python tasks/train_rl.py env=PickCube conditioning=predicted              # conditioned on key states, and shaped
    python tasks/train_rl.py env=PegInsertion start=cloned conditioning=predicted     # corrections of the cloned policy

Learner, networks and callbacks are stable-baselines3's own; ours are the vector environment, the features and the wrappers.
Writes to ``runs/rl/<env>/<name>-<seed>``: ``evaluations.npz`` (EvalCallback), ``best_model.zip``, checkpoints,
TensorBoard scalars, and ``curve.json``: success rate on fresh scenes against environment steps.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import gymnasium
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file, require_same_run
from infoatlas_rl.maniskill.tasks import Task
from policies.conditioning import (
    FeatureObservations,
    KeyStateConditioning,
    NearestDemonstration,
    PredictedKeyStates,
    ResidualActions,
)
from policies.dataset import read_key_states
from policies.environment import StateEnv
from policies.policy import KeyStatePolicy
from policies.vector_env import ProcessVecEnv
from tasks.collect_demos import demonstrations
from tasks.common import describe_machine, hydra_main, print_table
from tasks.evaluate_policy import released_policy
from tasks.train_policy import policy_task

ALGORITHMS = {"sac": SAC, "ppo": PPO}


def build_env(cfg: DictConfig, *, training: bool, nearest: tuple[np.ndarray, np.ndarray] | None) -> gymnasium.Env:
    """The environment that the options describe; called in the worker processes."""
    task = policy_task(cfg)
    env: gymnasium.Env = StateEnv(task, stop_at_success=cfg.stop_at_success, reward=cfg.reward, horizon=cfg.horizon)
    cloned = partial(KeyStatePolicy.load, cfg.policy or released_policy(task), task.name)
    shaping = {"shaping": cfg.shaping if training else 0.0, "gamma": cfg.shaping_gamma}
    if cfg.conditioning == "predicted":
        env = KeyStateConditioning(env, PredictedKeyStates(cloned()), **shaping)
    elif cfg.conditioning == "nearest":
        env = KeyStateConditioning(env, NearestDemonstration(*nearest), **shaping)
    if cfg.start == "cloned":
        env = ResidualActions(env, cloned(), scale=cfg.residual)
    return FeatureObservations(env, task)


def train(cfg: DictConfig) -> dict[str, Any]:
    task = _check(cfg)
    torch.set_num_threads(cfg.threads)
    torch.set_float32_matmul_precision("medium")  # products of bfloat16 numbers, summed in float32: a third less time on CPUs
    out = Path(cfg.out)
    if cfg.resume and (finished := _finished(cfg, out)) is not None:
        print(f"{out / 'curve.json'} is there already, with all {cfg.steps} steps")
        return finished
    out.mkdir(parents=True, exist_ok=True)
    nearest = None
    if cfg.conditioning == "nearest":
        _key_states(cfg, [])  # there before anything is collected
        demos = demonstrations(cfg, task)
        nearest = _key_states(cfg, [demo.seed for demo in demos]), np.stack([demo.states[0] for demo in demos])
    envs = _environments(cfg, cfg.envs, training=True, nearest=nearest)
    evaluation = _environments(cfg, 1, training=False, nearest=nearest)
    began = time.perf_counter()
    try:
        model, done = _model(cfg, envs, out)
        # Scenes of their own for every seed and, after an interruption, for what is left; SB3 has seeded them otherwise.
        envs.seed(1_000_000 * (cfg.seed + 1) + done)
        evaluation.seed(cfg.eval.first_seed + done)
        callbacks = CallbackList(
            [
                _evaluations(cfg, evaluation, out, done),
                CheckpointCallback(max(cfg.eval.every // cfg.envs, 1), str(out / "checkpoints"), "model"),
            ]
        )
        model.learn(cfg.steps - done, callback=callbacks, reset_num_timesteps=done == 0, tb_log_name="tensorboard")
        model.save(out / "model.zip")
    finally:
        envs.close()
        evaluation.close()
    return _write(cfg, out, time.perf_counter() - began, done)


def _environments(cfg: DictConfig, count: int, *, training: bool, nearest: tuple[np.ndarray, np.ndarray] | None) -> VecMonitor:
    """One environment in this process, or several in processes of their own."""
    make = [partial(build_env, cfg, training=training, nearest=nearest)] * count
    return VecMonitor(DummyVecEnv(make) if count == 1 else ProcessVecEnv(make))


def _check(cfg: DictConfig) -> Task:
    choices = {
        "algorithm": list(ALGORITHMS),
        "conditioning": ["none", "predicted", "nearest"],
        "start": ["scratch", "cloned"],
        "reward": ["dense", "normalized_dense", "sparse"],
    }
    for name, accepted in choices.items():
        if cfg[name] not in accepted:
            raise ValueError(f"{name}={cfg[name]} is unknown; choose one of {', '.join(accepted)}")
    if not 1 <= cfg.envs <= cfg.eval.every <= cfg.steps or cfg.eval.episodes < 1:
        raise ValueError(
            f"envs={cfg.envs}, eval.every={cfg.eval.every}, steps={cfg.steps}, eval.episodes={cfg.eval.episodes}: all have to be "
            "at least 1, and eval.every between envs and steps"
        )
    return policy_task(cfg)


def _key_states(cfg: DictConfig, seeds: list[int]) -> np.ndarray:
    try:
        return read_key_states(cfg.keystates_path, seeds)[1]
    except ValueError as error:
        raise ValueError(f"{error}; make them with: python tasks/discover_keystates.py env={cfg.env.name}") from error


def _identity(cfg: DictConfig) -> dict[str, Any]:
    """The options that a run has to be resumed with."""
    options = OmegaConf.to_container(cfg, resolve=True)
    return {name: value for name, value in options.items() if name not in ("steps", "resume", "threads", "out", "name", "paths")}


def _same_run(cfg: DictConfig, out: Path) -> None:
    """Raise unless the run in ``out`` has these options."""
    require_same_run(out, json.loads((out / "options.json").read_text()), _identity(cfg))


def _finished(cfg: DictConfig, out: Path) -> dict[str, Any] | None:
    """The result of a run that has taken all its steps."""
    path = out / "curve.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    if content["config"]["steps"] < cfg.steps:
        return None
    _same_run(cfg, out)
    return content


def _model(cfg: DictConfig, envs: VecMonitor, out: Path) -> tuple[Any, int]:
    """A new learner, or that of the last readable checkpoint, and the steps that it has taken.

    Replay buffers are not kept: after an interruption SAC fills a new one before it goes on learning.
    """
    algorithm = ALGORITHMS[cfg.algorithm]
    saved = sorted((out / "checkpoints").glob("model_*_steps.zip"), key=lambda path: int(path.stem.split("_")[1]))
    if cfg.resume and saved:
        _same_run(cfg, out)
        for path in reversed(saved):
            try:
                model = algorithm.load(path, env=envs, tensorboard_log=str(out))
            except (ValueError, OSError, EOFError, BadZipFile):
                continue  # half written when the run was killed
            print(f"resumed from {path} at step {model.num_timesteps}")
            if cfg.algorithm == "sac":
                model.learning_starts = model.num_timesteps + cfg.sac.learning_starts
            return model, model.num_timesteps
    for path in (*saved, out / "evaluations.npz", out / "curve.json"):
        path.unlink(missing_ok=True)
    with replace_file(out / "options.json") as temporary:
        temporary.write_text(json.dumps(_identity(cfg)))
    options = OmegaConf.to_container(cfg[cfg.algorithm])
    return algorithm("MlpPolicy", envs, seed=cfg.seed, tensorboard_log=str(out), **options), 0


def _evaluations(cfg: DictConfig, evaluation: VecMonitor, out: Path, done: int) -> EvalCallback:
    """SB3's callback, which goes on from the evaluations up to step ``done``."""
    callback = EvalCallback(
        evaluation,
        n_eval_episodes=cfg.eval.episodes,
        eval_freq=max(cfg.eval.every // cfg.envs, 1),
        log_path=str(out),
        best_model_save_path=str(out),
    )
    if done and (out / "evaluations.npz").is_file():
        with np.load(out / "evaluations.npz") as file:
            kept = file["timesteps"] <= done
            callback.evaluations_timesteps = file["timesteps"][kept].tolist()
            callback.evaluations_results = file["results"][kept].tolist()
            callback.evaluations_length = file["ep_lengths"][kept].tolist()
            callback.evaluations_successes = file["successes"][kept].tolist()
            callback.best_mean_reward = float(file["results"][kept].mean(1).max(initial=-np.inf))
    return callback


def _write(cfg: DictConfig, out: Path, seconds: float, done: int) -> dict[str, Any]:
    with np.load(out / "evaluations.npz") as file:
        steps, successes = file["timesteps"].tolist(), file["successes"].sum(1).astype(int).tolist()
    content = {
        "task": cfg.env.name,
        "version": __version__,
        "algorithm": cfg.algorithm,
        "conditioning": cfg.conditioning,
        "start": cfg.start,
        "seed": cfg.seed,
        "episodes": cfg.eval.episodes,
        "curve": [{"steps": step, "k": k} for step, k in zip(steps, successes, strict=True)],
        "seconds": round(seconds, 1),
        "seconds_are_since_step": done,
        "config": OmegaConf.to_container(cfg, resolve=True),
        "machine": describe_machine(cfg.threads),
        "command": "python " + " ".join(["tasks/train_rl.py", *sys.argv[1:]]),
    }
    with replace_file(out / "curve.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    print(f"\nsuccess at any step, {cfg.eval.episodes} fresh scenes at a time")
    print_table(["environment steps", "solved"], [[str(point["steps"]), str(point["k"])] for point in content["curve"]])
    print(f"{cfg.steps - done} steps in {seconds:.0f} s; results: {out / 'curve.json'}, model: {out / 'model.zip'}")
    return content


@hydra_main("train_rl")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
