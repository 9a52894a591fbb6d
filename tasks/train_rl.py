"""Reinforcement learning with stable-baselines3, with and without key states, from scratch or from a cloned policy.

    python tasks/train_rl.py env=PickCube                                  # SAC
    python tasks/train_rl.py env=PickCube conditioning=predicted              # conditioned on key states, and shaped
    python tasks/train_rl.py env=PegInsertion start=cloned                    # corrections of the cloned policy

Learner, networks and callbacks are stable-baselines3's own; ours are the vector environment, the features and the wrappers.
Writes to ``runs/rl/<env>/<name>-<seed>``: ``evaluations.npz`` (EvalCallback), ``best_model.zip``, ``model.zip``, checkpoints,
TensorBoard scalars, and ``curve.json``: success rate on fresh scenes against environment steps. :func:`load` reads the learner
and its environment again.
"""

from __future__ import annotations

import json
import pickle
import time
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import gymnasium
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file, require_same_run, sha256
from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.maniskill.tasks import Task
from infoatlas_rl.policies.conditioning import (
    FeatureObservations,
    KeyStateConditioning,
    NearestDemonstration,
    PredictedKeyStates,
    ResidualActions,
)
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task, released_policy
from infoatlas_rl.policies.vector_env import ProcessVecEnv
from infoatlas_rl.records import command_line, describe_machine
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.collect_demos import demonstrations
from infoatlas_rl.tasks.shell.options import hydra_main

ALGORITHMS = {"sac": SAC, "ppo": PPO}
HORIZON = 50
"""Steps of an episode of a learner that starts from scratch; corrections of a cloned policy need the task's own horizon."""


class Checkpoints(CheckpointCallback):
    """SB3's, with the replay buffer of the last checkpoint only."""

    def _on_step(self) -> bool:
        going_on = super()._on_step()
        if self.n_calls % self.save_freq == 0:
            buffers = sorted(Path(self.save_path).glob("model_replay_buffer_*.pkl"), key=_steps)
            for path in buffers[:-1]:
                path.unlink()
        return going_on


def _steps(checkpoint: Path) -> int:
    """The steps in the name of a checkpoint, as SB3 writes it."""
    return int(checkpoint.stem.split("_")[-2])


def build_env(cfg: DictConfig, *, training: bool, nearest: tuple[np.ndarray, np.ndarray] | None) -> gymnasium.Env:
    """The environment that the options describe; called in the worker processes."""
    task = policy_task(cfg.env.name)
    env: gymnasium.Env = StateEnv(task, stop_at_success=cfg.stop_at_success, reward=cfg.reward, horizon=_horizon(cfg))
    cloned = partial(KeyStatePolicy.load, _policy(cfg), task.name)
    shaping = {"shaping": cfg.shaping if training else 0.0, "gamma": cfg.shaping_gamma}
    if cfg.conditioning == "predicted":
        env = KeyStateConditioning(env, PredictedKeyStates(cloned(key_states=True)), **shaping)
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
    nearest = _nearest(cfg, task)
    envs = _environments(cfg, cfg.envs, training=True, nearest=nearest)
    evaluation = _environments(cfg, 1, training=False, nearest=nearest)
    began = time.perf_counter()
    try:
        model, done = _model(cfg, envs, out)
        # Scenes of their own for every seed and, after an interruption, for what is left; SB3 has seeded them otherwise.
        envs.seed(1_000_000 * (cfg.seed + 1) + done)
        evaluation.seed(cfg.eval.first_seed + done)
        every, checkpoints = max(cfg.eval.every // cfg.envs, 1), str(out / "checkpoints")
        callbacks = CallbackList(
            [
                _evaluations(cfg, evaluation, out, done),
                Checkpoints(every, checkpoints, "model", save_replay_buffer=cfg.algorithm == "sac"),
            ]
        )
        model.learn(cfg.steps - done, callback=callbacks, reset_num_timesteps=done == 0, tb_log_name="tensorboard")
        model.save(out / "model.zip")
    finally:
        envs.close()
        evaluation.close()
    return _write(cfg, out, time.perf_counter() - began, done)


def load(folder: Path | str, model: str = "best_model") -> tuple[BaseAlgorithm, VecMonitor]:
    """A learner that :func:`train` has left in ``folder``, and the environment that it acts in, without shaping.

    Args:
        folder: as in ``runs/rl/PickCube/sac-predicted-scratch-0``.
        model: "best_model" (at the best of all evaluations) or "model" (at the end).

    Raises:
        ValueError: there is no such learner.
    """
    folder = Path(folder)
    path = folder / f"{model}.zip"
    if not path.is_file() or not (folder / "curve.json").is_file():
        raise ValueError(f"no learner at {path}; tasks/train_rl.py writes it, with curve.json beside it, when it has ended")
    content = json.loads((folder / "curve.json").read_text())
    cfg = OmegaConf.create(content["config"])
    env = _environments(cfg, 1, training=False, nearest=_nearest(cfg, policy_task(cfg.env.name)))
    return ALGORITHMS[cfg.algorithm].load(path, env=env), env


def _environments(cfg: DictConfig, count: int, *, training: bool, nearest: tuple[np.ndarray, np.ndarray] | None) -> VecMonitor:
    """One environment in this process, or several in processes of their own."""
    make = [partial(build_env, cfg, training=training, nearest=nearest)] * count
    return VecMonitor(DummyVecEnv(make) if count == 1 else ProcessVecEnv(make))


def _horizon(cfg: DictConfig) -> int | None:
    """Steps of an episode; None for the task's."""
    return HORIZON if cfg.horizon is None and cfg.start == "scratch" else cfg.horizon


def _policy(cfg: DictConfig) -> Path:
    """The cloned policy that corrections or key states are from."""
    return Path(cfg.policy) if cfg.policy else released_policy(policy_task(cfg.env.name).name)


def _nearest(cfg: DictConfig, task: Task) -> tuple[np.ndarray, np.ndarray] | None:
    """What conditioning=nearest needs: key states and first states of demonstrations."""
    if cfg.conditioning != "nearest":
        return None
    _key_states(cfg, [])  # there before anything is collected
    demos = demonstrations(cfg, task)
    return _key_states(cfg, [demo.seed for demo in demos]), np.stack([demo.states[0] for demo in demos])


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
    return policy_task(cfg.env.name)


def _key_states(cfg: DictConfig, seeds: list[int]) -> np.ndarray:
    try:
        return read_key_states(cfg.keystates_path, seeds)[1]
    except ValueError as error:
        raise ValueError(f"{error}; make them with: python tasks/discover_keystates.py env={cfg.env.name}") from error


def _identity(cfg: DictConfig) -> dict[str, Any]:
    """What makes a run what it is: the options that have an effect, and the files that it learns from."""
    options = OmegaConf.to_container(cfg, resolve=True)
    unused = {"steps", "resume", "threads", "out", "name", "paths", "policy", *ALGORITHMS} - {cfg.algorithm}
    unused |= {"shaping", "shaping_gamma"} if cfg.conditioning == "none" else set()
    unused |= {"demos", "keystates_path"} if cfg.conditioning != "nearest" else set()
    unused |= {"residual"} if cfg.start != "cloned" else set()
    identity = {name: value for name, value in options.items() if name not in unused}
    identity |= {"env": cfg.env.name, "horizon": _horizon(cfg)}
    if cfg.conditioning == "predicted" or cfg.start == "cloned":
        identity["policy_sha256"] = sha256(_policy(cfg))
    if cfg.conditioning == "nearest":
        identity["keystates_sha256"] = sha256(cfg.keystates_path)
    return identity


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
    """A new learner, or that of the last whole checkpoint, and the steps that it has taken."""
    algorithm = ALGORITHMS[cfg.algorithm]
    saved = sorted((out / "checkpoints").glob("model_*_steps.zip"), key=_steps)
    if cfg.resume and saved:
        _same_run(cfg, out)
        for path in filter(is_zipfile, reversed(saved)):  # the last one may be half written
            model = algorithm.load(path, env=envs, tensorboard_log=str(out))
            if cfg.algorithm == "sac":
                try:
                    model.load_replay_buffer(path.with_name(f"model_replay_buffer_{_steps(path)}_steps.pkl"))
                except (OSError, EOFError, pickle.UnpicklingError):
                    continue
            print(f"resumed from {path} at step {model.num_timesteps}")
            return model, model.num_timesteps
        raise ValueError(f"none of the {len(saved)} checkpoints in {saved[0].parent} is whole; resume=false starts anew")
    for path in (*(out / "checkpoints").glob("model_*"), out / "evaluations.npz", out / "curve.json"):
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
        "command": command_line("train_rl"),
    }
    with replace_file(out / "curve.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    print(f"\nsuccess at any step, {cfg.eval.episodes} fresh scenes at a time")
    print(Table(["environment steps", "solved"], [[str(point["steps"]), str(point["k"])] for point in content["curve"]]).text())
    print(f"{cfg.steps - done} steps in {seconds:.0f} s; results: {out / 'curve.json'}, model: {out / 'model.zip'}")
    return content


@hydra_main("train_rl")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
