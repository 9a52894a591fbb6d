"""Key-state discovery by maximal mutual information, for arrays of trajectories.

No simulator and no robot in here: trajectories are arrays ``(t, d)``.
"""

from infoatlas_rl.keystates.alignment import Alignment
from infoatlas_rl.keystates.finder import KeyStateFinder, KeyStates, NothingFoundError
from infoatlas_rl.keystates.maxmi import MaxMIFinder, make_finder
from infoatlas_rl.keystates.metrics import KeyStateScore, score_key_states
from infoatlas_rl.keystates.rules import evenly_spaced, velocity_minima
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.keystates.trajectories import TrajectorySet

__all__ = [
    "Alignment",
    "KeyStateConfig",
    "KeyStateFinder",
    "KeyStateScore",
    "KeyStates",
    "MaxMIFinder",
    "NothingFoundError",
    "TrajectorySet",
    "evenly_spaced",
    "make_finder",
    "score_key_states",
    "velocity_minima",
]
