"""Train with ``InfoAtlasLoss``, maximised and minimised, beside InfoNCE, VICReg, an adversary, HSIC and others.

    python tasks/benchmark_loss.py                            # hours on one thread; goes on where it was stopped
    python tasks/benchmark_loss.py only=[views-16] seeds=[0]  # a part of it
    python tasks/benchmark_loss.py only_collect=true          # write the results of what has been run so far

Needs the ``benchmark`` extra. Problems: ``views-16``, ``views-6``, ``mnist``, ``labels``, ``robot``; with a nuisance
``tanh-1``, ``tanh-2``, ``fold``, ``rotation``, ``survey``; ``halves``; and how far the value is off, ``gaussian-128`` and
others; see :mod:`infoatlas_rl.tasks.suites.loss_problems`.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import loss


@hydra_main("benchmark_loss")
def main(cfg: DictConfig) -> None:
    loss.run(cfg)
    print(cfg.out)


if __name__ == "__main__":
    main()
