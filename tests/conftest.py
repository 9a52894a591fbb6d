"""Fixtures shared by the tests."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

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

    from infoatlas_rl.tasks.options import CONFIGS

    importlib.import_module(f"infoatlas_rl.tasks.{name}")  # it brings the schemas of its options
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        return hydra.compose(name, list(overrides))


def needs(name):
    """Options without which a config does not compose."""
    return ["env=PickCube"] if "- env: ???" in (ROOT / "configs" / f"{name}.yaml").read_text() else []


def run(*command, cwd=ROOT):
    """Run Python with some arguments."""
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)
