"""The training of a policy: cloning, and the choice among candidates by their success in validation scenes.

A run has a folder: ``checkpoint.pt`` from which it goes on after an interruption, a candidate ``step_<n>.safetensors`` after each
of some steps with the episodes of its validation in ``step_<n>.jsonl``, and in the end ``training.json`` and
``policy.safetensors``, the candidate that solved most scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoatlas_rl.checks import check_kinds
from infoatlas_rl.files import sha256
from infoatlas_rl.keystates.files import read_key_states, weights_of_key_states
from infoatlas_rl.keystates.rules import evenly_spaced
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.policies.cloning import Cloning, CloningConfig
from infoatlas_rl.policies.dataset import Windows
from infoatlas_rl.policies.evaluation import evaluate, summary
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.records import write_json

SAME = 1e-3
"""States that differ by less are the same, in m and rad."""


@dataclass(frozen=True)
class ValidationConfig:
    """Scenes that choose the checkpoint; neither those of the demonstrations nor those of the evaluation."""

    first_seed: int = 30000
    episodes: int = 50
    rounds: list[float] = field(default_factory=lambda: [0.8, 1.0])
    """Shares of the training after which the policy is validated; at its end it always is."""
    processes: int = 2

    def __post_init__(self) -> None:
        check_kinds(self, "validation.")
        for name, least in (("first_seed", 0), ("episodes", 1), ("processes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"validation.{name} has to be at least {least}, not {getattr(self, name)}")
        if not all(0 < share <= 1 for share in self.rounds):
            raise ValueError(f"validation.rounds={list(self.rounds)} have to be shares of the training in (0, 1]")

    @property
    def scenes(self) -> range:
        return range(self.first_seed, self.first_seed + self.episodes)

    def steps(self, last: int) -> list[int]:
        """Steps of a training of ``last`` steps after which the policy is validated."""
        return sorted({max(1, round(share * last)) for share in self.rounds} | {last})


def key_states_of(
    demos: DemonstrationSet, path: Path | str, count: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps ``(n, k)`` and states ``(n, k, 100)`` of the key states of n demonstrations.

    Raises:
        ValueError: the file is missing, is of other demonstrations, of the same scenes maybe, or does not hold ``count`` of each.
    """
    steps, states = read_key_states(path, [demo.seed for demo in demos])
    if count is not None and steps.shape[1] != count:
        raise ValueError(f"{path} holds {steps.shape[1]} key states a demonstration, the policy needs {count}")
    if too_late := [demo.seed for demo, row in zip(demos, steps) if row.max() >= len(demo)]:
        raise ValueError(f"{path}: key states after the end of demonstrations {too_late[:5]}")
    same = [
        there.shape[1:] == demo.states.shape[1:] and np.allclose(there, demo.states[row], atol=SAME)
        for demo, row, there in zip(demos, steps, states)
    ]
    if not all(same):
        seed = demos.demonstrations[same.index(False)].seed
        raise ValueError(
            f"{path} is of other demonstrations than {demos.path}: with seed {seed} these are in other states at its steps"
        )
    return steps, states


def key_steps(demos: DemonstrationSet, count: int, arm: str, path: Path | str | None) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Steps ``(n, count)`` of the key states of an arm, and where they are from.

    Args:
        demos: n demonstrations.
        count: key states of each.
        arm: its name, which is noted.
        path: a ``keystates.npz``; None for steps that are evenly spaced in time.

    Raises:
        ValueError: the file is missing, or holds other demonstrations, another number of key states, or steps that they lack.
    """
    if path is None:
        return np.asarray(evenly_spaced(np.array([len(demo) for demo in demos]), count)), {"arm": arm}
    steps, _ = key_states_of(demos, path, count)
    weights = weights_of_key_states(path)
    return steps, {"arm": arm, "path": str(path), "sha256": sha256(path), "weights_sha256": weights}


class PolicyTraining:
    """A run of a training in a folder: :meth:`resume`, :meth:`fit`, :meth:`validate` each of :attr:`due`, :meth:`finish`.

    Args:
        demos: recorded with ``pd_joint_pos``.
        steps: ``(n, k)``, steps of their key states.
        policy: shape of the policy.
        config: how it is cloned.
        validation: how a candidate is chosen.
        out: folder of the run.
        record: what is noted of the run in all its files, see :func:`~infoatlas_rl.records.provenance`.

    Raises:
        ValueError: scenes of the validation are among the demonstrations, or these were recorded with another control mode.
    """

    def __init__(
        self,
        demos: DemonstrationSet,
        steps: NDArray[np.int64],
        policy: PolicyConfig,
        config: CloningConfig,
        validation: ValidationConfig,
        out: Path,
        record: dict[str, Any],
    ) -> None:
        seeds = [demo.seed for demo in demos]
        if both := set(seeds) & set(validation.scenes):
            raise ValueError(
                f"{len(both)} of the validation scenes are among the demonstrations (seed {min(both)}, for one); choose another "
                f"validation.first_seed than {validation.first_seed}"
            )
        self.validation, self.out = validation, out
        self.due = validation.steps(config.steps)
        """Steps after which a candidate is kept."""
        raw = policy.features == "raw"
        if raw:
            config = replace(config, displacement=replace(config.displacement, share=0.0))
        self.record = record | {"demonstrations": {"path": str(demos.path), "count": len(demos), "seeds": seeds}}
        if "config" in record:
            self.record["config"] = record["config"] | {"training": asdict(config)}
        self.rounds: list[dict[str, Any]] = []
        torch.manual_seed(config.seed)
        windows = Windows(demos, steps, policy.context, policy.chunk, hindsight=not raw, joints=policy.joints)
        self.cloning = Cloning(KeyStatePolicy(policy), windows, config)
        self.checkpoint = out / "checkpoint.pt"

    def resume(self) -> bool:
        """Go on from the checkpoint in the folder; False where there is none."""
        if not self.checkpoint.is_file():
            return False
        self.cloning.load(self.checkpoint)
        return True

    def fit(self) -> Iterator[dict[str, float]]:
        """Train to the end; yields mean losses now and then, see :meth:`~infoatlas_rl.policies.cloning.Cloning.fit`."""
        self.out.mkdir(parents=True, exist_ok=True)
        if self.cloning.step == 0:
            for old in self.out.glob("step_*"):  # of another run
                old.unlink()
        if self.cloning.step in self.due:
            self._keep()
        for figures in self.cloning.fit(self.checkpoint, stops=self.due):
            if self.cloning.step in self.due:
                self._keep()
            yield figures

    def validate(self, step: int, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Success of a candidate; its episodes are noted, so that they need not be run again.

        Args:
            step: one of :attr:`due`.
            progress: called with (finished episodes, successes).

        Raises:
            ValueError: there is no such candidate.
        """
        path = self._candidate(step)
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: validation.rounds have changed since this training began; resume=false repeats it"
            )
        episodes = evaluate(
            path,
            self.validation.scenes,
            stop_at_success=True,
            processes=self.validation.processes,
            record=path.with_suffix(".jsonl"),
            progress=progress,
        )
        self.rounds.append({"step": step, **summary(episodes)})
        return self.rounds[-1]

    def finish(self) -> tuple[Path, dict[str, Any]]:
        """Write the policy that solved most validation scenes, of several the last one; its file and the record in it."""
        best, seconds = self._best(self.rounds), self.cloning.seconds
        self.record |= {
            "validation": self.rounds,
            "chosen_step": best,
            "seconds": round(seconds, 1),
            "steps_per_s": round(self.cloning.step / max(seconds, 1e-9), 2),
        }
        chosen, _ = KeyStatePolicy.load_with_record(self._candidate(best))
        write_json(self.out / "training.json", self.record)
        path = self.out / "policy.safetensors"
        chosen.save(path, self.record)  # the last one: where it is, the training is over
        return path, self.record

    @staticmethod
    def _best(rounds: Sequence[dict[str, Any]]) -> int:
        return max(rounds, key=lambda r: (r["k"], r["step"]))["step"]

    def _candidate(self, step: int) -> Path:
        return self.out / f"step_{step:06d}.safetensors"

    def _keep(self) -> None:
        """Keep the weights that act now as a candidate; what is known of an earlier one of the same step is void."""
        path = self._candidate(self.cloning.step)
        before = sha256(path) if path.is_file() else None
        self.cloning.average.save(path, self.record)
        if sha256(path) != before:
            path.with_suffix(".jsonl").unlink(missing_ok=True)
