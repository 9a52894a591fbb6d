"""MINE: a critic trained by gradient ascent on the Donsker-Varadhan bound, inside every call (Belghazi et al., ICML 2018)."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoatlas_rl.checks import check_samples
from infoatlas_rl.estimator.bounds import donsker_varadhan


class MINELoss(nn.Module):
    """Negative mutual information by MINE, in nats, to be minimised; differentiable through the trained critic.

    The data sets of a batch have critics of their own, which are trained side by side as batched matrix products.

    Args:
        steps: of gradient ascent (Adam) per call; ``MINE-100`` and ``MINE-1000`` of the InfoAtlas paper.
        batch_size: samples per step, drawn with replacement.
        width: of the two hidden layers.
        seed: of initialisation, batches and shuffles.
    """

    def __init__(
        self, steps: int = 100, *, batch_size: int = 100, width: int = 100, learning_rate: float = 1e-3, seed: int = 0
    ) -> None:
        super().__init__()
        for name, value in (("steps", steps), ("batch_size", batch_size), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} has to be at least 1, not {value}")
        self.steps, self.batch_size, self.width, self.learning_rate = steps, batch_size, width, learning_rate
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative MI, averaged over the batch; x ``(n, dx)`` or ``(b, n, dx)``, y likewise."""
        return -self.mi(x, y).mean()

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """Mutual information in nats: a scalar for ``(n, d)`` inputs, ``(b,)`` for ``(b, n, d)``; differentiable."""
        x, y, batched = check_samples(x, y, None)
        x, y = _standardised(x), _standardised(y)
        parameters = self._train(x.detach(), y.detach())
        shuffled = y[:, torch.randperm(y.shape[1], generator=self._generator)]
        values = donsker_varadhan(_critic(parameters, x, y), _critic(parameters, x, shuffled))
        return values if batched else values[0]

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, batch_size={self.batch_size}, width={self.width}"

    def _train(self, x: Tensor, y: Tensor) -> list[Tensor]:
        b, n, _ = x.shape
        sizes = [x.shape[-1] + y.shape[-1], self.width, self.width, 1]
        parameters: list[Tensor] = []
        for size_in, size_out in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(size_in)
            weight = (2 * torch.rand(b, size_in, size_out, generator=self._generator) - 1) * bound
            parameters += [weight.to(x).requires_grad_(), torch.zeros(b, 1, size_out).to(x).requires_grad_()]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        with torch.enable_grad():
            for _ in range(self.steps):
                index, other = torch.randint(n, (2, min(self.batch_size, n)), generator=self._generator)
                joint, product = _critic(parameters, x[:, index], y[:, index]), _critic(parameters, x[:, index], y[:, other])
                optimizer.zero_grad(set_to_none=True)
                (-donsker_varadhan(joint, product).sum()).backward()
                optimizer.step()
        return [parameter.detach() for parameter in parameters]


def _critic(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    h = torch.cat([x, y], dim=-1)
    weights, biases = parameters[::2], parameters[1::2]
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = torch.baddbmm(bias, h, weight)
        if index < len(weights) - 1:
            h = F.elu(h)
    return h.squeeze(-1)


def _standardised(samples: Tensor) -> Tensor:
    mean, std = samples.detach().mean(1, keepdim=True), samples.detach().std(1, keepdim=True)
    return (samples - mean) / std.clamp(min=1e-6)
