"""Settings of key-state discovery."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infoatlas_rl.checks import check_kinds

METHODS = ("stages", "maxmi")


@dataclass(frozen=True)
class KeyStateConfig:
    """Discovery; the MI estimator is given to the finder, :class:`KeyStateFinder`, or that of ``method``, which
    :func:`~infoatlas_rl.keystates.make_finder` makes."""

    method: str = "stages"
    """Or "maxmi", see :mod:`infoatlas_rl.keystates.maxmi`."""
    concepts: int | None = None
    """K, the last of which is the final state. None: all places that tell about ``worth`` nats of the motion around them."""
    worth: float = 0.06
    """Information, in nats, for which a key state is placed where ``concepts`` is None; up to 1.5 times more or less, where
    that tells peaks apart better."""
    delta: int = 2
    """Ticks between the two states of a motion, and the look-back of the MI profile."""
    window: int = 3
    """Ticks before and after a place whose motions are told apart, up to a quarter of all; none is found nearer to the ends."""
    epochs: int = 5
    """Rounds of measurements that are averaged; with "maxmi" rounds of 20 gradient steps. Of the other fields that method reads
    ``delta``, ``mi_weight`` and ``seed``."""
    samples: int = 400
    """Motions on which information is estimated."""
    noise: float = 0.8
    """Length of the noise that is added to the unit motions: turns that are much smaller count little."""
    gap: float = 0.025
    """Least distance of consecutive key states, as a share of the path."""
    mi_weight: float = 1.0
    spread_weight: float = 0.2
    """Penalty for the spread of a key state's time over the demonstrations (standard deviation, in shares)."""
    rest_weight: float = 0.03
    """Reward, in nats, for places where the demonstrations rest, see :mod:`infoatlas_rl.keystates.clock`: it decides between
    turns that tell the same."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.method not in METHODS:
            raise ValueError(f"method has to be {' or '.join(METHODS)}, not {self.method!r}")
        for name, least in (("concepts", 1), ("delta", 1), ("window", 1), ("epochs", 1), ("samples", 50), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} has to be at least {least}, not {value}")
        for name in ("worth", "noise", "gap", "mi_weight", "spread_weight", "rest_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} has to be 0 or more, not {getattr(self, name)!r}")
        if self.gap >= 1:
            raise ValueError(f"gap is a share of the path, below 1, not {self.gap}")
        if self.gap * (self.concepts or 1) >= 1:
            raise ValueError(f"{self.concepts} concepts with a gap of {self.gap} do not fit into one trajectory")
