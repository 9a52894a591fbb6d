"""Behaviour cloning with key states as an auxiliary target.

    loss = |commands| + gripper_weight BCE(closing) + key_weight (|key states ahead| + BCE(which are past))

Commands and key states are compared by absolute error in units of their spread: the median of what demonstrations do, and
precise where they agree. The weights that act are an exponential moving average of the trained ones. Matrix products run
in bfloat16, where that is fast, on weights kept in float32.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from infoatlas_rl.checks import check_kinds
from infoatlas_rl.files import read_checkpoint, replace_file, require_same_run
from infoatlas_rl.policies.dataset import Batch, Displacement, Windows
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.precision import bfloat16_is_fast

NORMALISER_SAMPLES = 20_000
WARMUP = 200
"""Steps in which the learning rate rises."""


@dataclass(frozen=True)
class CloningConfig:
    """How a policy is cloned."""

    steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 1e-3
    """At its peak; it falls to a fiftieth along a cosine."""
    weight_decay: float = 1e-2
    key_weight: float = 0.1
    """Weight of the key states in the loss; 0 for a policy without them."""
    gripper_weight: float = 0.1
    averaging: float = 0.999
    """Of the weights that act."""
    displacement: Displacement = field(default_factory=Displacement)
    seed: int = 0

    def __post_init__(self) -> None:
        check_kinds(self, "training.")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} has to be at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"training.learning_rate has to be positive and finite, not {self.learning_rate}")
        for name in ("weight_decay", "key_weight", "gripper_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"training.{name} has to be 0 or more and finite, not {getattr(self, name)}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"training.averaging has to be in [0, 1), not {self.averaging}")


class Cloning:
    """Trains a policy on windows of demonstrations.

    Iterate over :meth:`fit`; ``average`` is the policy that acts. The same configuration gives the same losses, with or
    without interruptions.
    """

    def __init__(self, policy: KeyStatePolicy, windows: Windows, config: CloningConfig) -> None:
        self.policy, self.windows, self.config = policy, windows, config
        self.generator = torch.Generator().manual_seed(config.seed)
        policy.fit_normaliser(windows.sample(NORMALISER_SAMPLES, self.generator, config.displacement))
        self.average = copy.deepcopy(policy).eval()
        self.fast = copy.deepcopy(policy.network).to(torch.bfloat16 if bfloat16_is_fast() else torch.float32)
        self.optimizer = torch.optim.AdamW(
            policy.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.step = 0
        self.seconds = 0.0

    def fit(self, checkpoint: Path, *, every: int = 250, stops: Sequence[int] = ()) -> Iterator[dict[str, float]]:
        """Train to the end; yields mean losses every ``every`` steps and at ``stops``, after writing ``checkpoint``."""
        sums: dict[str, float] = {}
        count = 0
        began = time.perf_counter()
        while self.step < self.config.steps:
            for name, value in self._train_step().items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            count += 1
            if self.step % every == 0 or self.step in stops or self.step == self.config.steps:
                if not math.isfinite(sums["loss"]):
                    raise ValueError(f"the loss is not finite at step {self.step}; lower the learning rate")
                elapsed = time.perf_counter() - began
                self.seconds += elapsed
                self.save(checkpoint)
                yield {name: total / count for name, total in sums.items()} | {"steps_per_s": count / elapsed}
                sums, count, began = {}, 0, time.perf_counter()

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
        policy = self.policy
        steps = policy.inputs(batch.scenes, batch.gripper)
        written = (out.float() for out in network(steps.to(next(network.parameters()).dtype)))
        commands, keys = policy.decode(batch.scenes, *written)
        ahead = 1 - batch.keys[..., 10:]
        return {
            "commands": ((commands[..., :-1] - batch.commands) / policy.command_scale).abs().mean(),
            "gripper": F.binary_cross_entropy_with_logits(commands[..., -1], batch.closing),
            "key_states": (((keys - batch.keys)[..., :10] / policy.key_scale[:10]).abs() * ahead).mean(),
            "past": F.binary_cross_entropy_with_logits(keys[..., 10], batch.keys[..., 10]),
        }

    def _train_step(self) -> dict[str, float]:
        c = self.config
        for group in self.optimizer.param_groups:
            fall = 0.51 + 0.49 * math.cos(math.pi * self.step / c.steps)
            group["lr"] = c.learning_rate * min(1.0, (self.step + 1) / WARMUP) * fall
        batch = self.windows.sample(c.batch_size, self.generator, c.displacement)
        pairs = list(zip(self.fast.parameters(), self.policy.network.parameters(), strict=True))
        with torch.no_grad():
            for fast, kept in pairs:
                fast.copy_(kept)
                fast.grad = None
        losses = self.losses(self.fast, batch)
        loss = losses["commands"] + c.gripper_weight * losses["gripper"]
        if c.key_weight > 0:
            loss = loss + c.key_weight * (losses["key_states"] + losses["past"])
        loss.backward()
        for fast, kept in pairs:
            kept.grad = torch.zeros_like(kept) if fast.grad is None else fast.grad.float()
        torch.nn.utils.clip_grad_norm_(self.policy.network.parameters(), 1.0)
        self.optimizer.step()
        share = 1 - min(c.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, kept in zip(self.average.network.parameters(), self.policy.network.parameters(), strict=True):
                mean.lerp_(kept, share)
        return {"loss": loss.item()} | {name: value.item() for name, value in losses.items()}

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        with replace_file(path) as temporary:
            torch.save(
                {
                    "config": self._identity(),
                    "step": self.step,
                    "seconds": self.seconds,
                    "policy": self.policy.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "generator": self.generator.get_state(),
                },
                temporary,
            )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is damaged, or was written by a run with another configuration or other data; both sides are named.
        """
        state = read_checkpoint(path, "config")
        require_same_run(path, state["config"], self._identity())
        self.policy.load_state_dict(state["policy"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for tensor in (*vars(self.windows.commands).values(), self.windows.gripper, self.windows.keys):
            digest.update(tensor.numpy().tobytes())
        return asdict(self.policy.config) | asdict(self.config) | {"samples_sha256": digest.hexdigest()[:12]}
