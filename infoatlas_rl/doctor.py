"""``infoatlas doctor``: find the usual set-up faults and say the fix for each.

Every check runs by itself: one that fails does not keep the others from being made.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infoatlas_rl.files import lock_holder

CHECKOUT = Path(__file__).parents[1]
ROBOT = (
    "pip install -c constraints.txt -e '.[robot]'"
    if (CHECKOUT / "constraints.txt").is_file()
    else "pip install 'infoatlas-rl[robot]'"
)
"""What installs the robot extra: in a checkout the tested versions, of a wheel what it asks for."""
GOOD, NOTE, FAULT = "ok", "note", "FAULT"


@dataclass(frozen=True)
class Finding:
    """Result of one check: state ``ok``, ``note`` (works, with a restriction) or ``FAULT``, and what to do."""

    name: str
    state: str
    text: str
    fix: str | None = None


def check_python() -> Finding:
    version = platform.python_version()
    if sys.version_info >= (3, 13):
        return Finding("python", NOTE, f"{version}; the simulator has wheels up to 3.12", "use Python 3.11 for the robot extra")
    return Finding("python", GOOD, version)


def check_torch() -> Finding:
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU only, which is enough"
    return Finding("torch", GOOD, f"{torch.__version__}, {device}")


def check_weights() -> Finding:
    from infoatlas_rl.weights import WeightsError, released, released_file

    try:
        names = {name: entry["format"] for name, entry in released().items()}
        for name, file_format in names.items():
            released_file(name, file_format)
    except WeightsError as error:
        return Finding("weights", FAULT, str(error), "reinstall infoatlas-rl")
    return Finding("weights", GOOD, f"{', '.join(names)}: checksums match")


def check_robot_extra() -> Finding:
    needed = ("mani_skill", "sapien", "gymnasium", "stable_baselines3", "hydra", "h5py", "rich", "matplotlib", "tensorboard")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("robot extra", NOTE, f"not installed: {', '.join(missing)}", ROBOT)
    return Finding("robot extra", GOOD, f"mani_skill {_version('mani_skill')}, sapien {_version('sapien')}")


def check_numpy_mplib() -> Finding:
    numpy = _version("numpy")
    if importlib.util.find_spec("mplib") is None:
        return Finding(
            "numpy and mplib",
            NOTE,
            f"numpy {numpy}, no mplib: no motion planning",
            ROBOT,
        )
    if int(numpy.split(".")[0]) >= 2:
        return Finding(
            "numpy and mplib",
            FAULT,
            f"numpy {numpy} with mplib {_version('mplib')}: the planner dies without a traceback",
            "pip install 'numpy<2'",
        )
    return Finding("numpy and mplib", GOOD, f"numpy {numpy}, mplib {_version('mplib')}")


def check_gymnasium() -> Finding:
    if importlib.util.find_spec("gymnasium") is None:
        return Finding("gymnasium", NOTE, "not installed", ROBOT)
    version = _version("gymnasium")
    if version.startswith("0."):
        return Finding("gymnasium", FAULT, f"{version}: the environments here follow gymnasium 1", "pip install 'gymnasium>=1.0'")
    return Finding("gymnasium", GOOD, version)


def check_rendering() -> Finding:
    if importlib.util.find_spec("sapien") is None:
        return Finding("rendering", NOTE, "SAPIEN is not installed", ROBOT)
    # In a process of its own: a broken Vulkan driver can end the process that asks.
    code = "from infoatlas_rl.maniskill.renderless import rendering_device as r; print('device:', r())"
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    device = next((line[8:] for line in answer.stdout.splitlines() if line.startswith("device: ")), None)
    if device is None:
        return Finding(
            "rendering", FAULT, f"asking Vulkan ended with code {answer.returncode}", "remove or reinstall the Vulkan driver"
        )
    if device == "None":
        return Finding(
            "rendering",
            NOTE,
            "no rendering device: physics and state observations work, frames do not",
            "for frames on the CPU: Mesa's mesa-vulkan-drivers 24 or later (Debian 12: from backports)",
        )
    return Finding("rendering", GOOD, device)


def check_simulator() -> Finding:
    if importlib.util.find_spec("mani_skill") is None:
        return Finding("simulator", NOTE, "ManiSkill is not installed", ROBOT)
    code = (
        "from infoatlas_rl.maniskill.envs import make_env, read_state; from infoatlas_rl.maniskill.tasks import get_task;"
        "t = get_task('PickCube'); e = make_env(t); e.reset(seed=0); e.step(e.action_space.sample());"
        "print('state:', len(read_state(e, t)))"
    )
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    if "state: 100" not in answer.stdout:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("simulator", FAULT, f"PickCube does not step: {last}", ROBOT)
    return Finding("simulator", GOOD, "PickCube steps")


def check_disk() -> Finding:
    folder = _existing(_root())
    free = shutil.disk_usage(folder).free / 2**30
    if free < 2:
        return Finding(
            "disk",
            FAULT,
            f"{free:.1f} GiB free in {folder.resolve()}; demonstrations and runs need about 2",
            "free some space, or set paths.root=",
        )
    return Finding("disk", GOOD, f"{free:.0f} GiB free in {folder.resolve()}")


def check_folders() -> Finding:
    for name in ("demos", "runs"):
        folder = _existing(_root() / name)
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            return Finding(
                "folders", FAULT, f"cannot write to {folder} ({error.strerror})", "allow it, or set paths.root= to another folder"
            )
    return Finding("folders", GOOD, f"demos and runs can be written in {_root().resolve()}")


def check_memory() -> Finding:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():  # what is free and what the system would give back
        free = int(re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text())[1]) / 2**20
    if free < 1:
        return Finding("memory", FAULT, f"{free:.1f} GiB free; one simulator process takes half of one", "end other programs")
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free < 2**26:
        return Finding("memory", NOTE, f"{free:.1f} GiB free, but {shared} is full", "empty it; in docker: --shm-size=1g")
    if free < 3:
        return Finding("memory", NOTE, f"{free:.1f} GiB free; one simulator process takes half of one", "use fewer processes")
    return Finding("memory", GOOD, f"{free:.0f} GiB free")


def check_threads() -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        return Finding(
            "threads", NOTE, f"{threads} threads on {cores} cores wait for each other", f"export OMP_NUM_THREADS={cores}"
        )
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads > 1 and busy + threads > cores + 1:
        text = f"{threads} on {cores} cores that others use (load {busy:.1f}); they wait for each other, at many times the time"
        return Finding("threads", NOTE, text, "export OMP_NUM_THREADS=1, or threads=1 for a command")
    return Finding("threads", GOOD, f"{threads} on {cores} cores")


def check_locks() -> Finding:
    """Runs at work. A ``.lock`` that nobody holds is no fault; one held for a process that is not there is worth a look."""
    files = [file for name in ("demos", "runs") for file in (_root() / name).glob("**/.lock")]
    holders = {file.parent: holder for file in files if (holder := lock_holder(file.parent)) is not None}
    for folder, holder in holders.items():
        process = re.match(r"process (\d+):", holder)
        if process is None or not _lives(int(process[1])):
            text = f"{folder} is locked by {holder or 'somebody'}, which is no process of this machine"
            return Finding("runs", NOTE, text, "look for it on the machines that share this folder, or choose another folder")
    at_work = "; ".join(f"{folder} ({holder})" for folder, holder in holders.items())
    return Finding("runs", GOOD, f"at work in {at_work}" if holders else "none at work")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_weights,
    check_robot_extra,
    check_numpy_mplib,
    check_gymnasium,
    check_rendering,
    check_simulator,
    check_disk,
    check_folders,
    check_memory,
    check_threads,
    check_locks,
)


def examine() -> list[Finding]:
    """Run all checks; a check that breaks is a fault of its own."""
    findings = []
    for check in CHECKS:
        try:
            findings.append(check())
        except Exception as error:  # whatever it is, it belongs in the report
            findings.append(Finding(check.__name__.removeprefix("check_"), FAULT, f"{type(error).__name__}: {error}"))
    return findings


def main() -> int:
    findings = examine()
    for finding in findings:
        print(f"{finding.state:>5}  {finding.name}: {finding.text}")
        if finding.fix is not None:
            print(f"       fix: {finding.fix}")
    faults = sum(finding.state == FAULT for finding in findings)
    print("no faults" if not faults else f"{faults} fault{'s' if faults > 1 else ''}")
    return 1 if faults else 0


def _root() -> Path:
    """Where the commands keep demonstrations and runs, unless ``paths.root=`` says otherwise."""
    return Path(os.environ.get("INFOATLAS_ROOT", "."))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _version(package: str) -> str:
    return importlib.metadata.version(package)


if __name__ == "__main__":
    sys.exit(main())
