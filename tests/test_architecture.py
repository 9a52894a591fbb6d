"""The arrows of the architecture point one way: tasks -> policies -> infoatlas_rl, and the library's core is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "infoatlas_rl": {"infoatlas_rl"},
    "policies": {"infoatlas_rl", "policies"},
    "tasks": {"infoatlas_rl", "policies", "tasks"},
}
CORE_DEPENDENCIES = {"torch", "numpy", "einops", "safetensors", "infoatlas_rl"}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder):
    for path in (ROOT / folder).rglob("*.py"):
        ours = imports(path) & set(ALLOWED)
        assert ours <= ALLOWED[folder], f"{path} imports {ours - ALLOWED[folder]}"


def test_only_the_simulator_package_and_the_doctor_need_more_than_the_core():
    for path in (ROOT / "infoatlas_rl").rglob("*.py"):
        if "maniskill" in path.parts or path.name == "doctor.py":
            continue
        foreign = imports(path) - CORE_DEPENDENCIES - set(sys.stdlib_module_names)
        assert not foreign, f"{path} imports {foreign}"


def test_importing_the_library_loads_no_simulator_and_no_hydra():
    code = (
        "import sys, infoatlas_rl, infoatlas_rl.keystates;"
        "print([m for m in ('sapien', 'mani_skill', 'gymnasium', 'hydra', 'matplotlib', 'h5py') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
