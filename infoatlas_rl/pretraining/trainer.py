"""Pretraining on the atlas: context and query are different draws, so the network learns to generalise, not to overfit.

The loss of a problem with true mutual information MI (nats) is a scale-free regret of three lower bounds, all evaluated
on queries, where the mean of the log ratio s stands for MI, so that sampling noise cancels; a regret above 1 counts as 1 + its
logarithm::

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
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.baselines.paper import PaperConfig, PaperInfoAtlas
from infoatlas_rl.checks import check_numbers
from infoatlas_rl.estimator.model import InfoAtlas, InfoAtlasConfig
from infoatlas_rl.files import read_checkpoint, replace_file, require_same_run
from infoatlas_rl.precision import bfloat16_is_fast
from infoatlas_rl.pretraining.atlas import AtlasConfig, Problem, sample_problems, sample_sizes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainConfig:
    """Optimisation; the released weights were made by one process on a CPU."""

    steps: int = 7000
    learning_rate: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema: float = 0.998
    pairs_per_step: int = 10_000
    """Problems per step and process: as many as give this many joint and product samples together, 2 to ``max_batch``."""
    max_batch: int = 24
    processes: int = 1
    """Batches per step: shared by as many processes under ``torchrun``, or taken by one process together."""
    seed: int = 1
    checkpoint_minutes: float = 4.0
    validation_problems: int = 32
    autocast: bool = True
    """Matrix products in bfloat16, where they are fast."""

    def __post_init__(self) -> None:
        check_numbers(self, or_zero=("weight_decay", "warmup", "seed", "checkpoint_minutes"))


@dataclass
class Regret:
    """Regret of a batch, ``(b,)`` each."""

    critic: Tensor
    base: Tensor
    encoder: Tensor

    def loss(self) -> Tensor:
        return _squash(self.critic).mean() + 0.2 * _squash(self.base).mean() + 0.5 * _squash(self.encoder).mean()


def regret(model: InfoAtlas | PaperInfoAtlas, problem: Problem, *, autocast: bool) -> Regret:
    """Regret of a batch of problems on their queries; see the module docstring. The architecture of the paper has neither
    a base nor an encoder with objectives of their own."""
    # On the queries themselves: what their mean of s is off the truth, their bound is off, too.
    best, scale = problem.joint_log_ratio.mean(-1), 0.3 + problem.mi.clamp(min=0)
    if isinstance(model, PaperInfoAtlas):
        joint, product = model(problem.x, problem.y).joint_and_product(problem.query_x, problem.query_y)
        value = (best - _low_variance_dv(joint.float(), product.float(), problem)) / scale
        return Regret(critic=value, base=torch.zeros_like(value), encoder=torch.zeros_like(value))
    with torch.autocast(problem.x.device.type, torch.bfloat16, enabled=autocast):
        critic = model(problem.x, problem.y)
        side_x, side_y = critic.sides(problem.query_x, problem.query_y)
        joint, base_joint = critic.values(side_x, side_y)
        rolled = torch.arange(problem.query_x.shape[1], device=problem.x.device).roll(1)
        product, base_product = critic.values(side_x, side_y.at(rolled))
    scores = critic.scores[0].scores(problem.query_x), critic.scores[1].scores(problem.query_y)
    z_x, z_y = model.padded(*(z.float() for z in scores), seed=1)
    f, g = model.encoder.standardised(critic.maps, z_x, z_y)
    operator = critic.maps.nonlinear.density_ratio_operator()
    return Regret(
        critic=(best - _low_variance_dv(joint, product, problem)) / scale,
        base=(best - _low_variance_dv(base_joint, base_product, problem)) / scale,
        encoder=-_least_squares_objective(f, g, operator) / scale,
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

    def __init__(
        self, model: InfoAtlasConfig | PaperConfig, atlas: AtlasConfig, config: PretrainConfig, device: str = "cpu"
    ) -> None:
        torch.manual_seed(config.seed)
        self.device = torch.device(device)
        self.model = model.build().train().to(self.device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.atlas, self.config = atlas, config
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if config.processes % self.world:
            raise ValueError(f"pretrain.processes = {config.processes} cannot be shared by {self.world} processes")
        if isinstance(self.model, InfoAtlas):
            # Fitted afterwards, to the finished critic.
            self.model.calibrated_head.requires_grad_(False)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
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
            if self.rank == 0 and checkpoint is not None and time.monotonic() - last_save > 60 * self.config.checkpoint_minutes:
                self.save(checkpoint)
                last_save = time.monotonic()
        if self.rank == 0 and checkpoint is not None:
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
            result = regret(self.model, problem, autocast=config.autocast and bfloat16_is_fast(self.device))
            loss = result.loss()
            loss.backward()
            figures = {
                "loss": float(loss.detach()),
                "regret": float(result.critic.detach().median()),
                "regret_base": float(result.base.detach().median()),
                "encoder": float(result.encoder.detach().median()),
            }
        except torch.linalg.LinAlgError as error:
            logger.warning("step %d: %s", self.step, error)
        if self._average_gradients(failed=not math.isfinite(figures["loss"])):
            self.optimizer.step()
            self._update_average()
        else:
            self.skipped += 1
        self.step += 1
        self.problems += len(problem.x) * self.world
        return figures | {"step": self.step, "skipped": self.skipped, "problems": self.problems}

    def _average_gradients(self, *, failed: bool) -> bool:
        """Mean of the gradients of all processes, clipped; False where any of them failed or is not finite.

        Not ``DistributedDataParallel``: a process whose Cholesky factorisation failed has no backward pass to take part
        in, and all have to agree to skip the step.
        """
        parameters = self.parameters
        if self.world > 1:
            flat = torch.cat(
                [torch.zeros(p.numel(), device=self.device) if p.grad is None else p.grad.flatten() for p in parameters]
            )
            if failed:
                flat = torch.full_like(flat, math.nan)
            dist.all_reduce(flat)
            for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                parameter.grad = gradient.view_as(parameter) / self.world
        elif failed:
            return False
        return bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)))

    def problem(self, step: int) -> Problem:
        """The batch of problems of a step."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        n, dx, dy = sample_sizes(self.atlas, generator)
        shifts = self.model.shifts(n) if isinstance(self.model, InfoAtlas) else 1
        pairs = n * (1 + shifts)
        batch = min(max(self.config.pairs_per_step // pairs, 2), self.config.max_batch) * self.config.processes
        return sample_problems(batch, n, dx, dy, self.atlas, generator, rank=self.rank, world=self.world).to(self.device)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean relative loss of the averaged model on a fixed set of atlas problems."""
        model = self.averaged_model()
        losses = []
        for index in range(self.config.validation_problems):
            generator = torch.Generator().manual_seed(10**9 + index)
            n, dx, dy = sample_sizes(self.atlas, generator)
            problem = sample_problems(4, n, dx, dy, self.atlas, generator).to(self.device)
            losses.append(regret(model, problem, autocast=False).critic)
        return {"regret": float(_squash(torch.cat(losses)).mean())}

    def averaged_model(self) -> InfoAtlas | PaperInfoAtlas:
        model = self.model.config.build().to(self.device)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self, path: Path) -> None:
        content = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "progress": [self.step, self.problems, self.skipped, self.seconds],
            "configs": self.configs(),
        }
        with replace_file(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is damaged, or was made with another configuration; both are named.
        """
        content = read_checkpoint(path, "configs", map_location=self.device)
        there, here = (
            {f"{section}.{name}": value for section, options in configs.items() for name, value in options.items()}
            for configs in (content["configs"], self.configs())
        )
        require_same_run(path, there, here)
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.problems, self.skipped, self.seconds = content["progress"]

    def configs(self) -> dict[str, Any]:
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
