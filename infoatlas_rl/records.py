"""Where figures are from: version, machine, command and seed, the same in all files of results."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from infoatlas_rl.files import replace_file, require_writable
from infoatlas_rl.version import __version__


def provenance(script: str, *, threads: int | None = None, seed: int | list[int] | None = None) -> dict[str, Any]:
    """What every result says of itself: version, machine, command, and the seed or seeds that it was made with."""
    origin = {"version": __version__, "machine": describe_machine(threads), "command": command_line(script)}
    return origin if seed is None else origin | {"seed": seed}


TYPED: list[str] = []
"""The command of this process as it was typed, where ``sys.argv`` has been changed since."""


def command_line(script: str) -> str:
    """The command of this process as it can be typed again, without the options that change no result."""
    typed = TYPED or sys.argv
    options = [option for option in typed[1:] if not option.startswith(("jobs=", "only_collect="))]
    program = typed[0].split() if typed[0].startswith("infoatlas ") else ["python", f"tasks/{script}.py"]
    return " ".join(map(_quoted, [*program, *options]))


def _quoted(word: str) -> str:
    """For a shell; in double quotes where that reads better."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def describe_machine(threads: int | None = None) -> dict[str, Any]:
    """Where a figure was measured."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_json(path: Path | str, content: Any) -> None:
    """Write a result, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_results(path: Path | str) -> dict[str, Any]:
    """What a file of results holds; nothing where there is none.

    Raises:
        ValueError: it is no file of results.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is there already and holds no results; move it, or choose another out=")
    return content


def require_results(path: Path | str) -> None:
    """Raise a ValueError unless results can be written there: nothing else is written over. Ask before the work, not after it."""
    require_writable(Path(path))
    read_results(path)


def keep_result(path: Path | str, name: str, result: dict[str, Any], *, merge: bool = False) -> dict[str, Any]:
    """Write the result of one task into a file of results, beside those of other tasks (and, with ``merge``, beside earlier
    entries of its own); returns all of them."""
    path = Path(path)
    content = read_results(path)
    content[name] = {**content.get(name, {}), **result} if merge else result
    write_json(path, content)
    return content
