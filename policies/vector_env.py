"""Many environments in processes of their own, as one stable-baselines3 ``VecEnv``.

SB3's semantics: an environment that ends is reset at once, the last observation of its episode is in
``info["terminal_observation"]``, ``info["TimeLimit.truncated"]`` says whether time alone ended it, and
``info["is_success"]`` whether the episode was solved. A worker that fails ends the run with its traceback, one that dies
is noticed, and workers end when the run is killed; nothing waits for ever.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import CloudpickleWrapper, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from infoatlas_rl.processes import end_with_parent

MakeEnv = Callable[[], gymnasium.Env]


class WorkerError(RuntimeError):
    """A worker process raised an exception, whose traceback is in the message, or died."""


class ProcessVecEnv(VecEnv):
    """One process for each function in ``make``, which builds its environment there.

    Args:
        make: functions without arguments; they may be closures.
        patience: seconds that a step may take before the run is given up.
    """

    def __init__(self, make: Sequence[MakeEnv], *, patience: float = 300.0) -> None:
        context = get_context("spawn")
        self._patience, self._closed = patience, False
        self._pipes: list[Connection] = []
        self._processes = []
        for number, function in enumerate(make):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, CloudpickleWrapper(function)), daemon=True, name=f"env-{number}")
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        observation_space, action_space = self._ask(0, "describe")
        super().__init__(len(self._pipes), observation_space, action_space)

    def reset(self) -> VecEnvObs:
        for index, (seed, options) in enumerate(zip(self._seeds, self._options, strict=True)):
            self._send(index, "reset", (seed, options or None))
        results = [self._receive(index) for index in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [info for _, info in results]
        return np.stack([observation for observation, _ in results])

    def step_async(self, actions: np.ndarray) -> None:
        for index, action in enumerate(actions):
            self._send(index, "step", action)

    def step_wait(self) -> VecEnvStepReturn:
        results = [self._receive(index) for index in range(self.num_envs)]
        observations, rewards, dones, infos, self.reset_infos = map(list, zip(*results, strict=True))
        return np.stack(observations), np.array(rewards, np.float32), np.array(dones), infos

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(OSError):  # it may be gone already
                pipe.send(("close", None))
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
            pipe.close()

    def has_attr(self, attr_name: str) -> bool:
        return all(self._ask(index, "has", attr_name) for index in range(self.num_envs))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [self._ask(index, "get", attr_name) for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        for index in self._get_indices(indices):
            self._ask(index, "set", (attr_name, value))

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        return [self._ask(index, "call", (method_name, args, kwargs)) for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [self._ask(index, "wrapped", wrapper_class) for index in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [self._ask(index, "render") for index in range(self.num_envs)]

    def _ask(self, index: int, command: str, argument: Any = None) -> Any:
        self._send(index, command, argument)
        return self._receive(index)

    def _send(self, index: int, command: str, argument: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone: what it left behind is read by _receive
            self._pipes[index].send((command, argument))

    def _receive(self, index: int) -> Any:
        pipe, process = self._pipes[index], self._processes[index]
        try:
            if not pipe.poll(self._patience):
                self._fail(f"environment {index} has not answered for {self._patience:.0f} s")
            failed, answer = pipe.recv()
        except (EOFError, OSError):
            process.join(timeout=5)
            self._fail(f"the process of environment {index} died with exit code {process.exitcode} and no traceback")
        if failed:
            self._fail(f"environment {index} failed:\n{answer}")
        return answer

    def _fail(self, message: str) -> None:
        for process in self._processes:
            process.kill()
        self.close()
        raise WorkerError(message)


def _work(pipe: Connection, make: CloudpickleWrapper) -> None:
    """The loop of a worker process: every command is answered with (failed, answer)."""
    import torch

    end_with_parent()  # it could be in a step that takes long, and not read from the pipe that has broken
    torch.set_num_threads(1)
    try:
        env = make.var()
        while True:
            command, argument = pipe.recv()
            if command == "close":
                break
            pipe.send((False, _answer(env, command, argument)))
        env.close()
    except (EOFError, KeyboardInterrupt):
        pass  # the run has ended
    except Exception:
        pipe.send((True, traceback.format_exc()))
    finally:
        pipe.close()


def _answer(env: gymnasium.Env, command: str, argument: Any) -> Any:
    match command:
        case "step":
            observation, reward, terminated, truncated, info = env.step(argument)
            done, reset_info = terminated or truncated, {}
            info["TimeLimit.truncated"] = truncated and not terminated
            if done:
                info["terminal_observation"] = observation
                observation, reset_info = env.reset()
            return observation, float(reward), done, info, reset_info
        case "reset":
            seed, options = argument
            return env.reset(seed=seed, options=options)
        case "describe":
            return env.observation_space, env.action_space
        case "has":
            return env.has_wrapper_attr(argument)
        case "get":
            return env.get_wrapper_attr(argument)
        case "set":
            return env.set_wrapper_attr(*argument)
        case "call":
            name, args, kwargs = argument
            return env.get_wrapper_attr(name)(*args, **kwargs)
        case "wrapped":
            while isinstance(env, gymnasium.Wrapper):
                if isinstance(env, argument):
                    return True
                env = env.env
            return False
        case "render":
            return env.render()
    raise ValueError(f"unknown command {command!r}")
