"""Training of the InfoNet baseline on random Gaussian mixtures (Hu et al., ICML 2024, Algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infoatlas_rl.baselines.infonet import InfoNet, look_up, uniform_scores
from infoatlas_rl.checks import check_numbers
from infoatlas_rl.estimator.bounds import donsker_varadhan


@dataclass(frozen=True)
class InfoNetTraining:
    """Optimisation on random Gaussian mixtures."""

    steps: int = 12_000
    batch: int = 24
    min_samples: int = 128
    max_samples: int = 1000
    max_components: int = 20
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, or_zero=("seed",))


def sample_mixtures(batch: int, n: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random two-dimensional Gaussian mixtures of 1 to ``most`` components as copula-transformed pairs, ``(batch, n)``."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    count = 1 + (draw(batch, 1) ** 2 * most).long()
    weights = draw(batch, most) * (torch.arange(most) < count)
    chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
    mean = 5 * (2 * draw(batch, most, 2) - 1) * (count.unsqueeze(-1) > 1)
    scale = 0.1 + 2 * draw(batch, most, 2)
    rho = 2 * draw(batch, most) ** 0.5 - 1
    rho = rho * torch.where(draw(batch, most) < 0.5, -0.99, 0.99)
    noise = torch.randn(batch, n, 2, generator=generator)
    r = rho.gather(1, chosen)
    y = r * noise[..., 0] + (1 - r**2).sqrt() * noise[..., 1]
    pairs = torch.stack([noise[..., 0], y], dim=-1)
    index = chosen.unsqueeze(-1).expand(-1, -1, 2)
    pairs = mean.gather(1, index) + scale.gather(1, index) * pairs
    return uniform_scores(pairs[..., 0], generator), uniform_scores(pairs[..., 1], generator)


def train_step(model: InfoNet, optimizer: torch.optim.Optimizer, config: InfoNetTraining, step: int) -> dict[str, float]:
    """One step of gradient ascent on the Donsker-Varadhan bound, averaged over a batch of distributions."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    span = math.log(config.max_samples / config.min_samples)
    n = round(config.min_samples * math.exp(span * float(torch.rand((), generator=generator))))
    x, y = sample_mixtures(config.batch, 2 * n, config.max_components, generator)
    # The table is written from one half and the bound evaluated on the other, so that it generalises.
    table = model(x[:, :n], y[:, :n])
    held_x, held_y = x[:, n:], y[:, n:]
    product = torch.cat([look_up(table, held_x, held_y.roll(shift, -1)) for shift in (1, 2, 3)], dim=-1)
    mi = donsker_varadhan(look_up(table, held_x, held_y), product).mean()
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * (1 - step / config.steps))
    optimizer.zero_grad(set_to_none=True)
    (-mi).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"mi": float(mi.detach())}
