"""Success on unseen scenes against the number of demonstrations, with and without key states.

    python tasks/benchmark_scale.py env=StackCube

Key states are discovered in the demonstrations at hand and in no others; training takes the same number of steps whatever their
number. Writes ``{env: {"arms": {arm: {count: {"k", "n"}}}}}`` to ``docs/results/scale.json``, and a picture. Finished runs are
kept.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import scale


@hydra_main("benchmark_scale")
def main(cfg: DictConfig) -> None:
    scale.run(cfg)


if __name__ == "__main__":
    main()
