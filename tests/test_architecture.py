"""The house: rooms on floors, imports that point downwards, no circle, short files, a light core.

``policies`` and ``tasks`` are imported as ``infoatlas_rl.policies`` and ``infoatlas_rl.tasks``: links lead to the folders.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"version", "files", "precision", "tables", "transforms"},
    {"checks", "columns", "processes", "records", "weights"},
    {"estimator", "distributions"},
    {"analysis"},
    {"objectives"},
    {"loss"},
    {"baselines"},
    {"pretraining", "keystates"},
    {"maniskill"},
    {"policies", "doctor"},
    {"tasks"},
]
"""From the ground up; a room may use those below it."""
CORE_DEPENDENCIES = {"torch", "numpy", "einops", "safetensors", "infoatlas_rl"}
MORE_DEPENDENCIES = {"maniskill", "doctor", "classical", "columns", "datasets", "subtasks"}
"""Rooms and files of the library that need more than the core."""
LONGEST, LONGEST_COMMAND = 400, 150


def modules() -> dict[str, Path]:
    """Name of every module of the library, the policies and the commands, to its file."""
    found = {}
    for folder, package in (("infoatlas_rl", ""), ("policies", "policies."), ("tasks", "tasks.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if folder == "infoatlas_rl" and inside.parts[0] in ("policies", "tasks"):
                continue  # a link that is followed
            name = ".".join(inside.with_suffix("").parts).removesuffix("__init__").removesuffix(".")
            found[f"infoatlas_rl.{package}{name}".rstrip(".")] = path
    return found


MODULES = modules()


def imported(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules that a file imports, all of them or those at its top level; ``from a import b`` counts as a.b where that is one."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & MODULES.keys()) | ({node.module} if inner - MODULES.keys() else set())
    return names


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(module: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_every_room_is_on_a_floor():
    assert {room(name) for name in MODULES} - {""} == set().union(*FLOORS)


@pytest.mark.parametrize("name", [name for name in MODULES if room(name)])
def test_imports_point_downwards(name):
    for other in imported(MODULES[name]) & MODULES.keys() - {"infoatlas_rl"}:
        assert room(other) == room(name) or floor(other) < floor(name), f"{name} imports {other}, which is not below it"


def test_no_module_is_reached_from_itself():
    graph = {name: imported(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    # A package imports what is public, and its own modules do not ask it for it.
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {name: others - packages for name, others in graph.items() if name not in packages}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_modules_do_not_hide_imports_of_their_own_house():
    """An import inside a function hides a circle, or a room that is not below."""
    for name, path in MODULES.items():
        hidden = (imported(path) - imported(path, top_level=True)) & MODULES.keys()
        assert not hidden or room(name) in ("doctor",) or name == "infoatlas_rl.tasks.cli", f"{name} hides {hidden}"


@pytest.mark.parametrize("folder", ["infoatlas_rl", "policies", "tasks", "tests"])
def test_files_are_short(folder):
    for path in (ROOT / folder).rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines <= LONGEST, f"{path} has {lines} lines"
        if path.parent.name == "tasks" and folder == "tasks":
            assert lines <= LONGEST_COMMAND, f"{path} has {lines} lines; a command composes a config, calls the library, prints"


def test_only_some_rooms_need_more_than_the_core():
    for name, path in MODULES.items():
        if room(name) in ("policies", "tasks") or MORE_DEPENDENCIES & set(name.split(".")):
            continue
        foreign = {module.split(".")[0] for module in imported(path)} - CORE_DEPENDENCIES - set(sys.stdlib_module_names)
        assert not foreign, f"{path} imports {foreign}"


def test_importing_the_library_loads_no_simulator_and_no_hydra():
    code = (
        "import sys, infoatlas_rl, infoatlas_rl.keystates;"
        "print([m for m in ('sapien', 'mani_skill', 'gymnasium', 'hydra', 'matplotlib', 'h5py', 'scipy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
