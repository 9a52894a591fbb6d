"""What key states are looked for in: the demonstrations of a task, or trajectories of a plain file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from infoatlas_rl.keystates.datasets import Dataset
from infoatlas_rl.keystates.files import load_trajectories
from infoatlas_rl.maniskill.demos import DemonstrationSet, trajectory_of
from infoatlas_rl.maniskill.events import ground_truth


@dataclass(frozen=True)
class Source:
    """N trajectories and what is known about them."""

    name: str
    states: list[NDArray]
    """As recorded, with velocities where there are any."""
    trajectories: list[NDArray]
    """What discovery sees."""
    labels: list[str]
    identity: list[dict[str, Any]]
    """What names each of them in files: episode and seed, or name."""
    about: dict[str, Any]
    demos: DemonstrationSet | None = None
    events: list[dict[str, int | None]] | None = None
    """Ground truth, which is compared with and nothing else."""

    def __len__(self) -> int:
        return len(self.trajectories)

    @classmethod
    def of_file(cls, path: Path | str) -> Source:
        """Any trajectories, from an ``.npz``."""
        names, arrays = load_trajectories(path)
        identity = [{"episode": index, "name": name} for index, name in enumerate(names)]
        return cls(Path(path).stem, arrays, arrays, names, identity, {"path": str(path), "count": len(arrays)})

    @classmethod
    def of_dataset(cls, found: Dataset) -> Source:
        """Trajectories of robomimic, LeRobot or diffusion policy."""
        identity = [{"episode": index, "name": name} for index, name in enumerate(found.names)]
        about = {"path": str(found.path), "format": found.format, "columns": found.columns, "count": len(found.names)}
        return cls(found.path.stem, found.trajectories, found.trajectories, found.names, identity, about)

    @classmethod
    def of_demonstrations(cls, demos: DemonstrationSet) -> Source:
        task = demos.task
        events = [ground_truth(demo, task) for demo in demos]
        return cls(
            name=task.name,
            states=[demo.states for demo in demos],
            trajectories=[trajectory_of(demo, task) for demo in demos],
            labels=[f"demonstration {demo.episode_id} (seed {demo.seed})" for demo in demos],
            identity=[{"episode": demo.episode_id, "seed": demo.seed} for demo in demos],
            about={
                "path": str(demos.path),
                "env_id": task.env_id,
                "source": demos.source,
                "control_mode": demos.control_mode,
                "count": len(demos),
            },
            demos=demos,
            events=events if any(events) else None,
        )
