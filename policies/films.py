"""Films and contact sheets of a policy at work, with the key state that it heads for drawn in.

The ring is where the key-state token of the next key state expects the gripper; its colour is that of the key state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from infoatlas_rl.maniskill.cameras import Mark, open_camera
from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.pictures import animation, contact_sheet
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.rollout import Episode, Trace, rollout


def film(policy: KeyStatePolicy, seeds: Sequence[int], out: Path) -> Iterator[Episode]:
    """Run a policy through scenes; yields what came of each, and then writes pictures.

    Args:
        policy: trained with key states, see :meth:`~infoatlas_rl.policies.policy.KeyStatePolicy.load`.
        seeds: of the scenes; one row each of ``out/rollout.png``, and the first one is ``out/rollout.gif``.

    Raises:
        ValueError: no scenes.
    """
    if not seeds:
        raise ValueError("seeds=[]: name the scenes that are filmed, as in seeds=[2000,2001]")
    env, camera = StateEnv(policy.task, stop_at_success=True, control_mode=policy.config.control_mode), open_camera(policy.task)
    frames, titles, rows, concepts = [], [], [], []
    for seed in seeds:
        trace = Trace()
        episode = rollout(policy, env, seed, trace=trace)
        yield episode
        demo, marks = as_demonstration(trace, env, seed), next_key_states(trace)
        # One frame half-way to every key state, and the last one.
        count, last = policy.config.key_states, len(marks) - 1
        heading = np.array([count if mark is None else mark.concept for mark in marks])
        middle = [np.nonzero(heading == k)[0] for k in range(count)]
        steps = [int(np.median(there)) if len(there) else None for there in middle]
        frames.append([None if step is None else camera.frame(demo, step, marks[step]) for step in [*steps, last]])
        titles.append([_title(k, step) for k, step in enumerate(steps)] + [f"step {last}, the end"])
        concepts.append([*range(count), None])
        rows.append(f"seed {seed}, {outcome(episode)}")
        if seed == seeds[0]:
            passed = np.searchsorted(heading, np.arange(count), side="right")
            animation(out / "rollout.gif", camera, demo, passed[passed < len(heading)], marks=marks)
    contact_sheet(out / "rollout.png", frames, titles, rows, concepts)
    camera.close()
    env.close()


def outcome(episode: Episode) -> str:
    """In words."""
    return f"solved in {episode.steps}" if episode.success else "not solved"


def as_demonstration(trace: Trace, env: StateEnv, seed: int) -> Demonstration:
    """A rollout in the form of which pictures are made."""
    first = trace.env_states[0]
    env_states = {kind: {name: np.stack([s[kind][name] for s in trace.env_states]) for name in first[kind]} for kind in first}
    states = np.asarray(trace.states[: len(trace.env_states)], dtype=np.float64)
    return Demonstration(0, seed, states, np.zeros((len(states) - 1, 7), np.float32), env.geometry, env_states)


def next_key_states(trace: Trace) -> list[Mark | None]:
    """The first key state of every step that is not past yet; None after the last one."""
    marks: list[Mark | None] = []
    passed = 0
    for keys in trace.keys:
        while passed < len(keys) and keys[passed, 7] > 0.5:
            passed += 1
        marks.append(Mark(keys[passed, :3], passed) if passed < len(keys) else None)
    return marks


def _title(k: int, step: int | None) -> str:
    return f"not headed for\nkey state {k + 1}" if step is None else f"step {step}, to key state {k + 1}"
