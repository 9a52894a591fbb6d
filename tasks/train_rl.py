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

import gymnasium
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.tasks import get_task
from policies.conditioning import (
    FeatureObservations,
    KeyStateConditioning,
    NearestDemonstration,
    PredictedKeyStates,
    ResidualActions,
)
from policies.environment import StateEnv
from policies.policy import KeyStatePolicy
from policies.vector_env import ProcessVecEnv
from tasks.collect_demos import demonstrations
from tasks.common import describe_machine, hydra_main, print_table
from tasks.evaluate_policy import released_policy

ALGORITHMS = {"sac": SAC, "ppo": PPO}


def build_env(cfg: DictConfig, *, training: bool, first_states: np.ndarray | None) -> gymnasium.Env:
    """The environment that the options describe; called in the worker processes."""
    task = get_task(**cfg.env.task)
    env: gymnasium.Env = StateEnv(task, stop_at_success=cfg.stop_at_success, reward=cfg.reward, horizon=cfg.horizon)
    cloned = partial(KeyStatePolicy.load, cfg.policy or released_policy(task), task.name)
    gamma = cfg[cfg.algorithm].gamma
    shaping = cfg.shaping if training else 0.0
    if cfg.conditioning == "predicted":
        env = KeyStateConditioning(env, PredictedKeyStates(cloned()), shaping=shaping, gamma=gamma)
    elif cfg.conditioning == "nearest":
        env = KeyStateConditioning(env, NearestDemonstration(cfg.keystates_path, first_states), shaping=shaping, gamma=gamma)
    if cfg.start == "cloned":
        env = ResidualActions(env, cloned(), scale=cfg.residual)
    return FeatureObservations(env, task)


def train(cfg: DictConfig) -> dict[str, Any]:
    _check(cfg)
    torch.set_num_threads(cfg.threads)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    first_states = None
    if cfg.conditioning == "nearest":
        if not Path(cfg.keystates_path).is_file():
            raise ValueError(
                f"no key states at {cfg.keystates_path}; make them with: python tasks/discover_keystates.py env={cfg.env.name}"
            )
        first_states = np.stack([demo.states[0] for demo in demonstrations(cfg, get_task(**cfg.env.task))])
    envs = _environments(cfg, cfg.envs, training=True, first_states=first_states)
    evaluation = _environments(cfg, 1, training=False, first_states=first_states)
    envs.seed(100_000 * (cfg.seed + 1))
    evaluation.seed(cfg.eval.first_seed)
    began = time.perf_counter()
    try:
        model, done = _model(cfg, envs, out)
        callbacks = CallbackList(
            [
                _evaluations(cfg, evaluation, out, resumed=done > 0),
                CheckpointCallback(max(cfg.eval.every // cfg.envs, 1), str(out / "checkpoints"), "model"),
            ]
        )
        model.learn(cfg.steps - done, callback=callbacks, reset_num_timesteps=done == 0, tb_log_name="tensorboard")
        model.save(out / "model.zip")
    finally:
        envs.close()
        evaluation.close()
    return _write(cfg, out, time.perf_counter() - began)


def _environments(cfg: DictConfig, count: int, *, training: bool, first_states: np.ndarray | None) -> VecMonitor:
    """One environment in this process, or several in processes of their own."""
    make = [partial(build_env, cfg, training=training, first_states=first_states)] * count
    return VecMonitor(DummyVecEnv(make) if count == 1 else ProcessVecEnv(make))


def _check(cfg: DictConfig) -> None:
    for name, accepted in (
        ("algorithm", list(ALGORITHMS)),
        ("conditioning", ["none", "predicted", "nearest"]),
        ("start", ["scratch", "cloned"]),
    ):
        if cfg[name] not in accepted:
            raise ValueError(f"{name}={cfg[name]} is unknown; choose one of {', '.join(accepted)}")


def _model(cfg: DictConfig, envs: VecMonitor, out: Path) -> tuple[Any, int]:
    """A new learner, or the one of the last checkpoint, and the steps that it has taken. Replay buffers start empty."""
    algorithm = ALGORITHMS[cfg.algorithm]
    saved = sorted((out / "checkpoints").glob("model_*_steps.zip"), key=lambda path: int(path.stem.split("_")[1]))
    if cfg.resume and saved:
        model = algorithm.load(saved[-1], env=envs, tensorboard_log=str(out))
        print(f"resumed from {saved[-1]} at step {model.num_timesteps}")
        return model, model.num_timesteps
    for path in saved:
        path.unlink()
    options = OmegaConf.to_container(cfg[cfg.algorithm])
    model = algorithm("MlpPolicy", envs, seed=cfg.seed, tensorboard_log=str(out), **options)
    return model, 0


def _evaluations(cfg: DictConfig, evaluation: VecMonitor, out: Path, *, resumed: bool) -> EvalCallback:
    callback = EvalCallback(
        evaluation,
        n_eval_episodes=cfg.eval.episodes,
        eval_freq=max(cfg.eval.every // cfg.envs, 1),
        log_path=str(out),
        best_model_save_path=str(out),
    )
    if resumed and (out / "evaluations.npz").is_file():
        with np.load(out / "evaluations.npz") as file:
            callback.evaluations_timesteps = file["timesteps"].tolist()
            callback.evaluations_results = file["results"].tolist()
            callback.evaluations_length = file["ep_lengths"].tolist()
            callback.evaluations_successes = file["successes"].tolist()
    return callback


def _write(cfg: DictConfig, out: Path, seconds: float) -> dict[str, Any]:
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
        "config": OmegaConf.to_container(cfg, resolve=True),
        "machine": describe_machine(cfg.threads),
        "command": "python " + " ".join(["tasks/train_rl.py", *sys.argv[1:]]),
    }
    with replace_file(out / "curve.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    print(f"\nsuccess at any step, {cfg.eval.episodes} fresh scenes at a time")
    print_table(["environment steps", "solved"], [[str(point["steps"]), str(point["k"])] for point in content["curve"]])
    print(f"{cfg.steps} steps in {seconds:.0f} s; results: {out / 'curve.json'}, model: {out / 'model.zip'}")
    return content


@hydra_main("train_rl")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
