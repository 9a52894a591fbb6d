"""A film and a contact sheet of a policy at work, with the key state that it heads for drawn in.

    python tasks/film_policy.py env=StackCube

The ring is where the key-state token of the next key state expects the gripper; its colour is that of the key state. Frames are
rendered where there is a rendering device and drawn elsewhere. Writes ``rollout.gif`` and ``rollout.png``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl.maniskill import pictures
from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task, released_policy
from infoatlas_rl.policies.rollout import Episode, Trace, rollout
from infoatlas_rl.tasks.shell.options import hydra_main


def as_demonstration(trace: Trace, env: StateEnv, seed: int) -> Demonstration:
    """A rollout in the form of which pictures are made."""
    first = trace.env_states[0]
    env_states = {kind: {name: np.stack([s[kind][name] for s in trace.env_states]) for name in first[kind]} for kind in first}
    states = np.asarray(trace.states[: len(trace.env_states)], dtype=np.float64)
    return Demonstration(0, seed, states, np.zeros((len(states) - 1, 7), np.float32), env.geometry, env_states)


def next_key_states(trace: Trace) -> list[pictures.Mark | None]:
    """The first key state of every step that is not past yet; None after the last one."""
    marks: list[pictures.Mark | None] = []
    passed = 0
    for keys in trace.keys:
        while passed < len(keys) and keys[passed, 7] > 0.5:
            passed += 1
        marks.append(pictures.Mark(keys[passed, :3], passed) if passed < len(keys) else None)
    return marks


def film(cfg: DictConfig) -> None:
    task = policy_task(cfg.env.name)
    policy = KeyStatePolicy.load(cfg.policy or released_policy(task.name), task.name, key_states=True)
    env = StateEnv(task, stop_at_success=True)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    camera = pictures.open_camera(task)
    frames, titles, rows, concepts = [], [], [], []
    for seed in cfg.seeds:
        trace = Trace()
        episode: Episode = rollout(policy, env, seed, trace=trace)
        demo, marks = as_demonstration(trace, env, seed), next_key_states(trace)
        # One frame half-way to every key state, and the last one.
        count, last = policy.config.key_states, len(marks) - 1
        heading = np.array([count if mark is None else mark.concept for mark in marks])
        middle = [np.nonzero(heading == k)[0] for k in range(count)]
        steps = [int(np.median(there)) if len(there) else None for there in middle]
        frames.append([None if step is None else camera.frame(demo, step, marks[step]) for step in [*steps, last]])
        titles.append([_title(k, step) for k, step in enumerate(steps)] + [f"step {last}, the end"])
        concepts.append([*range(count), None])
        rows.append(f"seed {seed}, " + (f"solved in {episode.steps}" if episode.success else "not solved"))
        print(f"scene {seed}: " + (f"solved in {episode.steps} steps" if episode.success else "not solved"))
        if seed == cfg.seeds[0]:
            passed = np.searchsorted(heading, np.arange(count), side="right")
            pictures.animation(out / "rollout.gif", camera, demo, passed[passed < len(heading)], marks=marks)
    pictures.contact_sheet(out / "rollout.png", frames, titles, rows, concepts)
    camera.close()
    env.close()
    print(f"film: {out / 'rollout.gif'}, contact sheet: {out / 'rollout.png'}")


def _title(k: int, step: int | None) -> str:
    return f"not headed for\nkey state {k + 1}" if step is None else f"step {step}, to key state {k + 1}"


@hydra_main("film_policy")
def main(cfg: DictConfig) -> None:
    film(cfg)


if __name__ == "__main__":
    main()
