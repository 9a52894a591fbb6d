"""Problems of the suite ``loss``: data, the encoder that is trained with an objective, and what is measured of its code.

- *views*: two augmentations of scikit-learn's digits through one encoder; linear probe and 5 nearest neighbours.
- *labels*: an objective of the code and the label; the same two measures.
- *removal*: a code that is to tell the label and, with the decoder, the input, but nothing of a nuisance. ``tanh-1``, ``tanh-2``
  and ``fold`` are mixtures whose fixed parts are drawn here from seeds of their own, ``rotation`` is digits turned by an angle.

The last ``HELD_OUT`` digits are in no measured split: the tuning seed is tested on them. Mixtures have new draws for every seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TUNING_SEED = 100
HELD_OUT, TRAINED_ON = 297, 1100
BATCH = 256
MIXTURE_SEEDS = {"tanh-1": 104, "tanh-2": 205, "fold": 302}
Objective = Callable[[Tensor, Tensor], Tensor]


def require_scikit_learn() -> None:
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise RuntimeError("the benchmark of the loss needs scikit-learn: pip install scikit-learn") from error


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Split(NamedTuple):
    """Digits: pictures ``(n, 64)`` in [0, 1] and labels ``(n,)`` to train on and to test on."""

    x: Tensor
    labels: Tensor
    test_x: Tensor
    test_labels: Tensor


def digits(seed: int) -> Split:
    """The split of a seed."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, labels = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    fixed = torch.randperm(len(x), generator=torch.Generator().manual_seed(2026))
    measured, held_out = fixed[:-HELD_OUT], fixed[-HELD_OUT:]
    order = measured[torch.randperm(len(measured), generator=torch.Generator().manual_seed(seed))]
    train, test = order[:TRAINED_ON], held_out if seed == TUNING_SEED else order[TRAINED_ON:]
    return Split(x[train], labels[train], x[test], labels[test])


def turn(x: Tensor, angle: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Tensor:
    """Pictures ``(n, 64)`` turned by angles ``(n,)`` in radians, scaled, and shifted by ``(n, 2)`` in half widths."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    shift = torch.zeros(len(x), 2) if isinstance(shift, float) else shift
    grid = F.affine_grid(torch.cat([linear, shift[:, :, None]], 2), [len(x), 1, 8, 8], align_corners=False)
    return F.grid_sample(x.view(-1, 1, 8, 8), grid, align_corners=False).flatten(1)


def augmented(x: Tensor) -> Tensor:
    """A view: 15 degrees, 12 % of size, an eighth of the half width, 20 % of brightness and noise of 0.1, standard deviations."""
    n = len(x)
    x = turn(x, 0.26 * torch.randn(n), 1 + 0.12 * torch.randn(n), 0.125 * torch.randn(n, 2))
    return x * (1 + 0.2 * torch.randn(n, 1)) + 0.1 * torch.randn(n, 64)


class Problem(Protocol):
    kind: str
    steps: int

    def run(self, objective: Objective | None, setting: float, seed: int, steps: int) -> dict[str, float]:
        """Train and measure: figures by name."""


@dataclass(frozen=True)
class Views:
    """Maximise I(z1; z2), or, with ``labelled``, I(z; label)."""

    width: int
    labelled: bool = False
    steps: int = 400
    learning_rate: float = 3e-3

    @property
    def kind(self) -> str:
        return "labels" if self.labelled else "views"

    def run(self, objective: Objective, setting: float, seed: int, steps: int) -> dict[str, float]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier

        torch.manual_seed(seed)
        data = digits(seed)
        encoder = mlp(64, 128, 128, self.width)
        own = list(objective.parameters()) if isinstance(objective, nn.Module) else []
        optimizer = torch.optim.Adam([*encoder.parameters(), *own], self.learning_rate, weight_decay=1e-5)
        for _ in range(steps):
            rows = torch.randint(0, len(data.x), (BATCH,))
            z = encoder(augmented(data.x[rows]))
            other = data.labels[rows] if self.labelled else encoder(augmented(data.x[rows]))
            optimizer.zero_grad()
            objective(z, other).backward()
            optimizer.step()
        with torch.no_grad():
            z, test_z = encoder(data.x), encoder(data.test_x)
        mean, scale = z.mean(0), z.std(0) + 1e-6
        linear = LogisticRegression(max_iter=500).fit(((z - mean) / scale).numpy(), data.labels.numpy())
        neighbours = KNeighborsClassifier(5).fit(z.numpy(), data.labels.numpy())
        truth = data.test_labels.numpy()
        return {
            "linear": float(linear.score(((test_z - mean) / scale).numpy(), truth)),
            "neighbours": float(neighbours.score(test_z.numpy(), truth)),
        }


class Draw(NamedTuple):
    """x ``(n, dx)``, labels ``(n,)`` and nuisance ``(n, ds)``."""

    x: Tensor
    labels: Tensor
    nuisance: Tensor


def mixture(name: str, n: int, seed: int) -> Draw:
    """``tanh-1`` and ``tanh-2``: a noisy code of 6 classes, one or two Gaussian nuisances and two free factors through a layer of
    tanh. ``fold``: the code of 8 classes is scaled by a uniform nuisance, whose sine and cosine go through two leaky layers."""
    fixed, drawn = torch.Generator().manual_seed(MIXTURE_SEEDS[name]), torch.Generator().manual_seed(5000 + seed)

    def constant(*shape: int) -> Tensor:
        return torch.randn(shape, generator=fixed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn)

    if name == "fold":
        means, labels = constant(8, 5), torch.randint(0, 8, (n,), generator=drawn)
        s = 2 * torch.rand(n, 1, generator=drawn) - 1
        code = (means[labels] + 0.5 * noise(n, 5)) * (1 + 0.6 * s)
        factors = torch.cat([code, torch.sin(3 * s), torch.cos(3 * s), 0.5 * s, noise(n, 2)], 1)
        h = F.leaky_relu(factors @ constant(10, 32) / 3 + 0.3 * constant(32), 0.2)
        h = F.leaky_relu(h @ constant(32, 32) / 5 + 0.2 * constant(32), 0.2)
        return Draw(h @ constant(32, 30) / 4 + 0.05 * noise(n, 30), labels, s)
    count = int(name[-1])
    means, labels, s = constant(6, 4), torch.randint(0, 6, (n,), generator=drawn), noise(n, count)
    factors = torch.cat([means[labels] + 0.5 * noise(n, 4), s, noise(n, 2)], 1)
    h = torch.tanh(factors @ constant(6 + count, 32) * 0.7 + 0.5 * constant(32))
    return Draw(h @ constant(32, 24) / 4 + 0.1 * noise(n, 24), labels, s)


def rotated(x: Tensor, labels: Tensor, n: int, seed: int) -> Draw:
    """n digits of these, turned by any angle; the nuisance is its sine and cosine."""
    drawn = torch.Generator().manual_seed(7000 + seed)
    rows, angle = torch.randint(0, len(x), (n,), generator=drawn), 2 * math.pi * torch.rand(n, generator=drawn)
    return Draw(turn(x[rows], angle), labels[rows], torch.stack([angle.sin(), angle.cos()], 1))


@dataclass(frozen=True)
class Removal:
    """Minimise I(z; nuisance) under a task: label, and reconstruction of x by a decoder, which is given the nuisance or not."""

    name: str
    decoder_knows: bool = True
    steps: int = 800
    learning_rate: float = 1e-3
    reconstruction: float = 0.5
    kind: str = "removal"

    def draws(self, seed: int) -> tuple[Draw, Draw, Draw]:
        """To train on (6000; 3000 of tanh), of the encoder's unseen samples to fit the probe on (6000), and to test on (4000)."""
        if self.name == "rotation":
            data = digits(seed)
            train = rotated(data.x, data.labels, 6000, 3 * seed)
            # The probe is fitted on other angles of the digits that the encoder knows, and tested on unseen digits.
            rest = rotated(data.x, data.labels, 6000, 3 * seed + 1), rotated(data.test_x, data.test_labels, 4000, 3 * seed + 2)
            return train, *rest
        sizes = (6000 if self.name == "fold" else 3000), 6000, 4000
        train, probe, test = (mixture(self.name, n, 3 * seed + part) for part, n in enumerate(sizes))
        return train, probe, test

    def run(self, objective: Objective | None, setting: float, seed: int, steps: int) -> dict[str, float]:
        """``setting`` is the weight of the objective."""
        torch.manual_seed(seed)
        train, probe, test = self.draws(seed)
        (mean_x, scale_x), (mean_s, scale_s) = ((t.mean(0), t.std(0) + 1e-3) for t in (train.x, train.nuisance))
        train, probe, test = (
            Draw((d.x - mean_x) / scale_x, d.labels, (d.nuisance - mean_s) / scale_s) for d in (train, probe, test)
        )
        columns = train.nuisance.shape[1]
        encoder = mlp(train.x.shape[1], 96, 96, 8)
        head = mlp(8, 64, int(train.labels.max()) + 1)
        decoder = mlp(8 + self.decoder_knows * columns, 64, train.x.shape[1])
        optimizer = torch.optim.Adam([p for net in (encoder, head, decoder) for p in net.parameters()], self.learning_rate)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(0.7 * steps), int(0.9 * steps)], 0.3)
        for _ in range(steps):
            rows = torch.randint(0, len(train.x), (BATCH,))
            x, s = train.x[rows], train.nuisance[rows]
            z = encoder(x)
            decoded = decoder(torch.cat([z, s], 1) if self.decoder_knows else z)
            loss = F.cross_entropy(head(z), train.labels[rows]) + self.reconstruction * F.mse_loss(decoded, x)
            if objective is not None:
                loss = loss + setting * objective(z, s)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            z, test_z = encoder(probe.x), encoder(test.x)
            accuracy = (head(test_z).argmax(1) == test.labels).float().mean()
        return {"accuracy": float(accuracy), "r2": probe_r2(z, probe.nuisance, test_z, test.nuisance)}


def probe_r2(z: Tensor, s: Tensor, test_z: Tensor, test_s: Tensor, epochs: int = 40) -> float:
    """R2 of a fresh network of 128-128 for the nuisance, mean over columns, each at least 0; stopped by a fifth of the data."""
    mean, scale = z.mean(0), z.std(0) + 1e-6
    z, test_z = (((t - mean) / scale).clamp(-10, 10) for t in (z, test_z))
    known = int(0.8 * len(z))
    network = mlp(z.shape[1], 128, 128, s.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), 2e-3, weight_decay=1e-5)
    best, found, since = math.inf, 0.0, 0
    for _ in range(epochs):
        for rows in torch.randperm(known).split(256):
            optimizer.zero_grad()
            F.mse_loss(network(z[rows]), s[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            error = float(F.mse_loss(network(z[known:]), s[known:]))
            since = 0 if error < best - 1e-4 else since + 1
            if since == 0:
                left = (network(test_z) - test_s).square().mean(0) / test_s.var(0, correction=0)
                best, found = error, float((1 - left).clamp(min=0).mean())
        if since >= 8:
            break
    return found


def step_time(objective: Objective | None, views: bool, steps: int = 40, warm_up: int = 20) -> float:
    """Median CPU milliseconds of a training step at batch 256 with a code of 16: encoder of 64-128-128-16 (twice for views),
    objective, backward, Adam. A penalty is that of a nuisance of two columns."""
    torch.manual_seed(0)
    encoder = mlp(64, 128, 128, 16)
    own = list(objective.parameters()) if isinstance(objective, nn.Module) else []
    optimizer = torch.optim.Adam([*encoder.parameters(), *own], 1e-3)
    spent = []
    for _ in range(warm_up + steps):
        x = torch.randn(BATCH, 64)
        started = time.process_time()
        z = encoder(x)
        other = encoder(x + 0.3 * torch.randn(BATCH, 64)) if views else x[:, :2]
        optimizer.zero_grad()
        (z.square().mean() if objective is None else objective(z, other)).backward()
        optimizer.step()
        spent.append(time.process_time() - started)
    return 1000 * float(torch.tensor(spent[warm_up:]).median())


PROBLEMS: dict[str, Any] = {
    "views-16": Views(16),
    "views-6": Views(6),
    "labels": Views(16, labelled=True),
    "tanh-1": Removal("tanh-1"),
    "tanh-2": Removal("tanh-2", decoder_knows=False),
    "fold": Removal("fold"),
    "rotation": Removal("rotation", decoder_knows=False),
}
