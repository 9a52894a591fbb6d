"""Critics trained by gradient ascent, one data set each: what MINE, NWJ, SMILE and InfoNCE share.

A critic t(x, y) is a network of two hidden layers; :data:`OBJECTIVES` says what is ascended, which samples of the product of the
margins are drawn, and which value is read, all in nats and all from :mod:`infoatlas_rl.estimator.bounds`.

=========  =====================================================  ==================================================
MINE       Donsker-Varadhan bound                                 Belghazi et al., ICML 2018
NWJ        ``E_p[t] - E_q[exp t] + 1``                            Nguyen, Wainwright & Jordan, 2010
SMILE      Jensen-Shannon objective; Donsker-Varadhan, clipped    Song & Ermon, ICLR 2020
InfoNCE    cross-entropy among all pairs of a batch               van den Oord et al., 2018
=========  =====================================================  ==================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.estimator.bounds import donsker_varadhan, info_nce, nwj, smile

Bound = Callable[[Tensor, Tensor], Tensor]
"""Scores of joint ``(b, n)`` and product samples ``(b, N)`` to ``(b,)``."""


def jensen_shannon(joint: Tensor, product: Tensor) -> Tensor:
    """``-E_p[softplus(-t)] - E_q[softplus(t)]``: largest where t is the log density ratio, like Donsker-Varadhan; not the MI."""
    return -F.softplus(-joint).mean(-1) - F.softplus(product).mean(-1)


@dataclass(frozen=True)
class Objective:
    """How a critic is trained and read."""

    ascended: Bound
    value: Bound
    """The estimate, in nats."""
    all_pairs: bool = False
    """Every pair of a batch is a product sample of it; if not, one for every joint sample."""


OBJECTIVES: dict[str, Objective] = {
    "MINE": Objective(donsker_varadhan, donsker_varadhan),
    "NWJ": Objective(nwj, nwj),
    "SMILE": Objective(jensen_shannon, smile),
    "InfoNCE": Objective(info_nce, info_nce, all_pairs=True),
}


@dataclass(frozen=True)
class CriticTraining:
    """Size and training of a critic."""

    steps: int = 100
    """Of Adam; ``MINE-100`` and ``MINE-1000`` of the InfoAtlas paper."""
    batch_size: int = 100
    """Samples of a step, drawn with replacement."""
    width: int = 100
    """Of the two hidden layers."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("batch_size", self.batch_size), ("width", self.width)):
            if value < 1:
                raise ValueError(f"{name} has to be at least 1, not {value}")

    def sizes(self, inputs: int) -> list[int]:
        """Of the layers, from dx + dy inputs to one score."""
        return [inputs, self.width, self.width, 1]


def train_critic(
    x: Tensor,
    y: Tensor,
    objective: Objective,
    training: CriticTraining,
    generator: torch.Generator,
    after: Callable[[int, list[Tensor]], None] | None = None,
) -> list[Tensor]:
    """Weights and biases of critics, one for each data set of the batch, trained side by side.

    Args:
        x: ``(b, n, dx)``, standardised; y likewise ``(b, n, dy)``.
        generator: of initialisation and batches.
        after: called after every step with the number of steps done and the weights so far.
    """
    b, n, _ = x.shape
    parameters: list[Tensor] = []
    for size_in, size_out in itertools.pairwise(training.sizes(x.shape[-1] + y.shape[-1])):
        bound = 1 / math.sqrt(size_in)
        weight = (2 * torch.rand(b, size_in, size_out, generator=generator) - 1) * bound
        parameters += [weight.to(x).requires_grad_(), torch.zeros(b, 1, size_out).to(x).requires_grad_()]
    optimizer = torch.optim.Adam(parameters, lr=training.learning_rate)
    size = min(training.batch_size, n)
    rows, partners = shifted(size, size - 1)
    for step in range(training.steps):
        with torch.enable_grad():
            index, other = torch.randint(n, (2, size), generator=generator)
            joint = critic_values(parameters, x[:, index], y[:, index])
            if objective.all_pairs:
                product = critic_values(parameters, x[:, index[rows]], y[:, index[partners]])
            else:
                product = critic_values(parameters, x[:, index], y[:, other])
            optimizer.zero_grad(set_to_none=True)
            (-objective.ascended(joint, product).sum()).backward()
            optimizer.step()
        if after is not None:
            after(step + 1, parameters)
    return [parameter.detach() for parameter in parameters]


def critic_values(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Scores ``(b, n)`` of pairs."""
    h = torch.cat([x, y], dim=-1)
    weights, biases = parameters[::2], parameters[1::2]
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = torch.baddbmm(bias, h, weight)
        if index < len(weights) - 1:
            h = F.elu(h)
    return h.squeeze(-1)


def shifted(n: int, shifts: int) -> tuple[Tensor, Tensor]:
    """Rows of x and of y, ``(shifts * n,)`` each, that pair every x with the next ``shifts`` others."""
    rows = torch.arange(n).repeat(shifts)
    return rows, (rows + torch.arange(1, shifts + 1).repeat_interleave(n)) % n


def standardised(samples: Tensor) -> Tensor:
    """Columns of ``(b, n, d)`` with mean 0 and standard deviation 1."""
    mean, std = samples.detach().mean(1, keepdim=True), samples.detach().std(1, keepdim=True)
    return (samples - mean) / std.clamp(min=1e-6)
