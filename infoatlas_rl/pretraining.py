"""Pretraining on the atlas: context and query are different draws, so the network learns to generalise, not to overfit.

The loss of a problem with true mutual information MI (nats) is a scale-free regret of three lower bounds, all evaluated
on queries::

    (MI - DV[critic]) / (0.3 + MI)  +  0.2 (MI - DV[base]) / (0.3 + MI)  -  0.5 J / (0.3 + MI)

- DV uses the known log ratio s for a low-variance partition function: E_q[exp t] = E_mix[2 exp(t) sigmoid(-s)], where
  mix is half joint, half product samples. Unbiased, and free of the blow-up at high MI.
- J trains the features of the encoder: the least-squares objective of the low-rank density ratio f^T T g,
  J = E_p[f^T T g] - E_q[(f^T T g)^2] / 2, with T fitted on the context.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.atlas import AtlasConfig, Problem, sample_problems, sample_sizes
from infoatlas_rl.bounds import donsker_varadhan
from infoatlas_rl.files import replace_file
from infoatlas_rl.model import InfoAtlas, InfoAtlasConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainConfig:
    """Optimisation; the defaults, on one CPU thread, made the released weights."""

    steps: int = 6000
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema: float = 0.998
    pairs_per_step: int = 20_000
    """Problems per step: as many as give this many joint and product samples together, 2 to ``max_batch``."""
    max_batch: int = 24
    seed: int = 1
    checkpoint_minutes: float = 4.0
    validation_problems: int = 32
    autocast: bool = True


@dataclass
class Regret:
    """Regret of a batch, ``(b,)`` each."""

    critic: Tensor
    base: Tensor
    encoder: Tensor

    def loss(self) -> Tensor:
        return _squash(self.critic).mean() + 0.2 * _squash(self.base).mean() + 0.5 * _squash(self.encoder).mean()


def regret(model: InfoAtlas, problem: Problem, *, autocast: bool) -> Regret:
    """Regret of a batch of problems on their queries; see the module docstring."""
    with torch.autocast(problem.x.device.type, torch.bfloat16, enabled=autocast):
        critic = model(problem.x, problem.y)
        side_x, side_y = critic.sides(problem.query_x, problem.query_y)
        joint, base_joint = critic.values(side_x, side_y)
        rolled = torch.arange(problem.query_x.shape[1], device=problem.x.device).roll(1)
        product, base_product = critic.values(side_x, side_y.at(rolled))
    mi = problem.mi.clamp(min=0)
    z_x = critic.scores[0].scores(problem.query_x)
    z_y = critic.scores[1].scores(problem.query_y)
    f, g = model.encoder.standardised(critic.maps, z_x, z_y)
    operator = critic.maps.nonlinear.density_ratio_operator()
    return Regret(
        critic=(mi - _low_variance_dv(joint, product, problem)) / (0.3 + mi),
        base=(mi - _low_variance_dv(base_joint, base_product, problem)) / (0.3 + mi),
        encoder=-_least_squares_objective(f, g, operator) / (0.3 + mi),
    )


def _low_variance_dv(joint: Tensor, product: Tensor, problem: Problem) -> Tensor:
    terms = [joint + F.logsigmoid(-problem.joint_log_ratio), product + F.logsigmoid(-problem.product_log_ratio)]
    terms = torch.cat(terms, dim=-1).float()
    return joint.mean(-1) - (terms.logsumexp(-1) - math.log(terms.shape[-1]) + math.log(2))


def _least_squares_objective(f: Tensor, g: Tensor, operator: Tensor) -> Tensor:
    n = f.shape[1]
    correlation = ((f @ operator) * g).sum(-1).mean(-1)
    energy = ((f.mT @ f / n @ operator) * (operator @ (g.mT @ g / n))).sum((-1, -2))
    return correlation - 0.5 * energy


def _squash(t: Tensor) -> Tensor:
    """Logarithmic above 1: a few overconfident critics at small n must not rule the gradient, nor be out of its reach."""
    return torch.where(t > 1, 1 + t.clamp(min=1).log(), t)


class Pretrainer:
    """Training loop with checkpoints. The data stream is seeded by the step, so a resumed run sees the same problems."""

    def __init__(self, model: InfoAtlasConfig, atlas: AtlasConfig, config: PretrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.model = InfoAtlas(model).train()
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.atlas, self.config = atlas, config
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.step = 0
        self.problems = 0
        self.skipped = 0
        self.seconds = 0.0

    def run(self, checkpoint: Path | None = None) -> Iterator[dict[str, float]]:
        """Train to ``config.steps``; yields the figures of every step. Checkpoints are written as it goes."""
        last_save = time.monotonic()
        while self.step < self.config.steps:
            start = time.monotonic()
            figures = self.train_step()
            self.seconds += time.monotonic() - start
            yield figures
            if checkpoint is not None and time.monotonic() - last_save > 60 * self.config.checkpoint_minutes:
                self.save(checkpoint)
                last_save = time.monotonic()
        if checkpoint is not None:
            self.save(checkpoint)

    def train_step(self) -> dict[str, float]:
        """One optimiser step. A step with a non-finite loss or gradient is skipped and counted."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(self.step, config)
        self.optimizer.zero_grad(set_to_none=True)
        problem = self.problem(self.step)
        figures = {"loss": math.nan}
        try:
            result = regret(self.model, problem, autocast=config.autocast)
            loss = result.loss()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
            finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(loss))
            figures = {
                "loss": float(loss.detach()),
                "regret": float(result.critic.detach().median()),
                "regret_base": float(result.base.detach().median()),
                "encoder": float(result.encoder.detach().median()),
            }
        except torch.linalg.LinAlgError as error:
            logger.warning("step %d: %s", self.step, error)
            finite = False
        if finite:
            self.optimizer.step()
            self._update_average()
        else:
            self.skipped += 1
        self.step += 1
        self.problems += len(problem.x)
        return figures | {"step": self.step, "skipped": self.skipped, "problems": self.problems}

    def problem(self, step: int) -> Problem:
        """The batch of problems of a step."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        n, dx, dy = sample_sizes(self.atlas, generator)
        pairs = n + len(self.model.product_index(n, torch.device("cpu"))[0])
        batch = min(max(self.config.pairs_per_step // pairs, 2), self.config.max_batch)
        return sample_problems(batch, n, dx, dy, self.atlas, generator)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Error of the in-sample bound of the averaged model on a fixed set of atlas problems, in nats."""
        model = self.averaged_model()
        errors = []
        for index in range(self.config.validation_problems):
            generator = torch.Generator().manual_seed(10**9 + index)
            n, dx, dy = sample_sizes(self.atlas, generator)
            problem = sample_problems(1, n, dx, dy, self.atlas, generator)
            critic = model(problem.x, problem.y)
            errors.append(donsker_varadhan(critic.joint, critic.product) - problem.mi)
        error = torch.cat(errors)
        return {"mae": float(error.abs().mean()), "bias": float(error.mean())}

    def averaged_model(self) -> InfoAtlas:
        model = InfoAtlas(self.model.config)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self, path: Path) -> None:
        content = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "progress": [self.step, self.problems, self.skipped, self.seconds],
            "configs": self._configs(),
        }
        with replace_file(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it was made with another configuration; both are named.
        """
        content = torch.load(path, weights_only=True)
        if content["configs"] != self._configs():
            raise ValueError(f"{path} was made with {content['configs']}, this run is configured with {self._configs()}")
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.problems, self.skipped, self.seconds = content["progress"]

    def _configs(self) -> dict[str, Any]:
        return {"model": asdict(self.model.config), "atlas": asdict(self.atlas), "pretrain": asdict(self.config)}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)


def _schedule(step: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine to 2 %."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return min(1.0, (step + 1) / config.warmup) * (0.02 + 0.98 * cosine)
