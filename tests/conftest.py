"""Fixtures shared by the tests."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# The tests run in two processes: more threads than cores would only be in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from filelock import FileLock  # which torch brings

from infoatlas_rl import InfoAtlas, InfoAtlasConfig

ROOT = Path(__file__).resolve().parents[1]


HEAVY = {"tasks", "policies", "maniskill", "pretraining", "test_tutorials"}
"""Folders and files whose tests run first: a long one at the end would leave the other process without work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: HEAVY.isdisjoint((item.path.parent.name, item.path.stem)))


@pytest.fixture(scope="session")
def model() -> InfoAtlas:
    """The released model."""
    return InfoAtlas.from_pretrained()


TINY = InfoAtlasConfig(
    side_width=16,
    side_features=16,
    variates=2,
    pair_width=16,
    phases=8,
    width=16,
    latents=4,
    joint_layers=1,
    tokens=64,
    decoder_width=16,
)


@pytest.fixture
def tiny() -> InfoAtlasConfig:
    """An architecture small enough to train in a test."""
    return TINY


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def correlated(n: int, rho: list[float], seed: int = 0, batch: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian pairs with canonical correlations ``rho``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, len(rho)) if batch is None else (batch, n, len(rho))
    x, noise = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    r = torch.tensor(rho)
    return x, r * x + (1 - r**2).sqrt() * noise


def compose(name, *overrides):
    """The config of a command."""
    import hydra

    from infoatlas_rl.tasks.shell.options import CONFIGS

    importlib.import_module(f"infoatlas_rl.tasks.{name}")  # it brings the schemas of its options
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        return hydra.compose(name, list(overrides))


def needs(name):
    """Options without which a config does not compose."""
    return ["env=PickCube"] if "- env: ???" in (ROOT / "configs" / f"{name}.yaml").read_text() else []


def run(*command, cwd=ROOT):
    """Run Python with some arguments."""
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)


def refusal(script: str, *options: str) -> str:
    """The one line with which a command ends, run in this process: a new one takes seconds to import everything."""
    module = importlib.import_module(f"infoatlas_rl.tasks.{script}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"tasks/{script}.py", *options])
        patch.setattr("infoatlas_rl.tasks.shell.options.TYPED", [])
        threads = torch.get_num_threads()
        with pytest.raises(SystemExit) as ended:
            module.main()
        torch.set_num_threads(threads)
    line = str(ended.value.code)
    assert "\n" not in line
    return line


def descendants(process: int) -> set[int]:
    """All processes that a process has started, and those that they have."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state != "Z":  # which only waits for its exit code to be read
                parents[int(folder.name)] = int(parent)
    found, news = set(), {process}
    while news := {child for child, parent in parents.items() if parent in news} - found:
        found |= news
    return found


def kill_when(ready: Callable[[], bool], how: signal.Signals, *command: Any) -> None:
    """Run Python with some arguments, end it with a signal as soon as ``ready()``, and see that no process of it is left."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it was not ready in time"
        time.sleep(0.01)
    left = descendants(process.pid)
    process.send_signal(how)
    assert process.wait() == -how, "it had ended before"
    process.stdout.close()
    deadline = time.monotonic() + 10
    while (alive := left & set(map(int, filter(str.isdigit, os.listdir("/proc"))))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive, "processes go on although their run was killed"


def staged(count: int = 60, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Trajectories of three straight stages with corners of their own, at times of their own; and those times."""
    rng = np.random.default_rng(seed)
    out, corners = [], []
    for _ in range(count):
        # To an object, straight up, to a goal: three directions that are alike in all demonstrations.
        places = np.cumsum([[0, 0, 0, 0], [1, 0.3, 0, 0], [0, 0, 1, 0.3], [-0.6, 0.8, 0, 0]], axis=0)
        places = places + 0.1 * rng.normal(size=places.shape)
        steps = rng.integers(10, 20, size=3)
        path = [
            places[k] + (places[k + 1] - places[k]) * np.linspace(0, 1, n, endpoint=False)[:, None] for k, n in enumerate(steps)
        ]
        path = np.concatenate([*path, places[-1:]])
        out.append(path + 0.005 * rng.normal(size=path.shape))
        corners.append(np.cumsum(steps)[:2])
    return out, np.array(corners)


@pytest.fixture(scope="module")
def trajectories() -> list[np.ndarray]:
    return staged()[0]


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """The content of a file, damaged in ``count`` ways: cut off, bits flipped, a stretch overwritten or left out."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        data, at = bytearray(content), int(rng.integers(len(content)))
        length = int(rng.integers(1, 64))
        if number % 4 == 0:
            del data[at:]
        elif number % 4 == 1:
            for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
                data[place] ^= 1 << int(rng.integers(8))
        elif number % 4 == 2:
            data[at : at + length] = rng.bytes(len(data[at : at + length]))
        else:
            del data[at : at + length]
        yield bytes(data)


def read_or_refuse(read: Callable[[Path], Any], path: Path, kind: type[Exception] = ValueError) -> Any:
    """What ``read`` makes of a file, or None where it refuses it, as it has to: in one line that names the file."""
    try:
        return read(path)
    except kind as error:
        said = str(error)
    assert path.stem in said
    assert "\n" not in said
    return None


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A few real demonstrations of each task, solved by motion planning once for all processes of the tests."""
    from infoatlas_rl.maniskill.collect import collect_demonstrations
    from infoatlas_rl.maniskill.tasks import get_task

    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "demos"
    with FileLock(root.with_suffix(".lock")):
        for name, count in (("PickCube", 20), ("StackCube", 2), ("PegInsertion", 2)):
            collect_demonstrations(get_task(name), root, count, processes=2)  # nothing is done where they are there
    return root


def with_demonstrations(root: Path, demo_root: Path) -> Path:
    """``root`` with up to 20 demonstrations of PickCube, for a command that writes there; what it makes of them stays out of the
    original."""
    folder = root / "demos" / "PickCube-v1"
    folder.mkdir(parents=True)
    (folder / "motionplanning").symlink_to(demo_root / "PickCube-v1" / "motionplanning")
    return root


@pytest.fixture(params=["PickCube", "StackCube", "PegInsertion"])
def task(request: pytest.FixtureRequest) -> Any:
    """Each task with a 100-D state."""
    from infoatlas_rl.maniskill.tasks import get_task

    return get_task(request.param)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of root, entered as nobody, to whom its mode applies; where the tests do not run as root, as oneself."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(os.getuid())
            folder.chmod(0o755)


# --- policies ---------------------------------------------------------------------------------------------------------


def random_quaternions(count, generator):
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)


def random_states(count, seed=0):
    """States whose poses, sizes and relations fit together; the rest is zero."""
    from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
    from infoatlas_rl.policies.scene import quaternion_matrix

    g = torch.Generator().manual_seed(seed)
    states = torch.zeros(count, STATE_DIM)
    down = torch.tensor([0.0, 1.0, 0.0, 0.0])
    for name, around in (("tcp", down), ("object", None), ("target", None)):
        states[:, STATE_INDEX[f"{name}_position"]] = 0.2 * torch.randn(count, 3, generator=g)
        noise = random_quaternions(count, g)
        pose = torch.nn.functional.normalize(around + 0.1 * noise, dim=-1) if around is not None else noise
        states[:, STATE_INDEX[f"{name}_quaternion"]] = pose
    half = torch.rand(count, 3, generator=g) * 0.05 + 0.02
    states[:, STATE_INDEX["object_half_size"]] = half
    rotation = quaternion_matrix(states[:, STATE_INDEX["object_quaternion"]])
    tip = states[:, STATE_INDEX["object_position"]] + rotation[:, :, 0] * half[:, :1]
    states[:, STATE_INDEX["tip_to_target"]] = states[:, STATE_INDEX["target_position"]] - tip
    states[:, STATE_INDEX["gripper_width"]] = 0.08 * torch.rand(count, 1, generator=g)
    return states


def fake_demos(count=6, length=40, task="PickCube", control_mode="pd_joint_pos"):
    """Demonstrations of random smooth joint motion; the object is held in the second half."""
    from infoatlas_rl.maniskill.states import STATE_INDEX

    generator = np.random.default_rng(0)
    demos = []
    for seed in range(count):
        steps = length + seed
        joints = np.array([0, 0.4, 0, -2.0, 0, 2.4, 0.8]) + 0.2 * generator.normal(size=7) * np.linspace(0, 1, steps + 1)[:, None]
        robot = np.zeros((steps + 1, 31), np.float32)
        robot[:, 0], robot[:, 3], robot[:, 13:20] = -0.615, 1, joints
        states = random_states(steps + 1, seed).numpy().astype(np.float64)
        states[:, STATE_INDEX["gripper_width"]] = np.where(np.arange(steps + 1) < steps // 2, 0.08, 0.04)[:, None]
        # at the gripper from the middle on
        held = np.arange(steps + 1) >= steps // 2
        states[held, STATE_INDEX["object_position"]] = states[held, STATE_INDEX["tcp_position"]]
        states[:, STATE_INDEX["tcp_to_object"]] = (
            states[:, STATE_INDEX["object_position"]] - states[:, STATE_INDEX["tcp_position"]]
        )
        gripper = np.where(np.arange(steps) < steps // 2, 1.0, -1.0)[:, None]
        actions = np.concatenate([joints[1:], gripper], 1).astype(np.float32)
        demos.append(
            SimpleNamespace(states=states, actions=actions, env_states={"articulations": {"panda_wristcam": robot}}, seed=seed)
        )

    from infoatlas_rl.maniskill.demos import DemonstrationSet
    from infoatlas_rl.maniskill.tasks import get_task

    return DemonstrationSet(get_task(task), Path("demos.h5"), control_mode, "fake", demos)


def keys_of(demos, count=4):
    return np.stack([np.linspace(5, len(demo.states) - 1, count).astype(np.int64) for demo in demos])


SMALL_POLICY = {"task": "PickCube", "key_states": 4, "context": 4, "chunk": 8, "execute": 4, "width": 32, "depth": 1, "heads": 2}


def small_policy(seed=0, **changes):
    from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig

    torch.manual_seed(seed)
    return KeyStatePolicy(PolicyConfig(**(SMALL_POLICY | changes)))


@pytest.fixture(scope="session")
def windows():
    """Training samples of six demonstrations."""
    from infoatlas_rl.policies.dataset import Windows

    demos = fake_demos()
    return Windows(demos, keys_of(demos), context=4, chunk=8)


@pytest.fixture(scope="session")
def demos(demo_root):
    """Three demonstrations of PickCube, solved by motion planning."""
    from infoatlas_rl.maniskill.collect import demo_path
    from infoatlas_rl.maniskill.demos import load_demonstrations
    from infoatlas_rl.maniskill.tasks import get_task

    task = get_task("PickCube")
    return load_demonstrations(demo_path(demo_root, task), task, count=3)


@pytest.fixture(scope="session")
def env():
    """PickCube in the simulator."""
    from infoatlas_rl.maniskill.tasks import get_task
    from infoatlas_rl.policies.environment import StateEnv

    env = StateEnv(get_task("PickCube"), stop_at_success=True)
    yield env
    env.close()


@pytest.fixture(scope="session")
def policy_file(tmp_path_factory):
    """An untrained policy for PickCube."""
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    small_policy(chunk=16, execute=8, heads=4).save(path, {})
    return path


# --- commands ---------------------------------------------------------------------------------------------------------

KEYSTATE_ARMS = {"infoatlas", "infonet", "mine-100", "mine-1000", "no-mi", "even", "none"}
SMALL_TRAINING = [
    "demos.count=4",
    "demos.processes=1",
    "training.steps=24",
    "training.batch_size=16",
    "policy.width=32",
    "policy.depth=1",
    "validation.episodes=2",
    "validation.processes=1",
    "threads=1",
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, demo_root):
    """A policy that was trained in a few steps on four demonstrations: root folder, folder of the run, what was printed."""
    root = with_demonstrations(tmp_path_factory.mktemp("root"), demo_root)
    answer = run("tasks/train_policy.py", "env=PickCube", "keystates=even", f"paths.root={root}", *SMALL_TRAINING)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return root, root / "runs/policies/PickCube/even-0", answer.stdout
