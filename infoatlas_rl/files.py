"""Writing files so that a half-written one is never left."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def replace_file(path: Path | str) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it is renamed to ``path`` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path | str) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs; the lock ends with the process, however that ends.

    Raises:
        ValueError: another run is at work there; the message says which.
    """
    import fcntl  # not on every system, and needed by runs alone

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"another run is at work in {folder} ({file.read().strip()}); wait until it has ended, or choose another folder"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}: {shlex.join(sys.argv)}")
        file.flush()
        yield


def read_checkpoint(path: Path | str, identity: str, **options: Any) -> dict[str, Any]:
    """What ``torch.save`` wrote, a dictionary with the entry ``identity`` that says of which run it is.

    Raises:
        ValueError: it is damaged, or was written by another version.
    """
    try:
        content = torch.load(path, weights_only=True, **options)
        content[identity]
    except Exception as error:  # of many kinds, after what is wrong with the file
        raise ValueError(
            f"{path} is damaged or not a checkpoint of this version ({type(error).__name__}); delete it, or resume=false"
        ) from error
    return content


def require_same_run(
    path: Path | str, there: Mapping[str, Any], here: Mapping[str, Any], remedy: str = "choose another folder, or resume=false"
) -> None:
    """Raise a ValueError that names both sides of every option in which the run at ``path`` differs from this one."""
    if differing := [name for name in {**here, **there} if there.get(name) != here.get(name)]:
        pairs = "; ".join(f"{name}: {there.get(name)} there, {here.get(name)} here" for name in differing)
        raise ValueError(f"{path} is of another run ({pairs}); {remedy}")


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
