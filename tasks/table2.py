"""Success rates of policies that differ in their key states and in nothing else.

    python tasks/table2.py env=PickCube

Trains a policy for every arm and seed (``tasks/train_policy.py``), evaluates it on seen and unseen scenes
(``tasks/evaluate_policy.py``), and writes ``{env: {arm: {"seen": {"k", "n"}, "unseen": {"k", "n"}, "seeds": [...]}}}`` to
``docs/results/table2.json``, with the paired difference of InfoAtlas and no key states. Finished runs are kept and not
repeated; an interrupted one goes on.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import table2


@hydra_main("table2")
def main(cfg: DictConfig) -> None:
    table2.run(cfg)


if __name__ == "__main__":
    main()
