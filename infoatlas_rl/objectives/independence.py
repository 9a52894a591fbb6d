"""Dependence that is to be taken away: a critic that rests on thousands of earlier samples; no push beyond independence.

A critic that is written from one batch is blind to what a batch cannot show, and an encoder that is trained against it hides
exactly there. Here the last ``memory`` pairs are kept. Functions of x are trained on them to find whatever depends on y,
canonical analysis solves in closed form for the pairs of functions (f_r, g_r) that are most correlated on the memory
(Hirschfeld, Gebelein, Renyi), and the squares of their correlations on the batch, which the memory has not seen yet in the first
epoch, are penalised::

    L = 1/2 sum_r w_r corr_batch(f_r(x), g_r(y))^2

For weak dependence that is the mutual information of the variates, -1/2 log(1 - rho^2), in nats; it is zero, and flat, at
independence, so that nothing is pushed beyond it. The pairs with linear functions of y weigh 1, those with nonlinear ones
0.1. The penalty grows over the first calls: it would otherwise be at its full strength before anything useful has been
learned.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.objectives.memory import Memory, check_state
from infoatlas_rl.transforms import outside_transforms

WIDTH = 96
"""Of the two hidden layers of the functions of x."""
SINES = 32
"""Functions of y, beside its columns: sines of random frequencies."""
PAIRS = 8
NONLINEAR = 0.1
"""Weight of the pairs with nonlinear functions of y."""
RIDGE_X, RIDGE_Y = 0.3, 1.0
"""Of standardised features; the one of x is that of 2048 samples."""
WHITENING_X, WHITENING_Y = 0.1, 1e-3
"""Ridges of standardised columns. Directions of x that then hardly vary cannot tell much, and would only be noise."""
STEPS, BATCH, LEARNING_RATE = 2, 256, 8e-3
"""Of the functions of x, in every call."""
SOLVED_EVERY = 2
"""Calls."""
RAMP = 300
"""Calls over which the penalty grows to its full strength."""
LARGE, LARGEST = 1e15, 1e37
"""Samples beyond the first are whitened in another unit, for their squares might be infinite; those beyond the second are cut."""


class Frame(NamedTuple):
    """What was solved on the memory: how samples are whitened and features standardised, and the pairs of functions."""

    white_x: tuple[Tensor, Tensor]
    white_y: tuple[Tensor, Tensor]
    scale_x: tuple[Tensor, Tensor]
    scale_y: tuple[Tensor, Tensor]
    linear: Pairs
    nonlinear: Pairs
    ratio: Ratio


class Pairs(NamedTuple):
    """Canonical pairs of features f of x and g of y."""

    x: Tensor  # (p, r): f @ x are the variates
    y: Tensor  # (q, r)


class Ratio(NamedTuple):
    """The low-rank density ratio f^T T g of canonical pairs; G: second moments of g."""

    operator: Tensor  # (p, q): T
    energy: Tensor  # (p, p): T G T^T


class Independence:
    """The penalty; a critic of its own, without parameters for anybody's optimizer.

    Args:
        memory: pairs that are kept.
        seed: of the functions of x and y to begin with, and of the samples that they are trained on.
    """

    def __init__(self, memory: int = 2048, seed: int = 0) -> None:
        self.memory, self.seed = memory, seed
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.calls = 0
        self._generator = torch.Generator().manual_seed(self.seed)
        self._kept = Memory(self.memory)
        self._offsets: tuple[Tensor, ...] = ()
        self._weights: list[Tensor] = []
        self._sines: tuple[Tensor, Tensor] | None = None
        self._moments: list[Tensor] = []
        self._frame: Frame | None = None

    def __call__(self, x: Tensor, y: Tensor, *, learn: bool = True) -> Tensor:
        """Penalty of a batch ``(n, dx), (n, dy)``, a scalar in nats; differentiable with respect to both.

        Args:
            learn: go on learning, and remember the batch.

        Raises:
            ValueError: other numbers of columns than before.
        """
        fresh = not len(self._kept)
        if fresh:
            with outside_transforms():
                self._begin(x, y)
            self._offsets = tuple(_middle(side) for side in (x, y))
            self._remember(x, y)
        elif self._kept.sides[0].device != x.device:
            self.restore(_moved(self.state(), x.device))
        columns = x.shape[1], y.shape[1]
        if columns != (kept := tuple(side.shape[1] for side in self._kept.sides)):
            raise ValueError(
                "x and y have {} and {} columns, the memory {} and {}; ".format(*columns, *kept)
                + "use a loss of its own for every pair of variables, or reset(); class labels, of which a batch may lack some, "
                "as one_hot(labels, count) and without classes="
            )
        if self._frame is None or (learn and self.calls % SOLVED_EVERY == 0):
            self._frame = self._solve()
        if learn:
            self._train(self._frame)
        f, g = self._features(*self._centred(x, y), self._frame)
        penalty = _correlation(f, g, self._frame.linear).square().sum()
        penalty = penalty + NONLINEAR * _correlation(f, g, self._frame.nonlinear).square().sum()
        strength = min(1.0, (self.calls + 1) / RAMP) if learn else 1.0
        if not learn and fresh:
            self.reset()
        elif learn:
            self.calls += 1
            if not fresh:
                self._remember(x, y)
        return 0.5 * strength * penalty

    def state(self) -> dict[str, Any]:
        """All that the calls to come depend on, as tensors and numbers."""
        return {
            "calls": self.calls,
            "generator": self._generator.get_state(),
            "sides": list(self._kept.sides),
            "offsets": list(self._offsets),
            "weights": [w.detach().clone() for w in self._weights],
            "sines": None if self._sines is None else list(self._sines),
            "moments": [m.clone() for m in self._moments],
            "frame": None if self._frame is None else [list(part) for part in self._frame],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken.

        Raises:
            ValueError: it lacks something; all is as it was then.
        """
        check_state(state, self.state())
        self.calls = int(state["calls"])
        self._generator.set_state(state["generator"].cpu())
        self._kept.sides, self._offsets = tuple(state["sides"]), tuple(state["offsets"])
        self._weights = [w.clone() for w in state["weights"]]
        self._sines = None if state["sines"] is None else tuple(state["sines"])
        self._moments = [m.clone() for m in state["moments"]]
        parts = state["frame"]
        self._frame = None
        if parts is not None:
            self._frame = Frame(*map(tuple, parts[:4]), Pairs(*parts[4]), Pairs(*parts[5]), Ratio(*parts[6]))

    def _remember(self, x: Tensor, y: Tensor) -> None:
        """With zeros in rows that are not finite, which would spoil all calls to come."""
        x, y = self._centred(x, y)
        finite = (torch.isfinite(x).all(1) & torch.isfinite(y).all(1)).unsqueeze(1)
        self._kept.add(*(torch.where(finite, side, 0.0) for side in (x, y)))

    def _centred(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """In single precision, less what the first batch was around: of times since 1970 seconds would be lost."""
        return tuple(_single(_at_least_single(side) - offset) for side, offset in zip((x, y), self._offsets, strict=True))

    def _begin(self, x: Tensor, y: Tensor) -> None:
        dx, dy, device = x.shape[1], y.shape[1], x.device
        uniform = partial(torch.rand, generator=self._generator, dtype=torch.float32)

        def layer(inputs: int) -> list[Tensor]:
            bound = 1 / math.sqrt(inputs)
            shapes = ((WIDTH, inputs), (WIDTH,))
            return [(2 * uniform(*shape) - 1).mul_(bound).to(device) for shape in shapes]

        self._weights = [*layer(dx), *layer(WIDTH)]
        self._moments = [torch.zeros_like(w) for w in self._weights * 2]
        direction = F.normalize(torch.randn(dy, SINES, generator=self._generator, dtype=torch.float32), dim=0)
        low, high = math.log(0.3), math.log(2.0)
        frequency = torch.exp(low + (high - low) * uniform(SINES))
        phase = 2 * math.pi * uniform(SINES)
        self._sines = (direction * frequency).to(device), phase.to(device)

    def _features_of_x(self, u: Tensor) -> Tensor:
        weight, bias, second, second_bias = self._weights
        h = F.silu(F.linear(u, weight, bias))
        return torch.cat([u, h, F.silu(F.linear(h, second, second_bias))], dim=1)

    def _features_of_y(self, v: Tensor) -> Tensor:
        return torch.cat([v, torch.sin(v @ self._sines[0] + self._sines[1])], dim=1)

    def _features(self, x: Tensor, y: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        f = self._features_of_x((x - frame.white_x[0]) @ frame.white_x[1])
        g = self._features_of_y((y - frame.white_y[0]) @ frame.white_y[1])
        return (f - frame.scale_x[0]) / frame.scale_x[1], (g - frame.scale_y[0]) / frame.scale_y[1]

    @torch.no_grad()
    def _solve(self) -> Frame:
        """Canonical analysis of the memory."""
        x, y = self._kept.sides
        n, dy = y.shape
        white_x, white_y = _whitening(x, WHITENING_X), _whitening(y, WHITENING_Y)
        f = self._features_of_x((x - white_x[0]) @ white_x[1])
        g = self._features_of_y((y - white_y[0]) @ white_y[1])
        scale_x, scale_y = _scale(f), _scale(g)
        ridge_x = RIDGE_X * max(2048 / n, 1.0)
        moment_x, moment_y, cross = (
            _moment(f, f, scale_x, scale_x),
            _moment(g, g, scale_y, scale_y),
            _moment(f, g, scale_x, scale_y),
        )
        factor_x = _cholesky(moment_x, ridge_x)
        linear, line = _canonical(factor_x, _cholesky(moment_y[:dy, :dy], 1e-3), moment_y[:dy, :dy], cross[:, :dy], dy)
        nonlinear, curve = _canonical(factor_x, _cholesky(moment_y, RIDGE_Y), moment_y, cross, PAIRS)
        operator = NONLINEAR * curve.operator
        operator[:, :dy] += line.operator
        ratio = Ratio(operator, line.energy + NONLINEAR * curve.energy)
        return Frame(white_x, white_y, scale_x, scale_y, linear, nonlinear, ratio)

    def _train(self, frame: Frame) -> None:
        """Steps of Adam for the functions of x, on the least-squares objective of the low-rank density ratios f^T T g,
        E_p[f^T T g] - E_q[(f^T T g)^2] / 2, with T as solved; of the linear pairs, and a tenth of that of the nonlinear ones."""
        x, y = self._kept.sides
        for step in range(STEPS):
            rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=self._generator).to(x.device)
            with torch.enable_grad():
                weights = [w.detach().requires_grad_() for w in self._weights]
                self._weights = weights
                f, g = self._features(x[rows], y[rows], frame)
                gain = (f @ frame.ratio.operator * g).sum() - 0.5 * (f @ frame.ratio.energy * f).sum()
                gradients = torch.autograd.grad(-gain / len(rows), weights)
            self._adam(gradients, self.calls * STEPS + step + 1)

    @torch.no_grad()
    def _adam(self, gradients: tuple[Tensor, ...], step: int) -> None:
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        clip = (1 / (norm + 1e-6)).clamp(max=1.0)
        count = len(self._weights)
        for number, gradient in enumerate(gradients):
            mean, square = self._moments[number], self._moments[count + number]
            mean.lerp_(gradient * clip, 0.1)
            square.lerp_((gradient * clip) ** 2, 0.01)
            move = (mean / (1 - 0.9**step)) / ((square / (1 - 0.99**step)).sqrt() + 1e-8)
            self._weights[number] = self._weights[number].detach() - LEARNING_RATE * move


def _moved(state: Any, device: torch.device) -> Any:
    """A state with all its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: _moved(part, device) for name, part in state.items()}
    return type(state)(_moved(part, device) for part in state) if isinstance(state, list | tuple) else state


def _middle(samples: Tensor) -> Tensor:
    """Medians ``(d,)`` of the columns, 0 where there is none."""
    return torch.nan_to_num(_at_least_single(samples.detach()).nanmedian(0).values, 0.0, 0.0, 0.0)


def _at_least_single(samples: Tensor) -> Tensor:
    return samples if samples.dtype == torch.float64 else samples.float()


def _single(samples: Tensor) -> Tensor:
    return samples.clamp(-LARGEST, LARGEST).float()


def _correlation(f: Tensor, g: Tensor, pairs: Pairs) -> Tensor:
    """Correlations ``(r,)`` of the pairs on the batch."""
    p, q = f @ pairs.x, g[:, : len(pairs.y)] @ pairs.y
    p, q = ((t - t.mean(0)) / (t.std(0) + 1e-3) for t in (p, q))
    return (p * q).mean(0)


def _canonical(factor_x: Tensor, factor_y: Tensor, moment_y: Tensor, cross: Tensor, count: int) -> tuple[Pairs, Ratio]:
    white = torch.linalg.solve_triangular(factor_x, cross, upper=False)
    white = torch.linalg.solve_triangular(factor_y, white.T, upper=False).T
    left, correlations, right = torch.linalg.svd(white, full_matrices=False)
    x = torch.linalg.solve_triangular(factor_x.T, left, upper=True)
    y = torch.linalg.solve_triangular(factor_y.T, right.T, upper=True)
    leading = min(2 * PAIRS, len(correlations))
    operator = (x[:, :leading] * correlations[:leading]) @ y[:, :leading].T
    return Pairs(x[:, :count], y[:, :count]), Ratio(operator, operator @ moment_y @ operator.T)


def _whitening(samples: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and map ``(d, d)``."""
    largest = samples.abs().max()
    unit = torch.where(largest > LARGE, largest, 1.0)
    samples = samples / unit
    mean = samples.mean(0)
    centred = samples - mean
    # A constant column, or what rounding makes of one, is not seen until it varies in the memory.
    spread = centred.square().mean(0).sqrt()
    scale = torch.where(spread > 1e-6 * samples.abs().amax(0), spread, torch.inf)
    standard = centred / scale
    factor = _cholesky(standard.T @ standard / len(samples), ridge + 1e-8)
    identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    return mean * unit, torch.linalg.solve_triangular(factor, identity, upper=False).T / (scale * unit).unsqueeze(1)


def _scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of features ``(n, p)``, ``(p,)`` each."""
    mean = features.mean(0)
    return mean, (features.square().mean(0) - mean.square() + 1e-4).clamp(min=1e-4).sqrt()


def _moment(f: Tensor, g: Tensor, scale_f: tuple[Tensor, Tensor], scale_g: tuple[Tensor, Tensor]) -> Tensor:
    """Second moments ``(p, q)`` of standardised features, from those of the features: they need not be written once more."""
    moment = f.T @ g / len(f) - torch.outer(scale_f[0], scale_g[0])
    return moment / torch.outer(scale_f[1], scale_g[1])


def _cholesky(matrix: Tensor, ridge: float) -> Tensor:
    return torch.linalg.cholesky(matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
