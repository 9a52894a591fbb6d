"""Golden values: what the released weights give for fixed data, written down so that a change of it cannot go unnoticed.

    python tests/make_golden.py                     # write tests/data/golden.json anew: after a change that is meant to be
    python tests/make_golden.py compare             # how far this machine is from it, by kind of value
    python tests/make_golden.py record DEMOS.h5     # record the inputs anew (PickCube, pd_joint_pos; needs the robot extra)

``tests/test_golden.py`` compares. Data are drawn with numpy by elementary operations only: ``multivariate_normal`` goes through a
decomposition whose result depends on the machine.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infoatlas_rl import InfoAtlas, InfoAtlasLoss
from infoatlas_rl.distributions import BMI_TASKS, DISCRETE_TASKS
from infoatlas_rl.estimator.calibration import statistics
from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, TrajectorySet
from infoatlas_rl.policies.policy import KeyStatePolicy

DATA = Path(__file__).parent / "data"
GOLDEN, RECORDED = DATA / "golden.json", DATA / "golden_inputs.npz"
POLICIES = Path(__file__).parents[1] / "pretrained" / "policies"

SEEN = ("qpos", "tcp_position", "tcp_quaternion", "object_position", "tcp_to_object", "tip_to_target", "gripper_width")
"""Parts of the recorded states that the pinned discovery sees."""
DEMONSTRATIONS = 20
SCENES = (3, 4)
"""Seeds of the pinned rollouts."""


# --- estimates and losses ---------------------------------------------------------------------------------------------

Sampler = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """A data set, and the options that it is estimated and differentiated with."""

    sampler: Sampler
    estimate: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.sampler(np.random.default_rng(2024))
        return torch.from_numpy(x).to(self.dtype), torch.from_numpy(y).to(self.dtype)


def gaussian(*shape: int, rho: float = 0.7) -> Sampler:
    def sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, noise = rng.standard_normal((2, *shape))
        return x, rho * x + np.sqrt(1 - rho**2) * noise

    return sample


def _few(rng):
    x = rng.standard_normal((16, 2))
    return x, x[:, :1] * x[:, 1:] + 0.3 * rng.standard_normal((16, 1))


def _curved(rng):
    x = rng.standard_normal((400, 5))
    return x, np.stack([np.sin(2 * x[:, 0]), x[:, 1] ** 2, x[:, 2] * x[:, 3]], 1) + 0.3 * rng.standard_normal((400, 3))


def _ties(rng):
    x, y = gaussian(120, 2)(rng)
    return np.round(2 * x) / 2, np.round(2 * y) / 2


def _constant_column(rng):
    x, y = gaussian(80, 3)(rng)
    x[:, 1], x[:, 2] = 5.0, np.round(x[:, 2])
    return x, y


def _discrete(rng):
    x = rng.integers(0, 4, (200, 1))
    y = np.where(rng.random((200, 2)) < 0.3, rng.integers(0, 4, (200, 2)), x)
    return x.astype(float), np.minimum(y, [3, 1]).astype(float)


def _sliced(rng):
    x = rng.standard_normal((150, 30))
    return x, 0.8 * x[:, :25] + 0.6 * rng.standard_normal((150, 25))


def _heavy_tails(rng):
    scale = np.abs(rng.standard_normal((250, 1)))
    return rng.standard_normal((250, 2)) / scale, rng.standard_normal((250, 2)) / scale


def _sorted_rows(rng):
    x = np.cumsum(rng.standard_normal((200, 1)), 0)
    order = np.argsort(x[:, 0])
    return x[order], (np.tanh(x / 4) + 0.2 * rng.standard_normal((200, 1)))[order]


def _unequal(rng):
    y = rng.standard_normal((300, 12))
    return y[:, :3].sum(1, keepdims=True) + rng.standard_normal((300, 1)), y


def _tiny_and_huge(rng):
    x, y = gaussian(90, 2, rho=0.9)(rng)
    return 1e-12 * x, 1e12 * y


CASES: dict[str, Case] = {
    "one dimension": Case(gaussian(100, 1), loss={"slices": None}),
    "16 samples": Case(_few, loss={"slices": None}),
    "curved": Case(_curved, {"bound": "nwj", "cross_fit": True}, {"slices": None, "bound": "nwj"}),
    "ties": Case(_ties, {"bound": "smile"}, {"slices": None, "bound": "smile"}),
    "constant column": Case(_constant_column, {"bound": "infonce"}, {"slices": None, "bound": "infonce"}),
    "discrete": Case(_discrete, {"cross_fit": True}, {"slices": None}),
    "batch": Case(gaussian(3, 64, 2), loss={"slices": 3, "k": 1}),
    "sliced": Case(_sliced, {"slices": 4, "k": 3, "seed": 7}, {"slices": 4, "k": 3, "seed": 7}),
    "heavy tails": Case(_heavy_tails, {"cross_fit": True, "bound": "smile"}, {"slices": None, "gradient": "full"}),
    "single precision": Case(gaussian(100, 3), loss={"slices": None, "gradient": "full"}, dtype=torch.float32),
    "sorted rows": Case(_sorted_rows, {"cross_fit": True}, {"slices": None}),
    "independent": Case(gaussian(100, 4, rho=0.0), {"permutations": 9}, {"slices": None}),
    "one against twelve": Case(_unequal, {"cross_fit": True, "bound": "infonce"}, {"slices": 2, "k": 2, "sides": "y"}),
    "tiny and huge": Case(_tiny_and_huge, loss={"slices": None}),
    "more samples than tokens": Case(gaussian(600, 2, rho=0.95), loss={"slices": None}),
}


def measured(model: InfoAtlas, case: Case) -> dict[str, list[float]]:
    """All pinned values of a case, by kind. Gradients are in units of the norm that is pinned with them."""
    x, y = case.data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 16 samples are outside the range of training
        result = model.estimate(x, y, **case.estimate)
    values = {
        "data": [x.double().abs().log1p().mean(), y.double().abs().log1p().mean()],
        "mi": np.ravel(result.mi),
        "interval": np.ravel(result.interval),
        "bound": np.ravel(result.bound),
        "p_value": [] if result.p_value is None else [result.p_value],
    }
    sides = [x.requires_grad_(), y.requires_grad_()]
    loss = InfoAtlasLoss(weights=model, **{"gradient": "envelope"} | case.loss)(*sides)
    values["loss"] = [loss.item()]
    values["log gradient norm"], values["gradient"] = [], []
    for gradient in torch.autograd.grad(loss, sides):
        gradient = gradient.double().flatten().numpy()
        norm = float(np.linalg.norm(gradient))
        direction = np.random.default_rng(len(gradient)).standard_normal(len(gradient))
        entries = gradient[np.linspace(0, len(gradient) - 1, 5).astype(int)]
        values["log gradient norm"].append(np.log(norm))
        values["gradient"] += [direction @ gradient / np.linalg.norm(direction) / norm, *entries / norm]
    if "slices" not in case.estimate:
        with torch.no_grad():
            batch = [side.detach().reshape(-1, *side.shape[-2:]) for side in sides]
            critic = model(*batch)
            values["statistics"] = statistics(critic).flatten().tolist()
            values["summary"] = critic.maps.summary.flatten().tolist()
    return {kind: [float(f"{float(v):.9g}") for v in numbers] for kind, numbers in values.items()}


# --- accuracy ---------------------------------------------------------------------------------------------------------

ACCURACY_SAMPLES = 500
ACCURACY_SEEDS = range(2)
EXACT_DATA = ("Asinh@St", "St", "Additive", "Bern-5d", "Poisson-5d", "Cat-5d")
"""Tasks whose samples are the same on every machine; see above."""


def estimates(model: InfoAtlas) -> dict[str, list[float]]:
    """Estimates for small samples of the benchmark's tasks, by task, one per seed."""
    found = {}
    for task in BMI_TASKS + DISCRETE_TASKS:
        samples = [task.sample(ACCURACY_SAMPLES, seed) for seed in ACCURACY_SEEDS]
        found[task.name] = model.estimate(*(np.stack(side) for side in zip(*samples, strict=True))).mi.tolist()
    return found


# --- discovery and policies -------------------------------------------------------------------------------------------


def recorded_trajectories() -> list[np.ndarray]:
    with np.load(RECORDED) as file:
        return np.split(file["trajectories"].astype(float), np.cumsum(file["lengths"])[:-1])


def discovered(model: InfoAtlas) -> dict[str, Any]:
    """Key states of the recorded trajectories; with seed 0 two places of one of them are so alike that rounding decides."""
    config = KeyStateConfig(concepts=4, epochs=2, samples=200, seed=1)
    estimator = InfoAtlasLoss(slices=1, k=20, sides="y", weights=model)
    finder = KeyStateFinder(TrajectorySet(recorded_trajectories(), config.delta), estimator, config)
    for _ in finder.fit():
        pass
    found = finder.key_states()
    return {"cuts": finder.cuts, "steps": found.steps.tolist(), "information": found.information.tolist()}


def acted(task: str) -> dict[str, Any]:
    """What a released policy does in recorded states: the first of scenes, and for PickCube the course of one."""
    policy = KeyStatePolicy.load(POLICIES / f"{task}.safetensors", task)
    with np.load(RECORDED) as file:
        first, course = file[f"first_{task}"], file["course"] if task == "PickCube" else []
    actions, state = policy.predict(first)
    out = {"actions": actions.tolist(), "keys": state.keys.tolist(), "course": []}
    state = None
    for observation in course:
        action, state = policy.predict(observation, state)
        out["course"].append(action.tolist())
    return out


def rolled_out() -> list[dict[str, Any]]:
    """The released PickCube policy in scenes of the simulator."""
    from infoatlas_rl.maniskill.states import positions
    from infoatlas_rl.maniskill.tasks import get_task
    from infoatlas_rl.policies.environment import StateEnv
    from infoatlas_rl.policies.rollout import Trace, rollout

    policy = KeyStatePolicy.load(POLICIES / "PickCube.safetensors")
    env = StateEnv(get_task("PickCube"), stop_at_success=True)
    out = []
    for seed in SCENES:
        trace = Trace()
        episode = rollout(policy, env, seed, trace=trace)
        places = positions(np.stack([trace.states[0], trace.states[-1]]).astype(float), env.task)
        outcome = {"steps": episode.steps, "success": episode.success, "events": episode.events}
        out.append(outcome | {"first": places[0].tolist(), "last": places[1].tolist()})
    env.close()
    return out


# --- the commands -----------------------------------------------------------------------------------------------------


def make() -> dict[str, Any]:
    model = InfoAtlas.from_pretrained()
    return {
        "cases": {name: measured(model, case) for name, case in CASES.items()},
        "estimates": estimates(model),
        "discovery": discovered(model),
        "policies": {task: acted(task) for task in ("PickCube", "StackCube", "PegInsertion")},
        "rollouts": rolled_out(),
    }


def differences(here: Any, there: Any, kind: str = "") -> dict[str, float]:
    """Largest absolute difference of numbers, by where they are."""
    if isinstance(here, dict | list):
        pairs = here.items() if isinstance(here, dict) else enumerate(here)
        out: dict[str, float] = {}
        for key, value in pairs:
            for name, most in differences(value, there[key], f"{kind}/{key}" if isinstance(here, dict) else kind).items():
                out[name] = max(out.get(name, 0.0), most)
        return out
    return {kind: 0.0 if here == there else abs(float(here) - float(there))}


def record(path: str) -> None:
    """Write the inputs of discovery and policies from demonstrations and from first states of scenes."""
    from infoatlas_rl.maniskill.demos import load_demonstrations
    from infoatlas_rl.maniskill.states import STATE_INDEX
    from infoatlas_rl.maniskill.tasks import TASKS
    from infoatlas_rl.policies.environment import StateEnv

    demos = list(load_demonstrations(path, TASKS["PickCube"]))[:DEMONSTRATIONS]
    seen = [np.concatenate([demo.states[:, STATE_INDEX[name]] for name in SEEN], 1) for demo in demos]
    arrays = {"trajectories": np.concatenate(seen), "lengths": np.array([len(t) for t in seen]), "course": demos[0].states[:20]}
    for task in TASKS.values():
        env = StateEnv(task)
        arrays[f"first_{task.name}"] = np.stack([env.reset(seed=seed)[0] for seed in range(3)])
        env.close()
    np.savez_compressed(RECORDED, **{name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()})


def main(arguments: list[str]) -> None:
    if arguments[:1] not in ([], ["compare"], ["record"]):
        sys.exit(__doc__)
    torch.set_num_threads(1)
    if arguments[:1] == ["record"]:
        record(arguments[1])
    elif arguments == ["compare"]:
        for name, most in differences(make(), json.loads(GOLDEN.read_text())).items():
            print(f"{most:10.2e}  {name}")
    else:
        GOLDEN.write_text(json.dumps(make(), indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
