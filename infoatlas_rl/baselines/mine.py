"""MINE: a critic trained by gradient ascent on the Donsker-Varadhan bound, inside every call (Belghazi et al., ICML 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infoatlas_rl.baselines.critics import OBJECTIVES, CriticTraining, critic_values, standardised, train_critic
from infoatlas_rl.checks import check_samples
from infoatlas_rl.estimator.bounds import donsker_varadhan


class MINELoss(nn.Module):
    """Negative mutual information by MINE, in nats, to be minimised; differentiable through the trained critic.

    The data sets of a batch have critics of their own, which are trained side by side as batched matrix products.

    Args:
        steps: of gradient ascent (Adam) per call; ``MINE-100`` and ``MINE-1000`` of the InfoAtlas paper.
        options: further ones of :class:`~infoatlas_rl.baselines.critics.CriticTraining`: batch_size, width, learning_rate.
        seed: of initialisation, batches and shuffles.
    """

    def __init__(self, steps: int = CriticTraining.steps, *, seed: int = 0, **options: float) -> None:
        super().__init__()
        self.steps, self.training_options = steps, CriticTraining(steps, **options)
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative MI, averaged over the batch; x ``(n, dx)`` or ``(b, n, dx)``, y likewise."""
        return -self.mi(x, y).mean()

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """Mutual information in nats: a scalar for ``(n, d)`` inputs, ``(b,)`` for ``(b, n, d)``; differentiable."""
        x, y, batched = check_samples(x, y, None)
        x, y = standardised(x), standardised(y)
        parameters = train_critic(x.detach(), y.detach(), OBJECTIVES["MINE"], self.training_options, self._generator)
        shuffled = y[:, torch.randperm(y.shape[1], generator=self._generator)]
        values = donsker_varadhan(critic_values(parameters, x, y), critic_values(parameters, x, shuffled))
        return values if batched else values[0]

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def extra_repr(self) -> str:
        options = self.training_options
        return f"steps={options.steps}, batch_size={options.batch_size}, width={options.width}"
