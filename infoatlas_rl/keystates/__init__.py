"""Key-state discovery by maximal mutual information (MaxMI; Zhou & Yang, 2024), for arrays of trajectories.

No simulator and no robot in here: trajectories are arrays ``(t, d)``.
"""

from infoatlas_rl.keystates.finder import KeyStateConfig, KeyStateFinder, KeyStates
from infoatlas_rl.keystates.localiser import Localiser
from infoatlas_rl.keystates.metrics import KeyStateScore, evenly_spaced, score_key_states
from infoatlas_rl.keystates.trajectories import TrajectorySet

__all__ = [
    "KeyStateConfig",
    "KeyStateFinder",
    "KeyStateScore",
    "KeyStates",
    "Localiser",
    "TrajectorySet",
    "evenly_spaced",
    "score_key_states",
]
