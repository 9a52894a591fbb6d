"""Compare key states: the same discovery with different estimators of information, and rules of thumb, against events.

    python tasks/benchmark_keystates.py env=PickCube
    python tasks/benchmark_keystates.py env=PickCube only=[infoatlas,none]

Runs every arm with every seed on the demonstrations as they are, and on the same paths re-timed to a smooth speed without
stops; scores all against the ground-truth events, which no arm sees; times a step of every arm, one after the other; and
writes ``{env: {arm: scores}}`` to ``docs/results/keystates.json``. Finished runs are kept in ``run`` and not repeated.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import keystates


@hydra_main("benchmark_keystates")
def main(cfg: DictConfig) -> None:
    keystates.run(cfg)


if __name__ == "__main__":
    main()
