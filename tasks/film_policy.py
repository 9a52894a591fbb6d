"""A film and a contact sheet of a policy at work, with the key state that it heads for drawn in.

    python tasks/film_policy.py env=StackCube

Frames are rendered where there is a rendering device and drawn elsewhere. Writes ``rollout.gif`` and ``rollout.png``.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.checks import check_whole
from infoatlas_rl.files import lock_folder
from infoatlas_rl.policies.films import film, outcome
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task, released_policy
from infoatlas_rl.tasks.shell.options import hydra_main


@hydra_main("film_policy")
def main(cfg: DictConfig) -> None:
    task, out = policy_task(cfg.env.task), Path(cfg.out)
    for seed in cfg.seeds:
        check_whole("seeds", seed, least=0)
    policy = KeyStatePolicy.load(cfg.policy or released_policy(task.name), task.name, key_states=True)
    with lock_folder(out):
        for episode in film(policy, list(cfg.seeds), out):
            print(f"scene {episode.seed}: {outcome(episode)}" + (" steps" if episode.success else ""))
    print(f"film: {out / 'rollout.gif'}, contact sheet: {out / 'rollout.png'}")


if __name__ == "__main__":
    main()
