"""How many scenes demonstrations solve that are cut here or there, and what policies learn from the generated ones.

python tasks/benchmark_generation.py env=StackCube                # hours; goes on where it was stopped
python tasks/benchmark_generation.py env=PickCube only=rates seeds=[0]
python tasks/benchmark_generation.py env=PickCube only_collect=true
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import generation


@hydra_main("benchmark_generation")
def main(cfg: DictConfig) -> None:
    generation.run(cfg)


if __name__ == "__main__":
    main()
