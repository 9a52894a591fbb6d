"""Writing files so that a half-written one is never left, and folders so that two runs never mix theirs."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class FullDiskError(OSError):
    """A file could not be written because the disk is full; the message says which disk."""


@contextmanager
def replace_file(path: Path | str) -> Iterator[Path]:
    """An empty temporary file beside ``path`` to write to; it is renamed to ``path`` when the block ends well.

    ``path`` then has the usual mode, whatever the writer made of it. Temporary files of killed runs are removed.

    Raises:
        OSError: ``path`` is a folder, cannot be written to, has too long a name, or the disk is full; in one line.
    """
    path = Path(path)
    with _said_clearly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stem = _temporary_stem(path)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; name a file")
        remove_leftovers(path.parent, re.compile(re.escape(f".{stem}.") + r"(\d+)\.tmp"))
        temporary = path.with_name(f".{stem}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
    try:
        try:
            yield temporary
        except Exception as error:
            if (full := full_disk(error, path.parent)) is not None:
                raise FullDiskError(f"{path} could not be written: {full}") from error
            raise
        with _said_clearly(path):
            temporary.chmod(mode)  # some writers (safetensors) make a file that only its owner can read
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: re.Pattern[str]) -> None:
    """Delete the temporary files in a folder, of a ``name`` whose first group is a process, if that no longer lives."""
    for leftover in folder.iterdir():
        if (match := name.fullmatch(leftover.name)) is None:
            continue
        try:
            os.kill(int(match[1]), 0)
        except (ProcessLookupError, OverflowError):
            leftover.unlink(missing_ok=True)
        except PermissionError:  # it lives, and is another user's
            continue


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, or its kind where it says nothing; some quote whole files."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= most else f"{said[:most]}..."


def full_disk(error: BaseException | None, folder: Path | str) -> str | None:
    """What to say of a failure that came from a full disk under ``folder``, or None for any other failure.

    Writers in C report a full disk in words of their own (HDF5, safetensors), or none at all (torch, or a process that
    dies, ``error=None``); those are believed to have met a full disk where there is less than a megabyte left.
    """
    if isinstance(error, FullDiskError):
        return None  # said already
    free = shutil.disk_usage(folder).free / 1e6
    said = getattr(error, "errno", None) in _FULL or any(
        words in str(error) for words in ("No space left", "errno = 28", "quota exceeded", "File too large", "file write failed")
    )
    if said and free >= 1:
        return f"no space left for this file in {folder}: a quota or a limit on file sizes, for {free:.0f} MB are free there"
    silent = error is None or (isinstance(error, OSError | RuntimeError) and getattr(error, "errno", None) is None)
    if said or (silent and free < 1):
        return f"no space left on the disk of {folder} ({free:.1f} MB free); free some, or choose another folder"
    return None


def _temporary_stem(path: Path) -> str:
    """The name of ``path``, or a short stand-in where the name of its temporary file would be too long."""
    most = os.pathconf(path.parent, "PC_NAME_MAX")
    size = len(os.fsencode(path.name))
    if size > most:
        raise OSError(f"{path.parent}: the file name {path.name[:20]}... has {size} bytes; at most {most} are possible there")
    longest = len(f"..{2**32}.tmp")
    return path.name if size + longest <= most else hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]


@contextmanager
def _said_clearly(path: Path) -> Iterator[None]:
    """Failures of the system to make ``path``, in one line that names it and says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        folder = next((parent for parent in path.parents if parent.exists()), Path("/"))
        reason = full_disk(error, folder) or error.strerror
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"{folder} cannot be written to ({error.strerror}); choose another folder, or allow it"
        elif error.errno in (errno.EEXIST, errno.ENOTDIR):
            reason = f"{folder} is a file, not a folder"
        raise type(error)(f"{path} could not be written: {reason}") from error


@contextmanager
def lock_folder(folder: Path | str) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs; the lock ends with the process, however that ends.

    The file ``.lock`` that it leaves behind locks nothing. On a file system without locks a warning says so.

    Raises:
        ValueError: another run is at work there; the message says which.
        OSError: the folder cannot be made or written to.
    """
    import fcntl  # not on every system, and needed by runs alone

    folder = Path(folder)
    with _said_clearly(folder / ".lock"):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+")  # noqa: SIM115 (closed below)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"another run is at work in {folder} ({file.read().strip()}); wait until it has ended, or choose another folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"{folder} is on a file system without locks ({error.strerror}): see to it that no other run works there",
                stacklevel=3,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()}: {shlex.join(sys.argv)}")
        file.flush()
        yield


def lock_holder(folder: Path | str) -> str | None:
    """What the run that is at work in a folder wrote of itself, ``process <number>: <command>``; None without such a run."""
    import fcntl

    try:
        with open(Path(folder) / ".lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip()
    except OSError:  # no such file, or no locks there
        pass
    return None


def read_checkpoint(path: Path | str, identity: str, **options: Any) -> dict[str, Any]:
    """What ``torch.save`` wrote, a dictionary with the entry ``identity`` that says of which run it is.

    Raises:
        ValueError: there is none, it is damaged, or was written by another version.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
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


def require_writable(path: Path) -> None:
    """Raise a ValueError unless a file can be written there; its folder is made. Ask before the work, not after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); name a file in a folder that can be written to"
        ) from error
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file, as in {path / 'result.json'}")
