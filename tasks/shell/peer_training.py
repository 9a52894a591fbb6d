"""The loop that pretrains a peer, InfoNet or MIST: checkpoints, resumption, a log, and the file of weights at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from infoatlas_rl import __version__
from infoatlas_rl.files import lock_folder, read_checkpoint, replace_file, require_same_run, require_writable
from infoatlas_rl.records import describe_machine
from infoatlas_rl.tasks.shell.progress import RunLog, progress_bar

M = TypeVar("M", bound=nn.Module)


def pretrain_peer(
    cfg: DictConfig,
    name: str,
    build: Callable[[Any], M],
    train_step: Callable[[M, torch.optim.Optimizer, Any, int], dict[str, float]],
    write: Callable[[Path, M, dict[str, Any]], None],
) -> Path:
    """Train the network that ``build`` makes of ``cfg.model``, or go on; returns the weights file.

    Raises:
        ValueError: another run is at work in ``run``, its checkpoint is damaged or of another configuration, or ``out`` cannot be
            written.
    """
    folder, out = Path(cfg.run), Path(cfg.out)
    require_writable(out)
    with lock_folder(folder):
        training = OmegaConf.to_object(cfg.training)
        torch.manual_seed(training.seed)
        model = build(OmegaConf.to_object(cfg.model))
        seconds = _train(cfg, folder, name, model, training, train_step)
        hours = round(seconds / 3600, 3)
        machine = describe_machine(cfg.threads)
        write(out, model, {"version": __version__, "training": asdict(training), "hours": hours, "machine": machine})
    print(f"{out}: {training.steps} steps in {hours} h")
    return out


def _train(
    cfg: DictConfig, folder: Path, name: str, model: M, training: Any, train_step: Callable[..., dict[str, float]]
) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate)
    run = asdict(model.config) | asdict(training)
    checkpoint, start, seconds = folder / "checkpoint.pt", 0, 0.0
    if cfg.resume and checkpoint.is_file():
        content = read_checkpoint(checkpoint, "training")
        require_same_run(checkpoint, content["training"], run)
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        start, seconds = content["step"], content["seconds"]
        print(f"resumed from {checkpoint} at step {start}")
    log = RunLog(folder, keep=start > 0)
    began = time.monotonic() - seconds
    with progress_bar(f"pretraining {name}", training.steps, start=start) as bar:
        for step in range(start, training.steps):
            figures = train_step(model, optimizer, training, step)
            done = step + 1
            if done % 100 == 0 or done == training.steps:
                log.write(done, figures)
                bar(done, ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
            if done % cfg.checkpoint_every == 0 or done == training.steps:
                content = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": done,
                    "seconds": time.monotonic() - began,
                    "training": run,
                }
                with replace_file(checkpoint) as temporary:
                    torch.save(content, temporary)
    log.close()
    return time.monotonic() - began
