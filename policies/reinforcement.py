"""Reinforcement learning with stable-baselines3, with and without key states, from scratch or from a cloned policy.

Learner, networks and evaluation are stable-baselines3's own; ours are the vector environment, the features, the wrappers and the
files. A run has a folder: ``options.json``, ``evaluations.npz`` (SB3's ``EvalCallback``), ``checkpoints/`` from which it goes on
after an interruption, ``best_model.pt`` and ``model.pt`` (at the end), TensorBoard scalars, and ``curve.json``: success in fresh
scenes against environment steps. :func:`load` reads the learner and its environment again.
"""

from __future__ import annotations

import copy
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from infoatlas_rl.files import require_same_run
from infoatlas_rl.policies.conditioning import (
    FeatureObservations,
    KeyStateConditioning,
    NearestDemonstration,
    PredictedKeyStates,
    ResidualActions,
)
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.learner import ALGORITHMS, NEAREST, VERSION, CurveConfig, LearnerConfig, Nearest, Prior
from infoatlas_rl.policies.learner_files import (
    ANEW,
    Checkpoints,
    KeepLearner,
    buffer_of,
    checkpoints,
    read_arrays,
    read_buffer,
    read_evaluations,
    read_json,
    read_learner,
    write_arrays,
    write_learner,
)
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.prior import NormalisedReLU, PriorReplayBuffer, transitions
from infoatlas_rl.policies.protocol import policy_task
from infoatlas_rl.policies.vector_env import ProcessVecEnv
from infoatlas_rl.records import write_json


def build_env(config: LearnerConfig, *, training: bool, nearest: Nearest | None) -> gymnasium.Env:
    """The environment that the options describe; called in the worker processes."""
    options = {"stop_at_success": config.stop_at_success, "reward": config.reward, "horizon": config.episode}
    return _wrapped(config, StateEnv(policy_task(config.task), **options), training=training, nearest=nearest)


def _wrapped(config: LearnerConfig, env: gymnasium.Env, *, training: bool, nearest: Nearest | None) -> FeatureObservations:
    """Key states, corrections and features around an environment of 100-D states."""
    task = policy_task(config.task)
    shaping = {"shaping": config.shaping if training else 0.0, "gamma": config.shaping_gamma}
    if config.conditioning == "predicted":
        policy = KeyStatePolicy.load(config.policy_file, task.name, key_states=True)
        env = KeyStateConditioning(env, PredictedKeyStates(policy), **shaping)
    elif config.conditioning == "nearest":
        env = KeyStateConditioning(env, NearestDemonstration(*nearest), **shaping)
    if config.start == "cloned":
        env = ResidualActions(env, KeyStatePolicy.load(config.policy_file, task.name), scale=config.residual)
    return FeatureObservations(env, task)


def environments(config: LearnerConfig, count: int, *, training: bool, nearest: Nearest | None) -> VecMonitor:
    """One environment in this process, or several in processes of their own."""
    make = [partial(build_env, config, training=training, nearest=nearest)] * count
    return VecMonitor(DummyVecEnv(make) if count == 1 else ProcessVecEnv(make))


def finished(
    config: LearnerConfig, out: Path, nearest: Nearest | None = None, prior: Prior | None = None
) -> dict[str, Any] | None:
    """The result of a run in ``out`` that has taken all its steps; None where there is none.

    Raises:
        ValueError: there is one, with other options.
    """
    path = out / "curve.json"
    if not path.is_file() or (content := read_json(path))["config"]["steps"] < config.steps:
        return None
    require_same_run(out, read_json(out / "options.json"), config.identity(nearest, prior))
    return content


class Learning:
    """A run of a learner in a folder. Use it as a context, which closes its environments.

    Args:
        config: the learner.
        out: folder of the run.
        nearest: for conditioning=nearest.
        prior: for prior=true.
        resume: go on from the last checkpoint in the folder.

    Raises:
        ValueError: the checkpoint is damaged, or of a run with other options; the message names both sides.
    """

    def __init__(
        self, config: LearnerConfig, out: Path, nearest: Nearest | None = None, prior: Prior | None = None, *, resume: bool = True
    ) -> None:
        if (config.conditioning == "nearest") != (nearest is not None):
            raise ValueError(f"conditioning={config.conditioning}: demonstrations are for conditioning=nearest, which needs them")
        if config.prior != (prior is not None):
            raise ValueError(f"prior={str(config.prior).lower()}: prior data are for prior=true, which needs them")
        self.config, self.out = config, out
        saved = checkpoints(out / "checkpoints") if resume else []
        if saved:
            require_same_run(out, read_json(out / "options.json"), config.identity(nearest, prior))
        elif resume and any((out / "checkpoints").glob("model_*.zip")):
            raise ValueError(f"{out / 'checkpoints'} holds pickles of an earlier version, which are not read; {ANEW}")
        self._envs = environments(config, config.envs, training=True, nearest=nearest)
        self._evaluation = environments(config, 1, training=False, nearest=nearest)
        try:
            self.model = _build(config, self._envs, tensorboard_log=str(out))
            if prior is not None:
                self.model.replay_buffer.prior = transitions(prior, partial(_wrapped, config, training=True, nearest=nearest))
            if saved:
                self.checkpoint: Path | None = saved[-1]
                """The file that this run has gone on from."""
                read_learner(self.checkpoint, self.model)
                if config.algorithm == "sac":
                    read_buffer(buffer_of(self.checkpoint), self.model.replay_buffer)
            else:
                self.checkpoint = None
                self._begin(nearest, prior)
            self.done = self.model.num_timesteps
            """Environment steps that were taken before."""
            self._callback = self._evaluations()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Learning:
        return self

    def __exit__(self, *error: object) -> None:
        self._envs.close()
        self._evaluation.close()

    def fit(self) -> float:
        """Learn until all steps are taken; seconds that it took."""
        # Scenes of their own for every seed and, after an interruption, for what is left; SB3 has seeded them otherwise.
        self._envs.seed(1_000_000 * (self.config.seed + 1) + self.done)
        self._evaluation.seed(self.config.eval.first_seed + self.done)
        began = time.perf_counter()
        self.model.learn(
            self.config.steps - self.done,
            callback=CallbackList([self._callback, Checkpoints(self.out / "checkpoints", self._callback.eval_freq)]),
            reset_num_timesteps=self.done == 0,
            tb_log_name="tensorboard",
        )
        write_learner(self.out / "model.pt", self.model)
        return time.perf_counter() - began

    def write(self, seconds: float, origin: dict[str, Any]) -> dict[str, Any]:
        """Write the curve of success; returns what is written.

        Args:
            seconds: see :meth:`fit`.
            origin: version, machine and command, see :func:`~infoatlas_rl.records.provenance`.
        """
        found, config = read_evaluations(self.out / "evaluations.npz"), self.config
        steps, successes = found["timesteps"].tolist(), found["successes"].sum(1).astype(int).tolist()
        content = {
            "task": policy_task(config.task).name,
            "learner": VERSION,
            "algorithm": config.algorithm,
            "conditioning": config.conditioning,
            "start": config.start,
            "seed": config.seed,
            "episodes": config.eval.episodes,
            "curve": [{"steps": step, "k": k} for step, k in zip(steps, successes, strict=True)],
            "seconds": round(seconds, 1),
            "seconds_are_since_step": self.done,
            "config": asdict(config),
            **origin,
        }
        write_json(self.out / "curve.json", content)
        return content

    def _begin(self, nearest: Nearest | None, prior: Prior | None) -> None:
        """A folder without traces of another run."""
        for name in ("evaluations.npz", "curve.json", "best_model.pt", "model.pt"):
            (self.out / name).unlink(missing_ok=True)
        for pattern in ("model_*", "replay_buffer_*"):
            for path in (self.out / "checkpoints").glob(pattern):
                path.unlink()
        write_json(self.out / "options.json", self.config.identity(nearest, prior))
        if nearest is not None:  # so that the learner can be loaded without its demonstrations
            write_arrays(self.out / "nearest.safetensors", dict(zip(NEAREST, nearest, strict=True)))

    def _evaluations(self) -> EvalCallback:
        """SB3's callback, which goes on from the evaluations up to the steps that are done."""
        callback = EvalCallback(
            self._evaluation,
            callback_on_new_best=KeepLearner(self.out / "best_model.pt"),
            n_eval_episodes=self.config.eval.episodes,
            eval_freq=max(self.config.eval.every // self.config.envs, 1),
            log_path=str(self.out),
        )
        if self.done:
            found = read_evaluations(self.out / "evaluations.npz")
            kept = found["timesteps"] <= self.done
            callback.evaluations_timesteps = found["timesteps"][kept].tolist()
            callback.evaluations_results = found["results"][kept].tolist()
            callback.evaluations_length = found["ep_lengths"][kept].tolist()
            callback.evaluations_successes = found["successes"][kept].tolist()
            callback.best_mean_reward = float(found["results"][kept].mean(1).max(initial=-np.inf))
        return callback


def _build(config: LearnerConfig, envs: VecMonitor, **options: Any) -> BaseAlgorithm:
    given = copy.deepcopy(config.options)  # SB3 writes into some of them
    if config.prior:
        given["replay_buffer_class"] = PriorReplayBuffer
        given["policy_kwargs"] = {"activation_fn": NormalisedReLU} | given.get("policy_kwargs", {})
    return ALGORITHMS[config.algorithm]("MlpPolicy", envs, seed=config.seed, **given, **options)


def load(folder: Path | str, model: str = "best_model") -> tuple[BaseAlgorithm, VecMonitor]:
    """A learner that a run has left in ``folder``, and the environment that it acts in, without shaping.

    Args:
        folder: as in ``runs/rl/PickCube/sac-predicted-scratch-0``.
        model: "best_model" (at the best of all evaluations) or "model" (at the end).

    Raises:
        ValueError: there is no such learner, or a file of it is damaged.
    """
    folder = Path(folder)
    path, record = folder / f"{model}.pt", folder / "curve.json"
    if not path.is_file() or not record.is_file():
        raise ValueError(f"no learner at {path}; tasks/train_rl.py writes it, with curve.json beside it, when it has ended")
    config = _config_of(record)
    nearest = None
    if config.conditioning == "nearest":
        arrays, _ = read_arrays(folder / "nearest.safetensors", NEAREST)
        nearest = tuple(arrays[name] for name in NEAREST)
    env = environments(config, 1, training=False, nearest=nearest)
    try:
        learner = _build(config, env)
        read_learner(path, learner)
    except BaseException:
        env.close()
        raise
    return learner, env


def _config_of(record: Path) -> LearnerConfig:
    """The configuration of the learner whose curve is in ``record``.

    Raises:
        ValueError: the file is damaged, or of a version that made other learners.
    """
    content = read_json(record)
    if isinstance(content, dict) and content.get("learner") == VERSION:
        with suppress(KeyError, TypeError):
            found = content["config"]
            return LearnerConfig(**found | {"eval": CurveConfig(**found["eval"])})
    raise ValueError(f"{record} is not of this version; train the learner again")
