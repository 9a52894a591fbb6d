"""Pretrain MIST, a baseline of the estimator, on problems of the atlas.

    python tasks/pretrain_mist.py

Writes checkpoints to ``runs/pretrain_mist``, from which a killed run goes on, and at the end ``out``.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.baselines.mist import MISTConfig, MISTNetwork, write_mist
from infoatlas_rl.pretraining.mist import MISTTraining, train_step
from infoatlas_rl.tasks.shell.options import defaults, hydra_main
from infoatlas_rl.tasks.shell.peer_training import pretrain_peer

defaults("mist/model", MISTConfig)
defaults("mist/training", MISTTraining)


def pretrain(cfg: DictConfig) -> Path:
    return pretrain_peer(cfg, "MIST", MISTNetwork, train_step, write_mist)


@hydra_main("pretrain_mist")
def main(cfg: DictConfig) -> None:
    pretrain(cfg)


if __name__ == "__main__":
    main()
