"""Pretrain the estimator on the atlas: first the critic, then the calibrated head.

    python tasks/pretrain.py                     # makes the released weights
    python tasks/pretrain.py pretrain.steps=200 name=try
    torchrun --nproc_per_node=2 tasks/pretrain.py pretrain.processes=2   # two batches a step, shared by two processes
    python tasks/pretrain.py critic=base name=again   # the critic of released weights, and a new calibrated head

Writes checkpoints, TensorBoard scalars, ``log.csv`` and, at the end, ``weights.safetensors`` to ``runs/pretrain/<name>``;
a killed run goes on where its last checkpoint left off. Released weights are never touched: copying new ones to
``pretrained/`` is ``python tasks/release_weights.py``.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl import __version__
from infoatlas_rl.baselines.paper import PaperConfig
from infoatlas_rl.estimator.model import FORMAT, InfoAtlas, InfoAtlasConfig, read_weights, write_weights
from infoatlas_rl.files import lock_folder
from infoatlas_rl.pretraining.atlas import AtlasConfig
from infoatlas_rl.pretraining.head import CalibrateConfig, collect, fit_head, table_name
from infoatlas_rl.pretraining.trainer import PretrainConfig, Pretrainer
from infoatlas_rl.records import describe_machine
from infoatlas_rl.tasks.shell.options import defaults, hydra_main
from infoatlas_rl.tasks.shell.progress import RunLog, progress_bar
from infoatlas_rl.weights import weights_file

defaults("model", InfoAtlasConfig)
defaults("model", PaperConfig, name="paper")
defaults("atlas", AtlasConfig)
defaults("pretrain", PretrainConfig)
defaults("calibrate", CalibrateConfig)


def pretrain(cfg: DictConfig) -> Path:
    """Both stages; returns the weights file, which the first process writes.

    Raises:
        ValueError: another run is at work in ``out``, or its checkpoint is damaged or of another configuration.
    """
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    out = Path(cfg.out)
    device = cfg.device or ("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Pretrainer(*map(OmegaConf.to_object, (cfg.model, cfg.atlas, cfg.pretrain)), device)
    with lock_folder(out) if trainer.rank == 0 else nullcontext():
        return _run(trainer, cfg, out)


def _run(trainer: Pretrainer, cfg: DictConfig, out: Path) -> Path:
    first = trainer.rank == 0
    if cfg.critic:
        return _head_alone(trainer, cfg, out)
    if cfg.calibrate.gradient_groups == 0:
        raise ValueError("calibrate.gradient_groups has to be positive, not 0: a new critic needs the gain of its gradient")
    if cfg.resume and (out / "checkpoint.pt").is_file():
        trainer.load(out / "checkpoint.pt")
        if first:
            print(f"resumed from {out / 'checkpoint.pt'} at step {trainer.step}")
    log = RunLog(out, keep=trainer.step > 0) if first else None
    _train_critic(trainer, cfg, log)
    model = trainer.averaged_model().requires_grad_(False).cpu()
    if not isinstance(model, InfoAtlas):
        print(f"{out / 'checkpoint.pt'}: nothing to calibrate, and no weights to release, for the architecture of the paper")
        return out / "checkpoint.pt"
    figures = _calibrate(model, OmegaConf.to_object(cfg.calibrate), cfg, trainer)
    weights = out / "weights.safetensors"
    if first:
        log.write(trainer.step, {f"calibration/{key}": value for key, value in figures.items()})
        log.close()
        record = {
            "name": cfg.name,
            "version": __version__,
            "steps": trainer.step,
            "problems": trainer.problems,
            "skipped_steps": trainer.skipped,
            "calibration": figures,
            "hours": round(trainer.seconds / 3600, 3),
            "calibration_hours": round(figures["process_hours"] / trainer.world, 3),
            "processes": trainer.world,
            "machine": describe_machine(threads=cfg.threads),
            "configs": trainer.configs() | {"calibrate": OmegaConf.to_container(cfg.calibrate)},
        }
        write_weights(weights, model, record)
        print(f"{weights}: {record['problems']} problems in {record['hours']} h; {figures}")
    return weights


def _head_alone(trainer: Pretrainer, cfg: DictConfig, out: Path) -> Path:
    """The critic of released weights or of a file, and the gain of its gradient, as they are; a head that is fitted anew."""
    path = weights_file(cfg.critic, FORMAT)
    model, record = read_weights(path)
    model.calibrated_head = model.calibrated_head.renewed(trainer.config.seed)
    model.eval().requires_grad_(False)
    config = replace(OmegaConf.to_object(cfg.calibrate), gradient_groups=0)
    figures = _calibrate(model, config, cfg, trainer)
    weights = out / "weights.safetensors"
    if trainer.rank == 0:
        record |= {
            "name": cfg.name,
            "version": __version__,
            "calibration": record.get("calibration", {}) | figures,
            "calibration_hours": round(figures["process_hours"] / trainer.world, 3),
            "machine": record.get("machine", {}) | {"calibration": describe_machine(threads=cfg.threads)},
            "configs": record.get("configs", {}) | {"calibrate": asdict(config) | {"atlas": asdict(trainer.atlas)}},
        }
        write_weights(weights, model, record)
        print(f"{weights}: the critic of {path}; {figures}")
    return weights


def _train_critic(trainer: Pretrainer, cfg: DictConfig, log: RunLog | None) -> None:
    if log is None:
        for _ in trainer.run():
            pass
        return
    with progress_bar("pretraining", trainer.config.steps, start=trainer.step) as bar:
        for figures in trainer.run(Path(cfg.out) / "checkpoint.pt"):
            step = int(figures.pop("step"))
            if step % cfg.validate_every == 0 or step == trainer.config.steps:
                figures |= {f"validation/{key}": value for key, value in trainer.validate().items()}
            log.write(step, figures)
            rate = trainer.problems / max(trainer.seconds, 1e-9)
            bar(step, f"loss {figures['loss']:.3f}, {rate:.1f} problems/s, {trainer.skipped} skipped")


def _calibrate(model: InfoAtlas, config: CalibrateConfig, cfg: DictConfig, trainer: Pretrainer) -> dict[str, float]:
    folder = Path(cfg.out) / table_name(model, trainer.atlas, config)
    with progress_bar("calibration", config.total) if trainer.rank == 0 else nullcontext(lambda *_: None) as bar:
        for done in collect(model, trainer.atlas, config, folder):
            bar(min(done, config.total), "")
    return fit_head(model.calibrated_head, folder, config) if trainer.rank == 0 else {}


@hydra_main("pretrain")
def main(cfg: DictConfig) -> None:
    pretrain(cfg)


if __name__ == "__main__":
    main()
