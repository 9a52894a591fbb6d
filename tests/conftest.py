"""Fixtures shared by the tests."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlas, InfoAtlasConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def model() -> InfoAtlas:
    """The released model."""
    return InfoAtlas.from_pretrained()


TINY = InfoAtlasConfig(
    side_width=16,
    side_features=16,
    variates=2,
    pair_width=16,
    pair_features=16,
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
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real demonstrations of each task."""
    from infoatlas_rl.maniskill.collect import collect_demonstrations
    from infoatlas_rl.maniskill.tasks import get_task

    root = tmp_path_factory.mktemp("demos")
    for name, count in (("PickCube", 20), ("StackCube", 2), ("PegInsertion", 2)):
        collect_demonstrations(get_task(name), root, count, processes=2)
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
