"""Learners of stable-baselines3 in files that hold no pickles.

SB3's own files hold pickled objects, and reading one runs whatever code somebody has put there. Here a learner is a file of
tensors and numbers, which ``torch.load(weights_only=True)`` reads, and a replay buffer is a safetensors file of its arrays; all
else of a learner is in the options that it is built from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import recursive_getattr

from infoatlas_rl.files import read_checkpoint, replace_file

BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""Arrays ``(rows, envs, ...)`` of a replay buffer."""
ANEW = "resume=false starts anew"


def write_learner(path: Path, model: BaseAlgorithm) -> None:
    """Networks, optimisers and counters of a learner, without its replay buffer."""
    _, variables = model._get_torch_save_params()  # tensors that belong to no network: SAC's temperature
    content = {
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "episodes": model._episode_num,
        "parameters": model.get_parameters(),
        "variables": {name: recursive_getattr(model, name).detach() for name in variables},
    }
    with replace_file(path) as temporary:
        torch.save(content, temporary)


def read_learner(path: Path, model: BaseAlgorithm) -> None:
    """Put what :func:`write_learner` wrote into a learner that was built with the same options.

    Raises:
        ValueError: the file is damaged, holds more than tensors and numbers, or is of another learner.
    """
    content = read_checkpoint(path, "parameters", map_location=model.device)
    try:
        model.set_parameters(content["parameters"], exact_match=True, device=model.device)
        for name in model._get_torch_save_params()[1]:
            recursive_getattr(model, name).data.copy_(content["variables"][name])
        model.num_timesteps, model._n_updates = int(content["steps"]), int(content["updates"])
        model._episode_num = int(content["episodes"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is of another learner than the options describe; {ANEW}") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray], **about: str) -> None:
    with replace_file(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, metadata=about)


def read_arrays(path: Path, names: Sequence[str]) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Arrays of these names that :func:`write_arrays` wrote, and what it noted about them.

    Raises:
        ValueError: there is no such file, or it is no safetensors file of these arrays.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is missing or damaged; {ANEW}") from error


def write_buffer(path: Path, buffer: ReplayBuffer) -> None:
    """The transitions of a replay buffer; an array is as long as there are any."""
    rows = buffer.buffer_size if buffer.full else buffer.pos
    write_arrays(path, {name: getattr(buffer, name)[:rows] for name in BUFFER}, position=str(buffer.pos))


def read_buffer(path: Path, buffer: ReplayBuffer) -> None:
    """Put what :func:`write_buffer` wrote into a replay buffer that was built with the same options.

    Raises:
        ValueError: the file is damaged, or its arrays do not fit into this buffer.
    """
    arrays, about = read_arrays(path, BUFFER)
    rows, size, position = len(np.atleast_1d(arrays["rewards"])), buffer.buffer_size, about.get("position", "")
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    fitting = {name: ((rows, *getattr(buffer, name).shape[1:]), getattr(buffer, name).dtype) for name in BUFFER}
    places = range(size) if rows == size else [rows]  # in a full buffer the next transition may go anywhere
    if found != fitting or rows > size or not position.isdecimal() or int(position) not in places:
        raise ValueError(f"{path} is of another replay buffer than the options describe; {ANEW}")
    for name, array in arrays.items():
        getattr(buffer, name)[:rows] = array
    buffer.full, buffer.pos = rows == size, int(position)


def read_json(path: Path) -> Any:
    """Raises a ValueError that names the file if it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path} is damaged, it holds no JSON; {ANEW}") from error


def read_evaluations(path: Path) -> dict[str, NDArray]:
    """What SB3's ``EvalCallback`` wrote: ``timesteps (m,)`` and, of n episodes each, ``results``, ``ep_lengths``, ``successes``.

    Raises:
        ValueError: the file is damaged, or holds pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("timesteps", "results", "ep_lengths", "successes")}
    except Exception as error:  # zip files, compressed data and headers of arrays can each be damaged in ways of their own
        raise ValueError(f"{path} is missing or damaged; {ANEW}") from error


# --- while it learns --------------------------------------------------------------------------------------------------


class KeepLearner(BaseCallback):
    """Write the learner whenever this is called: SB3 calls it when an evaluation was the best one so far."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_step(self) -> bool:
        write_learner(self.path, self.model)
        return True


class Checkpoints(BaseCallback):
    """Write the learner every so many calls into a folder, with the replay buffer of the last checkpoint only."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__()
        self.folder, self.every = folder, every

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            path = self.folder / f"model_{self.num_timesteps}_steps.pt"
            buffer = getattr(self.model, "replay_buffer", None)
            if buffer is not None:  # before the learner: where that is, its buffer is
                write_buffer(buffer_of(path), buffer)
            write_learner(path, self.model)
            for old in self.folder.glob("replay_buffer_*"):
                if old != buffer_of(path):
                    old.unlink()
        return True


def checkpoints(folder: Path) -> list[Path]:
    """Those of a folder, the last one last."""
    return sorted(folder.glob("model_*_steps.pt"), key=lambda path: int(path.stem.split("_")[1]))


def buffer_of(checkpoint: Path) -> Path:
    """Where the replay buffer of a checkpoint is."""
    return checkpoint.with_name(f"replay_buffer_{checkpoint.stem.split('_')[1]}_steps.safetensors")
