"""Pretrain the estimator on the atlas.

    python tasks/pretrain.py                     # makes the released weights
    python tasks/pretrain.py pretrain.steps=200 name=try

Writes checkpoints, TensorBoard scalars, ``log.csv`` and, at the end, ``weights.safetensors`` to ``runs/pretrain/<name>``;
a killed run goes on where its last checkpoint left off. Released weights are never touched: copying new ones to
``pretrained/`` is ``python tasks/release_weights.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl import __version__
from infoatlas_rl.pretraining import Pretrainer
from infoatlas_rl.weights import write_weights
from tasks.common import RunLog, describe_machine, hydra_main, progress_bar


def pretrain(cfg: DictConfig) -> Path:
    torch.set_num_threads(cfg.threads)
    out = Path(cfg.out)
    checkpoint = out / "checkpoint.pt"
    trainer = Pretrainer(instantiate(cfg.model), instantiate(cfg.atlas), instantiate(cfg.pretrain))
    if cfg.resume and checkpoint.is_file():
        trainer.load(checkpoint)
        print(f"resumed from {checkpoint} at step {trainer.step}")
    log = RunLog(out, keep=trainer.step > 0)
    with progress_bar("pretraining", trainer.config.steps, start=trainer.step) as bar:
        for figures in trainer.run(checkpoint):
            step = int(figures.pop("step"))
            if step % cfg.validate_every == 0 or step == trainer.config.steps:
                figures |= {f"validation/{key}": value for key, value in trainer.validate().items()}
            log.write(step, figures)
            rate = trainer.problems / max(trainer.seconds, 1e-9)
            bar(step, f"loss {figures['loss']:.3f}, {rate:.1f} problems/s, {trainer.skipped} skipped")
    log.close()
    weights = out / "weights.safetensors"
    record = {
        "name": cfg.name,
        "version": __version__,
        "steps": trainer.step,
        "problems": trainer.problems,
        "skipped_steps": trainer.skipped,
        "hours": round(trainer.seconds / 3600, 3),
        "machine": describe_machine(threads=cfg.threads),
        "configs": trainer._configs(),
    }
    write_weights(weights, trainer.averaged_model(), record)
    print(f"{weights}: {record['problems']} problems in {record['hours']} h")
    return weights


@hydra_main("pretrain")
def main(cfg: DictConfig) -> None:
    pretrain(cfg)


if __name__ == "__main__":
    main()
