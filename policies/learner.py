"""What a learner of reinforcement learning is: its algorithm, what it sees, what it is paid for, and when it is evaluated."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC

from infoatlas_rl.checks import check_kinds
from infoatlas_rl.files import sha256
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.tasks import describe
from infoatlas_rl.policies.protocol import policy_task, released_policy

ALGORITHMS = {"sac": SAC, "ppo": PPO}
CONDITIONINGS = ("none", "predicted", "nearest")
STARTS = ("scratch", "cloned")
REWARDS = ("dense", "normalized_dense", "sparse")
POSITIVE = ("learning_rate", "buffer_size", "batch_size", "n_steps", "n_epochs")
SHARES = ("gamma", "tau")
"""Which options of stable-baselines3's learners have to be what; it does not say so itself."""
VERSION = 2
"""Raised when the same options make another learner; a run goes on, and is loaded, as what it began as."""
HORIZON = 50
"""Steps of an episode of a learner that starts from scratch; corrections of a cloned policy need the task's own horizon."""

Nearest = tuple[NDArray[np.float64], NDArray[np.float64]]
"""What conditioning=nearest needs: key states ``(n, k, 100)`` and first states ``(n, 100)`` of n demonstrations."""

NEAREST = ("key_states", "first_states")

Prior = DemonstrationSet
"""What prior=true needs: demonstrations with their successes."""


@dataclass(frozen=True)
class CurveConfig:
    """When and where a learner is evaluated."""

    every: int = 10000
    """Environment steps."""
    episodes: int = 20
    first_seed: int = 40000
    """Neither scenes of demonstrations nor those of the evaluation of policies."""

    def __post_init__(self) -> None:
        check_kinds(self, "eval.")
        for name, least in (("every", 1), ("episodes", 1), ("first_seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"eval.{name} has to be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class LearnerConfig:
    """A learner, what it sees, and what it is paid for."""

    task: Any
    """Its name, or a description, see :func:`~infoatlas_rl.maniskill.tasks.get_task`."""
    options: dict[str, Any]
    """Keyword arguments of stable_baselines3's SAC or PPO."""
    conditioning: str = "none"
    """none, predicted (by a cloned policy) or nearest (demonstration)"""
    start: str = "scratch"
    """scratch, or cloned: learn corrections of a cloned policy."""
    policy: str | None = None
    """File of the cloned policy; None: the released one."""
    seed: int = 0
    algorithm: str = "sac"
    """sac or ppo"""
    steps: int = 150000
    """Environment steps."""
    envs: int = 1
    """Environments; several run in processes of their own."""
    horizon: int | None = None
    """Steps of an episode; None: 50, or those of the task with start=cloned."""
    reward: str = "normalized_dense"
    """dense, normalized_dense or sparse: ManiSkill's."""
    stop_at_success: bool = False
    shaping: float = 1.0
    """Weight of the potential-based shaping towards the next key state."""
    shaping_gamma: float | None = None
    """Its discount: 1 pays for progress; that of the learner leaves the order of policies as it is. None: the learner's with
    prior data, which show what else is paid for, and 1 without."""
    residual: float = 0.2
    """Largest correction of the cloned policy, as a share of the largest action."""
    prior: bool = False
    """Half of every batch are transitions of demonstrations (RLPD); for SAC from scratch with a sparse reward."""
    eval: CurveConfig = field(default_factory=CurveConfig)

    def __post_init__(self) -> None:
        check_kinds(self)
        task = policy_task(self.task)
        object.__setattr__(self, "task", describe(task))
        if self.conditioning != "none" and task.first:
            raise ValueError(
                f"conditioning={self.conditioning}: key states of a task in several parts are of different objects, and cannot "
                "be headed for; set conditioning=none"
            )
        choices = {"algorithm": tuple(ALGORITHMS), "conditioning": CONDITIONINGS, "start": STARTS, "reward": REWARDS}
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name}={getattr(self, name)} is unknown; choose one of {', '.join(accepted)}")
        if not 1 <= self.envs <= self.eval.every <= self.steps:
            raise ValueError(
                f"envs={self.envs}, eval.every={self.eval.every}, steps={self.steps}: all have to be at least 1, and eval.every "
                "between envs and steps"
            )
        if self.prior and (self.algorithm, self.start, self.reward) != ("sac", "scratch", "sparse"):
            asked = f"algorithm={self.algorithm} start={self.start} reward={self.reward}"
            raise ValueError(f"prior=true needs algorithm=sac start=scratch reward=sparse, not {asked}")
        if self.prior and self.stop_at_success:
            raise ValueError(
                "prior=true needs stop_at_success=false: demonstrations go on after success, and are paid for it in every step"
            )
        if self.horizon is not None and (not isinstance(self.horizon, int) or self.horizon < 1):
            raise ValueError(f"horizon has to be a number of steps, at least 1, or null, not {self.horizon!r}")
        if self.seed < 0:
            raise ValueError(f"seed has to be at least 0, not {self.seed}")
        ranges = {"shaping": math.inf, "shaping_gamma": 1.0, "residual": 1.0}
        for name, most in ranges.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0 <= value <= most):
                raise ValueError(f"{name} has to be {f'in [0, {most:g}]' if most < math.inf else '0 or more'}, not {value}")
        for name, value in self.options.items():
            if name in POSITIVE and not 0 < value < math.inf:
                raise ValueError(f"{self.algorithm}.{name} has to be positive and finite, not {value}")
            if name in SHARES and not 0 <= value <= 1:
                raise ValueError(f"{self.algorithm}.{name} has to be in [0, 1], not {value}")
        if self.shaping_gamma is None:
            object.__setattr__(self, "shaping_gamma", self.options.get("gamma", 0.99) if self.prior else 1.0)

    @property
    def episode(self) -> int | None:
        """Steps of an episode; None for the task's."""
        return HORIZON if self.horizon is None and self.start == "scratch" else self.horizon

    @property
    def uses_policy(self) -> bool:
        return self.conditioning == "predicted" or self.start == "cloned"

    @property
    def policy_file(self) -> Path:
        """The cloned policy that corrections or key states are from."""
        return Path(self.policy) if self.policy else released_policy(policy_task(self.task).name)

    def identity(self, nearest: Nearest | None = None, prior: Prior | None = None) -> dict[str, Any]:
        """What makes a run what it is: the options that have an effect, and what it learns from."""
        unused = {"task", "options", "steps", "policy"}
        unused |= {"shaping", "shaping_gamma"} if self.conditioning == "none" else set()
        unused |= {"residual"} if self.start != "cloned" else set()
        identity = {name: value for name, value in asdict(self).items() if name not in unused}
        identity |= {"learner": VERSION, "env": self.task, "horizon": self.episode, self.algorithm: self.options}
        if self.uses_policy:
            identity["policy_sha256"] = sha256(self.policy_file)
        if nearest is not None:
            identity["nearest_sha256"] = _digest(nearest)
        if prior is not None:
            identity["prior_sha256"] = _digest([array for demo in prior for array in (demo.states, demo.actions)])
        return identity


def _digest(arrays: Iterable[NDArray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
