"""Settings of key-state discovery."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class KeyStateConfig:
    """Discovery; the MI estimator is given to :class:`KeyStateFinder`."""

    concepts: int = 4
    """K, the last of which is the final state."""
    delta: int = 2
    """Ticks between the two states of a motion, and the look-back of the MI profile."""
    epochs: int = 10
    """The first half searches everywhere between the neighbours (longer if they still move), the rest refines."""
    samples: int = 400
    """Motions on which information is estimated."""
    candidates: int = 12
    """Places for a key state that are compared in one step."""
    noise: float = 0.8
    """Length of the noise that is added to the unit motions: turns that are much smaller count little."""
    gap: float = 0.05
    """Least distance of consecutive key states, as a share of the trajectory, both of its time and of its path."""
    mi_weight: float = 1.0
    order_weight: float = 0.1
    """Penalty for an uneven division, times the squared distance from the middle of the neighbours (in shares)."""
    spread_weight: float = 0.2
    """Penalty for the spread of a key state's time over the demonstrations (standard deviation, in shares)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("concepts", 1), ("delta", 1), ("epochs", 1), ("candidates", 1), ("samples", 50), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral):
                raise ValueError(f"{name} has to be an integer, not {value!r}")
            if value < least:
                raise ValueError(f"{name} has to be at least {least}, not {value}")
        for name in ("noise", "gap", "mi_weight", "order_weight", "spread_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} has to be 0 or more, not {getattr(self, name)!r}")
        if self.gap * self.concepts >= 1:
            raise ValueError(f"{self.concepts} concepts with a gap of {self.gap} do not fit into one trajectory")
