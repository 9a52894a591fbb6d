"""Pretrain InfoNet, the baseline of key-state discovery, on random Gaussian mixtures.

    python tasks/pretrain_infonet.py

Writes checkpoints to ``runs/pretrain_infonet``, from which a killed run goes on, and at the end ``out``.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl import __version__
from infoatlas_rl.baselines.infonet import InfoNet, InfoNetConfig, write_infonet
from infoatlas_rl.files import lock_folder, read_checkpoint, replace_file, require_same_run, require_writable
from infoatlas_rl.pretraining.infonet import InfoNetTraining, train_step
from infoatlas_rl.records import describe_machine
from infoatlas_rl.tasks.shell.options import defaults, hydra_main
from infoatlas_rl.tasks.shell.progress import RunLog, progress_bar

defaults("infonet/model", InfoNetConfig)
defaults("infonet/training", InfoNetTraining)


def pretrain(cfg: DictConfig) -> Path:
    """Train, or go on; returns the weights file.

    Raises:
        ValueError: another run is at work in ``run``, its checkpoint is damaged or of another configuration, or ``out`` cannot be
            written.
    """
    folder = Path(cfg.run)
    require_writable(Path(cfg.out))
    with lock_folder(folder):
        return _run(cfg, folder)


def _run(cfg: DictConfig, folder: Path) -> Path:
    config: InfoNetTraining = OmegaConf.to_object(cfg.training)
    torch.manual_seed(config.seed)
    model = InfoNet(OmegaConf.to_object(cfg.model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    checkpoint, start, seconds = folder / "checkpoint.pt", 0, 0.0
    if cfg.resume and checkpoint.is_file():
        content = read_checkpoint(checkpoint, "training")
        require_same_run(checkpoint, content["training"], asdict(config))
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        start, seconds = content["step"], content["seconds"]
        print(f"resumed from {checkpoint} at step {start}")
    log = RunLog(folder, keep=start > 0)
    began = time.monotonic() - seconds
    with progress_bar("pretraining InfoNet", config.steps, start=start) as bar:
        for step in range(start, config.steps):
            figures = train_step(model, optimizer, config, step)
            done = step + 1
            if done % 100 == 0 or done == config.steps:
                log.write(done, figures)
                bar(done, f"bound {figures['mi']:.3f} nats")
            if done % cfg.checkpoint_every == 0 or done == config.steps:
                content = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": done,
                    "seconds": time.monotonic() - began,
                    "training": asdict(config),
                }
                with replace_file(checkpoint) as temporary:
                    torch.save(content, temporary)
    log.close()
    hours = round((time.monotonic() - began) / 3600, 3)
    record = {"version": __version__, "training": asdict(config), "hours": hours, "machine": describe_machine(cfg.threads)}
    write_infonet(Path(cfg.out), model, record)
    print(f"{cfg.out}: {config.steps * config.batch} distributions in {hours} h")
    return Path(cfg.out)


@hydra_main("pretrain_infonet")
def main(cfg: DictConfig) -> None:
    pretrain(cfg)


if __name__ == "__main__":
    main()
