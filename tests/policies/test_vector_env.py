"""Environments in processes: the semantics of stable-baselines3, and what happens to workers in trouble."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from gymnasium import spaces

from infoatlas_rl.policies.vector_env import ProcessVecEnv, WorkerError


class Countdown(gymnasium.Env):
    """Ends after four steps: solved if the last action was positive, out of time otherwise. Or it breaks."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, trouble=None):
        self.trouble, self.step_count = trouble, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return np.zeros(1, np.float32), {"seed": seed}

    def step(self, action):
        self.step_count += 1
        if self.step_count == 3 and self.trouble == "raise":
            raise ZeroDivisionError("the arm fell off")
        if self.step_count == 3 and self.trouble == "die":
            os._exit(9)
        if self.step_count == 3 and self.trouble == "hang":
            time.sleep(100)
        solved = self.step_count == 4 and action[0] > 0
        out_of_time = self.step_count == 4 and not solved
        return np.full(1, self.step_count, np.float32), 1.0, bool(solved), bool(out_of_time), {"is_success": bool(solved)}


def test_the_vector_environment_has_the_semantics_of_stable_baselines3():
    envs = ProcessVecEnv([Countdown, Countdown])
    envs.seed(3)
    assert envs.reset().tolist() == [[0], [0]]
    assert [info["seed"] for info in envs.reset_infos] == [3, 4]
    actions = np.array([[1.0], [-1.0]], np.float32)
    for step in range(1, 4):
        observations, rewards, dones, _ = envs.step(actions)
        assert (observations[:, 0] == step).all()
        assert not dones.any()
        assert rewards.tolist() == [1, 1]
    observations, _, dones, infos = envs.step(actions)
    assert dones.tolist() == [True, True]
    assert observations.tolist() == [[0], [0]]  # of the next episode
    assert [info["terminal_observation"].tolist() for info in infos] == [[4], [4]]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    assert [info["is_success"] for info in infos] == [True, False]
    assert envs.get_attr("step_count") == [0, 0]
    envs.set_attr("step_count", 2, indices=1)
    assert envs.get_attr("step_count") == [0, 2]
    assert envs.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    assert (envs.has_attr("step_count"), envs.has_attr("nothing")) == (True, False)
    envs.close()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [("raise", "ZeroDivisionError: the arm fell off"), ("die", "died with exit code 9"), ("hang", "has not answered for 20 s")],
)
def test_a_worker_in_trouble_ends_the_run(trouble, message):
    envs = ProcessVecEnv([Countdown, partial(Countdown, trouble)], patience=20.0 if trouble == "hang" else 100.0)
    envs.reset()
    for _ in range(2):
        envs.step(np.zeros((2, 1), np.float32))
    began = time.monotonic()
    with pytest.raises(WorkerError, match=message):
        envs.step(np.zeros((2, 1), np.float32))
    assert time.monotonic() - began < 50  # far below `patience` where nothing hangs
    assert not any(process.is_alive() for process in envs._processes)


PARENT = """
import time
import gymnasium
import numpy as np
from infoatlas_rl.policies.vector_env import ProcessVecEnv

class Slow(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}
    def step(self, action):
        time.sleep(120)

if __name__ == "__main__":
    envs = ProcessVecEnv([Slow, Slow])
    envs.reset()
    envs.step_async(np.zeros((2, 1), np.float32))
    print(*(process.pid for process in envs._processes), flush=True)
    time.sleep(120)
"""


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_their_run_is_killed_even_in_the_middle_of_a_step(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(map(running, workers))
    parent.send_signal(how)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in workers if running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
