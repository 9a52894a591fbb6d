"""Problems of the suite ``loss``: the encoder that is trained with an objective, and what is measured of its code.

- *views*: two augmentations of a picture through one encoder; linear probe and 5 nearest neighbours.
- *labels*: an objective of the code and the label; the same two measures.
- *robot*: an objective of a code of the state and a code of the next key state; what a linear map of the former tells of where
  gripper and object will be at the key state, and a network of the command.
- *removal*: a code that is to tell the label and, with the decoder, the input, but nothing of a nuisance.
- *halves*: a code in two halves, one of which is to tell the label, the other everything else.
- *value*: how far what the objective returns is off the truth, while an encoder whose mutual information is known is trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.tasks.suites.loss_data import Draw, augmented, mixture, pictures, robot, survey, turned_digits

BATCH = 256
Objective = Callable[[Tensor, Tensor], Tensor]


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


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
    name: str = "digits"
    steps: int = 400
    learning_rate: float = 3e-3

    @property
    def kind(self) -> str:
        return "labels" if self.labelled else "views"

    def run(self, objective: Objective, setting: float, seed: int, steps: int) -> dict[str, float]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier

        torch.manual_seed(seed)
        data = pictures(self.name, seed)
        encoder = mlp(data.x.shape[1], 128, 128, self.width)
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
        if self.name == "survey":
            return survey(seed)
        if self.name == "rotation":
            return turned_digits(seed)
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


@dataclass(frozen=True)
class Halves:
    """Minimise I(style; content): digits turned by any angle, a code of two halves of 8; content is to tell the label, both
    together the picture."""

    steps: int = 800
    kind: str = "halves"

    def run(self, objective: Objective | None, setting: float, seed: int, steps: int) -> dict[str, float]:
        torch.manual_seed(seed)
        train, probe, test = turned_digits(seed)
        encoder, head, decoder = mlp(64, 128, 128, 16), mlp(8, 64, 10), mlp(16, 128, 64)
        optimizer = torch.optim.Adam([p for net in (encoder, head, decoder) for p in net.parameters()], 1e-3)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(0.7 * steps), int(0.9 * steps)], 0.3)
        variance = train.x.var(0).mean()
        for _ in range(steps):
            rows = torch.randint(0, len(train.x), (BATCH,))
            z = encoder(train.x[rows])
            loss = F.cross_entropy(head(z[:, :8]), train.labels[rows]) + F.mse_loss(decoder(z), train.x[rows]) / variance
            if objective is not None:
                loss = loss + setting * objective(z[:, 8:], z[:, :8])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            z, test_z = encoder(probe.x), encoder(test.x)
            accuracy = (head(test_z[:, :8]).argmax(1) == test.labels).float().mean()
            error = F.mse_loss(decoder(test_z), test.x) / variance
        told = probe_accuracy(z[:, 8:], probe.labels, test_z[:, 8:], test.labels)
        return {"accuracy": float(accuracy), "leak": told, "error": float(error)}


@dataclass(frozen=True)
class KeyStates:
    """Maximise I(code of the state; code of the next key state) of StackCube demonstrations."""

    width: int = 16
    steps: int = 600
    kind: str = "robot"

    def run(self, objective: Objective, setting: float, seed: int, steps: int) -> dict[str, float]:
        torch.manual_seed(seed)
        train, test = robot(seed)
        mean, scale = train.states.mean(0), train.states.std(0).clamp(min=0.01)
        encoder, other = mlp(100, 128, 128, self.width), mlp(100, 128, 128, self.width)
        optimizer = torch.optim.Adam([*encoder.parameters(), *other.parameters()], 1e-3, weight_decay=1e-5)
        for _ in range(steps):
            rows = torch.randint(0, len(train.states), (BATCH,))
            loss = objective(*(net((x[rows] - mean) / scale) for net, x in ((encoder, train.states), (other, train.key_states))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            z, test_z = (encoder((part.states - mean) / scale) for part in (train, test))
        places = [*range(100)[STATE_INDEX["tcp_position"]], *range(100)[STATE_INDEX["object_position"]]]
        places += range(100)[STATE_INDEX["gripper_width"]]
        there, test_there = (_standardised(part.key_states[:, places], train.key_states[:, places]) for part in (train, test))
        commands, test_commands = (_standardised(part.commands, train.commands) for part in (train, test))
        return {
            "next": _linear_r2(z, there, test_z, test_there),
            "command": probe_r2(z, commands, test_z, test_commands),
        }


@dataclass(frozen=True)
class Value:
    """The value that is returned while z is trained to have more information about y, every 16 steps from the eighth on:
    mean absolute error over the mean of the truth.

    ``gaussian``: z and y are noisy linear maps of x. ``curved``: both go through fixed invertible maps. ``mixed``: y is one of
    four classes, z a noisy linear map of a noisy class mean.
    """

    name: str
    batch: int
    width: int = 6
    steps: int = 320
    kind: str = "value"

    def run(self, objective: Objective, setting: float, seed: int, steps: int) -> dict[str, float]:
        torch.manual_seed(1000 + seed)
        d, inputs = self.width, 2 * self.width
        weight = nn.Parameter(0.15 * torch.randn(d, inputs))
        linear, means = torch.randn(d, inputs) / math.sqrt(inputs), 1.5 * torch.randn(4, inputs)
        bend = torch.randn(2, d, d) / math.sqrt(d)
        optimizer = torch.optim.Adam([weight], 3e-3)
        errors, truths = [], []
        for step in range(steps):
            labels = torch.randint(0, 4, (self.batch,))
            x = torch.randn(self.batch, inputs) + (means[labels] if self.name == "mixed" else 0)
            z, y = x @ weight.T + 0.5 * torch.randn(self.batch, d), x @ linear.T + 0.5 * torch.randn(self.batch, d)
            if self.name == "curved":
                z, y = (t + 0.5 * torch.sin(t) for t in (z, y))
                z, y = (torch.cat([t[:, :1], t[:, 1:] + torch.sin(t[:, :1] @ b[:1, 1:])], 1) for t, b in zip((z, y), bend))
            loss = objective(z, F.one_hot(labels, 4).float() if self.name == "mixed" else y)
            if step % 16 == 8:
                truth = self._truth(weight.detach(), linear, means)
                errors.append(abs(-float(loss.detach()) - truth))
                truths.append(truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {"error": sum(errors) / sum(truths), "first": truths[0], "last": truths[-1]}

    def _truth(self, weight: Tensor, linear: Tensor, means: Tensor) -> float:
        cov_z = weight @ weight.T + 0.25 * torch.eye(len(weight))
        if self.name != "mixed":
            cov_y, cross = linear @ linear.T + 0.25 * torch.eye(len(linear)), weight @ linear.T
            joint = torch.cat([torch.cat([cov_z, cross], 1), torch.cat([cross.T, cov_y], 1)])
            return float(torch.logdet(cov_z) + torch.logdet(cov_y) - torch.logdet(joint)) / 2
        classes = torch.distributions.MultivariateNormal(means @ weight.T, cov_z, validate_args=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            z = classes.sample((8000,))  # (8000, 4, d)
        log_density = classes.log_prob(z.unsqueeze(2))  # of the z of every class under every class
        own = log_density.diagonal(dim1=1, dim2=2)
        return float((own - (log_density.logsumexp(-1) - math.log(4))).mean())


def _standardised(columns: Tensor, reference: Tensor) -> Tensor:
    return (columns - reference.mean(0)) / (reference.std(0) + 1e-3)


def _linear_r2(z: Tensor, s: Tensor, test_z: Tensor, test_s: Tensor) -> float:
    """R2 of a ridge regression, mean over columns, each at least 0."""
    z, test_z = (torch.cat([_standardised(t, z), torch.ones(len(t), 1)], 1) for t in (z, test_z))
    found = torch.linalg.solve(z.T @ z + 1e-2 * torch.eye(z.shape[1]), z.T @ s)
    left = (test_z @ found - test_s).square().mean(0) / test_s.var(0, correction=0).clamp(min=1e-6)
    return float((1 - left).clamp(min=0).mean())


def probe_accuracy(z: Tensor, labels: Tensor, test_z: Tensor, test_labels: Tensor, epochs: int = 20) -> float:
    """Accuracy of a fresh network of 128-128 for the label, above chance: 0 for guessing, 1 for all."""
    z, test_z = _standardised(z, z), _standardised(test_z, z)
    classes = int(labels.max()) + 1
    network = mlp(z.shape[1], 128, 128, classes)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3, weight_decay=1e-5)
    for _ in range(epochs):
        for rows in torch.randperm(len(z)).split(256):
            optimizer.zero_grad()
            F.cross_entropy(network(z[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = float((network(test_z).argmax(1) == test_labels).float().mean())
    return max(0.0, (accuracy - 1 / classes) / (1 - 1 / classes))


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


def step_time(objective: Objective | None, views: bool, steps: int = 64, warm_up: int = 32) -> float:
    """Mean CPU milliseconds of a training step at batch 256 with a code of 16: encoder of 64-128-128-16 (twice for views),
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
    return 1000 * sum(spent[warm_up:]) / steps


PROBLEMS: dict[str, Any] = {
    "views-16": Views(16),
    "views-6": Views(6),
    "mnist": Views(16, name="mnist"),
    "labels": Views(16, labelled=True),
    "robot": KeyStates(),
    "tanh-1": Removal("tanh-1"),
    "tanh-2": Removal("tanh-2", decoder_knows=False),
    "fold": Removal("fold"),
    "rotation": Removal("rotation", decoder_knows=False),
    "survey": Removal("survey"),
    "halves": Halves(),
    **{f"{name}-{batch}": Value(name, batch) for name in ("gaussian", "curved", "mixed") for batch in (128, 256)},
}
