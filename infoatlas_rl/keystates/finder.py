"""Key-state discovery: train a localiser to find the states that say most about the states shortly before them.

Over a batch of demonstrations the localiser places one time per concept, and the loss is (MaxMI, Eq. 4; InfoAtlas,
section 5.2)::

    - mi_weight * mean_k I(s[t_k]; s[t_k - delta])  +  order_weight * mean_k relu(gap - (t_(k+1) - t_k))

with the states interpolated at the times, MI over the batch, and times in phase.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.files import replace_file
from infoatlas_rl.keystates.localiser import Localiser
from infoatlas_rl.keystates.trajectories import MIN_TRAJECTORIES, TrajectorySet, interpolate
from infoatlas_rl.loss import InfoAtlasLoss

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KeyStateConfig:
    """Discovery; the MI estimator is given to :class:`KeyStateFinder`."""

    concepts: int = 4
    delta: int = 2
    """Look-back in steps."""
    epochs: int = 50
    batch_size: int = 100
    learning_rate: float = 1e-3
    mi_weight: float = 1.0
    order_weight: float = 10.0
    gap: float = 0.05
    """Least distance of consecutive key states, in phase."""
    width: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("concepts", "delta", "epochs", "batch_size", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} has to be at least 1, not {getattr(self, name)}")
        if self.batch_size < MIN_TRAJECTORIES:
            raise ValueError(
                f"batch_size has to be at least {MIN_TRAJECTORIES}, over which MI is estimated, not {self.batch_size}"
            )
        if self.gap * (self.concepts - 1) >= 1:
            raise ValueError(f"{self.concepts} concepts with a gap of {self.gap} do not fit into one trajectory")


@dataclass(frozen=True)
class KeyStates:
    """Key states of N trajectories."""

    steps: NDArray[np.int64]
    """``(N, K)``: step of the original trajectory, in order of time."""
    scores: Array
    """``(N, K)``: pointwise MI of the key state and the state ``delta`` steps before it, in nats."""
    mi: Array
    """``(K,)``: MI of the concept over all trajectories, in nats."""


class KeyStateFinder:
    """Finds key states in a set of trajectories.

    ::

        finder = KeyStateFinder(TrajectorySet(trajectories), InfoAtlasLoss(), KeyStateConfig(concepts=4))
        for figures in finder.fit():
            print(figures)
        key_states = finder.key_states()

    Training is deterministic in ``config.seed``; an interrupted run resumed from its checkpoint ends in the same result.
    """

    def __init__(self, trajectories: TrajectorySet, mi_loss: InfoAtlasLoss, config: KeyStateConfig) -> None:
        self.trajectories, self.mi_loss, self.config = trajectories, mi_loss, config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.localiser = Localiser(trajectories.dim, config.concepts, config.width)
        self.optimizer = torch.optim.Adam(self.localiser.parameters(), lr=config.learning_rate)
        self.epoch = 0

    def fit(self, checkpoint: Path | None = None) -> Iterator[dict[str, float]]:
        """Train to ``config.epochs``; yields the figures of every epoch and writes the checkpoint after each."""
        while self.epoch < self.config.epochs:
            figures = self._train_epoch()
            self.epoch += 1
            if checkpoint is not None:
                self.save(checkpoint)
            yield {"epoch": self.epoch, **figures}

    def key_states(self) -> KeyStates:
        """The key states that the localiser has found, scored over all trajectories."""
        states = self.trajectories.states
        self.localiser.eval()
        self._fix_slices()
        with torch.no_grad():
            phases = torch.cat([self.localiser(chunk) for chunk in states.split(256)])
            # Not before the first step that has another delta steps before it, like the states that are scored.
            phases = phases.clamp(min=self.config.delta / (self.trajectories.length - 1)).sort(dim=-1).values
            now, before = self._state_pairs(states, phases)
            pointwise = torch.stack([self.mi_loss.pointwise(x, y) for x, y in zip(now, before, strict=True)], dim=-1)
        pointwise = pointwise.double().numpy()
        return KeyStates(steps=self.trajectories.steps(phases.double().numpy()), scores=pointwise, mi=pointwise.mean(0))

    def profile(self, *, every: int = 1, most: int = 200) -> tuple[Array, Array]:
        """Pointwise MI of the states at every step and ``delta`` steps before, over up to ``most`` trajectories.

        Returns:
            ``phases (p,)`` and ``scores (N', p)`` in nats; ``scores.mean(0)`` is the MI profile.
        """
        states = self.trajectories.states[:most]
        index = range(self.config.delta, self.trajectories.length, every)
        self._fix_slices()
        with torch.no_grad():
            scores = [self.mi_loss.pointwise(states[:, t], states[:, t - self.config.delta]) for t in index]
        phases = np.array(index) / (self.trajectories.length - 1)
        return phases, torch.stack(scores, dim=-1).double().numpy()

    def save(self, path: Path) -> None:
        content = {
            "localiser": self.localiser.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "run": self._identity(),
        }
        with replace_file(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it was made with other trajectories or another configuration; both are named.
        """
        content = torch.load(path, weights_only=True)
        if content["run"] != self._identity():
            raise ValueError(
                f"{path} was made with {content['run']}, this run is {self._identity()}; "
                "use another output folder or resume=false"
            )
        self.localiser.load_state_dict(content["localiser"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch = content["epoch"]

    def _fix_slices(self) -> None:
        """The slices on which results are scored depend on the seed alone, not on how training went."""
        self.mi_loss.eval()
        self.mi_loss.reseed(self.config.seed)

    def _train_epoch(self) -> dict[str, float]:
        config, states = self.config, self.trajectories.states
        order = torch.randperm(len(states), generator=torch.Generator().manual_seed(config.seed * 100_003 + self.epoch))
        # A last batch of less than half the size would be too small to estimate MI on.
        batches = order.chunk(max(round(len(states) / config.batch_size), 1))
        totals: dict[str, float] = {}
        self.localiser.train()
        self.mi_loss.train()
        for number, batch in enumerate(batches):
            self.mi_loss.reseed(config.seed * 1_000_003 + self.epoch * 1_009 + number)
            figures = self._train_step(states[batch])
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + value / len(batches)
        return totals

    def _train_step(self, states: Tensor) -> dict[str, float]:
        config = self.config
        phases = self.localiser(states)
        mi = -self.mi_loss(*self._state_pairs(states, phases))
        order = F.relu(config.gap - phases.diff(dim=-1)).mean() if config.concepts > 1 else phases.new_zeros(())
        loss = config.order_weight * order - config.mi_weight * mi
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.localiser.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": float(loss.detach()), "mi": float(mi.detach()), "order": float(order.detach())}

    def _state_pairs(self, states: Tensor, phases: Tensor) -> tuple[Tensor, Tensor]:
        """``s[t_k]`` and ``s[t_k - delta]`` of every concept as data sets over the batch, ``(K, b, d)`` each."""
        last, delta = self.trajectories.length - 1, self.config.delta
        positions = (phases * last).clamp(delta, last)
        now, before = interpolate(states, positions), interpolate(states, positions - delta)
        return now.transpose(0, 1), before.transpose(0, 1)

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.trajectories.states.numpy().tobytes()).hexdigest()
        return {
            "config": asdict(self.config),
            "estimator": self.mi_loss.extra_repr(),
            "trajectories": len(self.trajectories),
            "states_sha256": digest[:16],
        }
