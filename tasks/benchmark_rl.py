"""Success of SAC against environment steps, plain and with key-state conditioning and shaping.

    python tasks/benchmark_rl.py env=PickCube                   # ManiSkill's dense reward
    python tasks/benchmark_rl.py env=PickCube reward=sparse     # 1 when solved, 0 otherwise

Runs ``tasks/train_rl.py`` for every arm and seed, and writes ``docs/results/rl.json`` and a picture. Finished runs are kept, an
interrupted one goes on from its checkpoint; with other options both are refused.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import rl


@hydra_main("benchmark_rl")
def main(cfg: DictConfig) -> None:
    rl.run(cfg)


if __name__ == "__main__":
    main()
