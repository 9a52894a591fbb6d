"""What people train with today, to compare with: objectives of paired samples that raise dependence, and penalties that lower it.

All are called alike, ``objective(x, y) -> scalar to be minimised``, with x ``(n, dx)`` and y ``(n, dy)``. Where an objective has
a network of its own (adversary, CLUB, MINE, SMILE), the network is made in the first call, from a seed, and every call trains it
for ``steps`` steps of Adam on the batch before its value is taken, with gradients to x and y alone: critics persist over batches.

====================  ==========  ==============================================================================
:class:`InfoNCE`      maximise    van den Oord et al., 2018
:class:`VICReg`       maximise    Bardes, Ponce and LeCun, ICLR 2022
:class:`Adversary`    minimise    Ganin et al., JMLR 2016; with a regression loss
:class:`CLUB`         minimise    Cheng et al., ICML 2020
:class:`HSIC`         minimise    Gretton et al., ALT 2005; normalised as by Kornblith et al., ICML 2019
:class:`DistanceCorrelation`  minimise  Szekely, Rizzo and Bakirov, Annals of Statistics 2007
:class:`MINE`         either      Belghazi et al., ICML 2018
:class:`SMILE`        either      Song and Ermon, ICLR 2020
====================  ==========  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoatlas_rl.baselines.critics import jensen_shannon
from infoatlas_rl.estimator.bounds import log_mean_exp

Direction = Literal["maximise", "minimise"]
SHIFTS = 4
"""Product samples per joint sample, of MINE and SMILE."""


class InfoNCE:
    """Cross-entropy of the own partner among all of the batch, by cosine over temperature, both ways, in nats; it is
    log n minus a lower bound of the mutual information. x and y have as many columns.

    Args:
        temperature: of the softmax.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        self.temperature = temperature

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / self.temperature
        own = torch.arange(len(x), device=x.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class VICReg:
    """``25 |x - y|^2 / d + variance * hinge(1 - std) + sum of squared off-diagonal covariances / d``, of both sides.

    Args:
        invariance, variance, covariance: weights of the three terms, as published.
    """

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        loss = self.invariance * F.mse_loss(x, y)
        for side in (x, y):
            moments = torch.cov(side.T)
            spread = F.relu(1 - (moments.diagonal() + 1e-4).sqrt()).mean()
            redundancy = (moments.square().sum() - moments.diagonal().square().sum()) / side.shape[1]
            # The published hinge is averaged over both sides, the covariance summed.
            loss = loss + self.variance * spread / 2 + self.covariance * redundancy
        return loss


class HSIC:
    """Normalised Hilbert-Schmidt independence criterion, ``tr(K H L H) / (|H K H| |H L H|)``, in [0, 1]: Gaussian kernels of the
    batch, their widths the median distance.

    Args:
        scale: of the squared width, times the median squared distance.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        k, h = (_centred(self._kernel(side)) for side in (x, y))
        return (k * h).sum() / (k.square().sum() * h.square().sum()).sqrt()

    def _kernel(self, side: Tensor) -> Tensor:
        squares = _squared_distances(side)
        return torch.exp(-squares / (self.scale * squares.detach().median() + 1e-6))


class DistanceCorrelation:
    """Distance correlation of the batch, in [0, 1], ``sqrt(dCov^2(x, y) / sqrt(dVar^2(x) dVar^2(y)))``."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = (_centred((_squared_distances(side) + 1e-8).sqrt()) for side in (x, y))
        square = (a * b).mean().clamp(min=1e-10) / (a.square().mean() * b.square().mean()).sqrt()
        return square.sqrt()


class Critic:
    """A network of an objective, and its training: made in the first call, trained in every one.

    Args:
        steps: of Adam, in every call, on the batch.
        learning_rate: of Adam.
        width: of the two hidden layers.
        seed: of the network to begin with.
    """

    def __init__(self, steps: int = 3, *, learning_rate: float = 2e-3, width: int = 128, seed: int = 0) -> None:
        if steps < 1:
            raise ValueError(f"steps has to be at least 1, not {steps}")
        self.steps, self.learning_rate, self.width, self.seed = steps, learning_rate, width, seed
        self._network: nn.Sequential | None = None

    def train(self, sizes: tuple[int, int], like: Tensor, loss: Callable[[nn.Sequential], Tensor]) -> nn.Sequential:
        """The network from ``sizes[0]`` inputs to ``sizes[1]`` outputs, after its steps on ``loss`` of it."""
        if self._network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self._network = nn.Sequential(*_layers(sizes[0], self.width, self.width, sizes[1])).to(like.device)
            self._optimizer = torch.optim.Adam(self._network.parameters(), self.learning_rate)
        self._network.requires_grad_(True)
        with torch.enable_grad():
            for _ in range(self.steps):
                self._optimizer.zero_grad()
                loss(self._network).backward()
                self._optimizer.step()
        # Its parameters are nobody else's.
        return self._network.requires_grad_(False)


class Adversary:
    """R2 of a network that predicts y from x, at most 1: the min-max game without a gradient reversal layer.

    Args:
        critic: the network and its training.
    """

    def __init__(self, critic: Critic | None = None) -> None:
        self.critic = Critic() if critic is None else critic

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        fixed, target = x.detach(), y.detach()
        network = self.critic.train((x.shape[1], y.shape[1]), x, lambda net: F.mse_loss(net(fixed), target))
        return 1 - F.mse_loss(network(x), y) / (target.var(0, correction=0).mean() + 1e-8)


class CLUB:
    """Contrastive log-ratio upper bound, ``E_p[log q(y|x)] - E_p(x)p(y)[log q(y|x)]`` in nats, over all pairs of the batch, with
    a Gaussian q whose mean and variance are networks that are trained by maximum likelihood. A bound only where q is close.

    Args:
        critic: the network of q and its training.
    """

    def __init__(self, critic: Critic | None = None) -> None:
        self.critic = Critic() if critic is None else critic

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        fixed, target = x.detach(), y.detach()

        def likelihood(network: nn.Sequential) -> Tensor:
            mean, log_variance = _gaussian(network, fixed)
            return 0.5 * ((target - mean).square() * (-log_variance).exp() + log_variance).mean()

        mean, log_variance = _gaussian(self.critic.train((x.shape[1], 2 * y.shape[1]), x, likelihood), x)
        precision = (-log_variance).exp()
        joint = -0.5 * ((y - mean).square() * precision).sum(1).mean()
        product = -0.5 * ((y[None] - mean[:, None]).square() * precision[:, None]).sum(-1).mean()
        return joint - product


class MINE:
    """Donsker-Varadhan bound in nats, ``E_p[T] - log E_q[exp T]``, with a critic that persists over batches; minus it to
    maximise. Plain batch gradients of the logarithm, not their moving average.

    Args:
        direction: of the dependence.
        critic: the network T(x, y) and its training.
    """

    def __init__(self, direction: Direction = "maximise", critic: Critic | None = None) -> None:
        if direction not in ("maximise", "minimise"):
            raise ValueError(f"direction has to be maximise or minimise, not {direction!r}")
        self.sign = -1.0 if direction == "maximise" else 1.0
        self.critic = Critic() if critic is None else critic

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        fixed, partner = x.detach(), y.detach()

        def loss(network: nn.Sequential) -> Tensor:
            return self._critic_loss(*_scores(network, fixed, partner))

        network = self.critic.train((x.shape[1] + y.shape[1], 1), x, loss)
        return self.sign * self._bound(*_scores(network, x, y))

    def _critic_loss(self, joint: Tensor, product: Tensor) -> Tensor:
        return -(joint.mean() - log_mean_exp(product))

    def _bound(self, joint: Tensor, product: Tensor) -> Tensor:
        return joint.mean() - log_mean_exp(product)


class SMILE(MINE):
    """Donsker-Varadhan value in nats with scores clipped to [-clip, clip] under the exponential; its critic is trained on the
    Jensen-Shannon objective, as by Song and Ermon.

    Args:
        direction: of the dependence.
        clip: tau of the paper.
        critic: the network T(x, y) and its training.
    """

    def __init__(self, direction: Direction = "maximise", clip: float = 5.0, critic: Critic | None = None) -> None:
        super().__init__(direction, critic)
        self.clip = clip

    def _critic_loss(self, joint: Tensor, product: Tensor) -> Tensor:
        return -jensen_shannon(joint, product)

    def _bound(self, joint: Tensor, product: Tensor) -> Tensor:
        return joint.mean() - log_mean_exp(product.clamp(-self.clip, self.clip))


class Ramped:
    """An objective that grows to its full strength over its first calls, as the penalty of ``InfoAtlasLoss`` does.

    Args:
        objective: of this module.
        calls: over which it grows.
    """

    def __init__(self, objective: Callable[[Tensor, Tensor], Tensor], calls: int = 300) -> None:
        self.objective, self.calls, self.seen = objective, calls, 0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen += 1
        return min(1.0, self.seen / self.calls) * self.objective(x, y)


def _layers(*sizes: int) -> Iterator[nn.Module]:
    for number, (size_in, size_out) in enumerate(pairwise(sizes)):
        if number:
            yield nn.SiLU()
        yield nn.Linear(size_in, size_out)


def _gaussian(network: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = network(x).chunk(2, dim=1)
    return mean, log_variance.clamp(-6, 6)


def _scores(network: nn.Sequential, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the n pairs, and of ``SHIFTS`` n pairs of others."""
    joint = network(torch.cat([x, y], dim=1))[:, 0]
    others = torch.cat([torch.cat([x, y.roll(shift, 0)], dim=1) for shift in range(1, SHIFTS + 1)])
    return joint, network(others)[:, 0]


def _squared_distances(side: Tensor) -> Tensor:
    """``(n, n)``, through scalar products; the rounding of small ones is cut off at 0."""
    squares = side.square().sum(1)
    return (squares[:, None] + squares[None] - 2 * side @ side.T).clamp(min=0)


def _centred(matrix: Tensor) -> Tensor:
    return matrix - matrix.mean(0, keepdim=True) - matrix.mean(1, keepdim=True) + matrix.mean()
