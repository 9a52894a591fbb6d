"""Where a few demonstrations are cut into stretches: at key states, or, to compare, by rules and at ground-truth events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.keystates import KeyStateConfig, TrajectorySet, evenly_spaced, make_finder, velocity_minima
from infoatlas_rl.keystates.finder import Estimator
from infoatlas_rl.maniskill.demos import DemonstrationSet, trajectory_of
from infoatlas_rl.maniskill.events import ground_truth

CUTS = ("keystates", "velocity", "even", "events", "none")


def find_cuts(name: str, demos: DemonstrationSet, estimator: Estimator | None, config: KeyStateConfig) -> NDArray[np.int64]:
    """Steps ``(n, k)`` at which n demonstrations are cut, in order of time; the last one is the end of each.

    Args:
        name: one of :data:`CUTS`.
        estimator: of the information that key states are placed by.
        config: of their discovery; its ``concepts`` are the number of stretches of all but ``events`` and ``none``, or, with
            ``velocity``, as many as there are in all demonstrations, if those are fewer.

    Raises:
        ValueError: events that a demonstration lacks.
    """
    task, lengths = demos.task, [len(demo) for demo in demos]
    trajectories = [trajectory_of(demo, task) for demo in demos]
    ends = np.array(lengths)[:, None] - 1
    if config.concepts is None and name in ("velocity", "even"):
        raise ValueError(f"cuts={name}: say into how many stretches, with discovery.concepts=K")
    match name:
        case "keystates":
            finder = make_finder(TrajectorySet(trajectories, config.delta), estimator, config)
            for _ in finder.fit():
                pass
            return finder.key_states().steps
        case "velocity":
            found = velocity_minima(trajectories, config.concepts)
            # As many in all of them; the least prominent of a longer list is not known here, the first are dropped.
            fewest = min(len(steps) for steps in found)
            return np.stack([steps[-fewest:] for steps in found])
        case "even":
            return evenly_spaced(lengths, config.concepts)
        case "events":
            events = [list(ground_truth(demo, task).values()) for demo in demos]
            if not events[0] or any(None in row or len(row) != len(events[0]) for row in events):
                raise ValueError(f"cuts=events: not all demonstrations of {task.name} pass the same events; choose other cuts")
            return np.concatenate([np.maximum.accumulate(np.array(events), axis=1), ends], axis=1)
    return ends
