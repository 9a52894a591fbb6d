"""Pretrain InfoNet, a baseline of key-state discovery and of the estimator, on random Gaussian mixtures.

    python tasks/pretrain_infonet.py

Writes checkpoints to ``runs/pretrain_infonet``, from which a killed run goes on, and at the end ``out``.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.baselines.infonet import InfoNet, InfoNetConfig, write_infonet
from infoatlas_rl.pretraining.infonet import InfoNetTraining, train_step
from infoatlas_rl.tasks.shell.options import defaults, hydra_main
from infoatlas_rl.tasks.shell.peer_training import pretrain_peer

defaults("infonet/model", InfoNetConfig)
defaults("infonet/training", InfoNetTraining)


def pretrain(cfg: DictConfig) -> Path:
    return pretrain_peer(cfg, "InfoNet", InfoNet, train_step, write_infonet)


@hydra_main("pretrain_infonet")
def main(cfg: DictConfig) -> None:
    pretrain(cfg)


if __name__ == "__main__":
    main()
