"""Pictures of key states: a timeline per demonstration, and a contact sheet of rendered frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.envs import make_env
from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task

Array = NDArray[np.float64]

_CONCEPT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def timeline(
    path: Path,
    task: Task,
    demonstrations: Sequence[Demonstration],
    key_steps: NDArray[np.int64],
    events: Sequence[Mapping[str, int | None]],
    profile: tuple[Array, Array],
    mean_profile: Array,
) -> None:
    """Gripper width, object height and pointwise MI over time, with key states and ground-truth events.

    Args:
        key_steps: ``(N, K)``.
        profile: phases ``(p,)`` and pointwise MI ``(N, p)`` of the same demonstrations.
        mean_profile: ``(p,)``, MI over all demonstrations.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    phases, scores = profile
    figure, axes = plt.subplots(len(demonstrations), 1, figsize=(11, 1.9 * len(demonstrations) + 0.9), squeeze=False)
    for row, (axis, demo) in enumerate(zip(axes[:, 0], demonstrations, strict=True)):
        t = np.arange(len(demo))
        axis.plot(t, 100 * demo.states[:, STATE_INDEX["gripper_width"]][:, 0], color="0.55", lw=1.3, label="gripper width (cm)")
        height = 100 * demo.states[:, STATE_INDEX["object_position"]][:, 2]
        axis.plot(t, height, color="0.15", lw=1.3, label="object height (cm)")
        axis.set_ylabel("cm")
        axis.set_xlim(0, len(demo) - 1)
        top = max(10.0, float(height.max()) * 1.05)
        axis.set_ylim(0, top * 1.15)
        mi_axis = axis.twinx()
        mi_axis.plot(phases * (len(demo) - 1), scores[row], color="#8856a7", lw=0.9, alpha=0.5, label="pointwise MI (nats)")
        mi_axis.plot(phases * (len(demo) - 1), mean_profile, color="#8856a7", lw=1.6, label="MI over all (nats)")
        mi_axis.set_ylabel("nats", color="#8856a7")
        for name, step in events[row].items():
            if step is not None:
                axis.axvline(step, color="0.3", ls=":", lw=1.2)
                axis.text(step, top * 1.13, f" {name}", fontsize=7, va="top", ha="left", color="0.3")
        for concept, step in enumerate(key_steps[row]):
            colour = _CONCEPT_COLOURS[concept % len(_CONCEPT_COLOURS)]
            axis.axvline(step, color=colour, lw=2.2, alpha=0.85, label=f"key state {concept + 1}" if row == 0 else None)
        axis.set_title(f"demonstration {demo.episode_id} (seed {demo.seed})", fontsize=8, loc="left", pad=2)
        if row == 0:
            lines, labels = (
                a + b for a, b in zip(axis.get_legend_handles_labels(), mi_axis.get_legend_handles_labels(), strict=True)
            )
            figure.legend(lines, labels, loc="upper center", ncol=min(len(lines), 8), fontsize=7, frameon=False)
    axes[-1, 0].set_xlabel("step")
    figure.suptitle(f"{task.name}: key states (solid) and ground-truth events (dotted)", fontsize=10, y=0.965)
    figure.tight_layout(rect=(0, 0, 1, 0.955))
    _save(figure, path)


def contact_sheet(path: Path, task: Task, demonstrations: Sequence[Demonstration], key_steps: NDArray[np.int64]) -> None:
    """Rendered frames of the key states, one row per demonstration. Needs a rendering device.

    Raises:
        RuntimeError: there is none.
    """
    import matplotlib

    env = make_env(task, render=True)
    frames = [[_frame(env, demo, int(step)) for step in steps] for demo, steps in zip(demonstrations, key_steps, strict=True)]
    env.close()
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, columns = len(frames), len(frames[0])
    figure, axes = plt.subplots(rows, columns, figsize=(2.4 * columns, 2.5 * rows), squeeze=False)
    for row, demo in enumerate(demonstrations):
        for column in range(columns):
            axis = axes[row, column]
            axis.imshow(frames[row][column])
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"step {key_steps[row, column]} of {len(demo) - 1}", fontsize=7, pad=2)
        axes[row, 0].set_ylabel(f"demonstration {demo.episode_id}", fontsize=7)
    figure.tight_layout()
    _save(figure, path)


def _frame(env: Any, demo: Demonstration, step: int) -> NDArray[np.uint8]:
    env.reset(seed=demo.seed)
    state = {kind: {name: values[step : step + 1] for name, values in group.items()} for kind, group in demo.env_states.items()}
    env.unwrapped.set_state_dict(_tensors(state))
    return env.render()[0].cpu().numpy()


def _tensors(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {key: _tensors(value) if isinstance(value, dict) else torch.from_numpy(value) for key, value in state.items()}


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
