"""Released weights: safetensors files with the configuration in the header, checked against a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from infoatlas_rl.files import one_line, replace_file, sha256

M = TypeVar("M", bound=nn.Module)


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class WeightsError(RuntimeError):
    """Weights are missing, damaged or of another architecture; the message says which and what to do."""


def pretrained_folder() -> Path:
    """Folder of the released weights: inside the installed package, or ``pretrained/`` of a checkout."""
    package = Path(str(resources.files("infoatlas_rl")))
    installed = package / "pretrained"
    return installed if installed.is_dir() else package.parent / "pretrained"


def released(file_format: str | None = None) -> dict[str, dict[str, Any]]:
    """The manifest of released files, all or those of one format: ``{name: {"file", "format", "sha256"}}``."""
    manifest = pretrained_folder() / "manifest.json"
    if not manifest.is_file():
        raise WeightsError(f"{manifest} is missing: the installation is incomplete; reinstall infoatlas-rl")
    entries = json.loads(manifest.read_text())
    return {name: entry for name, entry in entries.items() if file_format in (None, entry["format"])}


def released_entry(name: str, file_format: str | None = None) -> dict[str, Any]:
    """What the manifest says of a name.

    Raises:
        WeightsError: no such name, or none of this format.
    """
    entries = released(file_format)
    if name not in entries:
        raise WeightsError(f"no released weights {name!r}; there are {', '.join(entries)}, or give a path to a .safetensors file")
    return entries[name]


def released_file(name: str, file_format: str) -> Path:
    """The released file of a name, if it is what the manifest says.

    Raises:
        WeightsError: no such name among the files of this format, no such file, or a wrong checksum (both are named).
    """
    entry = released_entry(name, file_format)
    path = pretrained_folder() / entry["file"]
    if not path.is_file():
        raise WeightsError(f"{path} is missing: the installation is incomplete; reinstall infoatlas-rl")
    expected, actual = entry["sha256"], sha256(path)
    if actual != expected:
        raise WeightsError(f"{path} is damaged: sha256 is {actual}, the manifest says {expected}; reinstall infoatlas-rl")
    return path


def release_file(source: Path, name: str, file: str, file_format: str, folder: Path | None = None, **more: Any) -> Path:
    """Copy a file to the released ones, or to those of another folder, and note it in the manifest there, with ``more``."""
    folder = folder or pretrained_folder()
    target, manifest = folder / file, folder / "manifest.json"
    with replace_file(target) as temporary:
        shutil.copyfile(source, temporary)
    entries = json.loads(manifest.read_text()) if manifest.is_file() else {}
    entries[name] = {"file": file, "format": file_format, "sha256": sha256(target)} | more
    with replace_file(manifest) as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n")
    return target


def weights_file(name: str | Path, file_format: str) -> Path:
    """Of released weights by name, or the path itself.

    Raises:
        WeightsError: as :func:`released_file`.
    """
    return Path(name) if str(name).endswith(".safetensors") else released_file(str(name), file_format)


def weights_stamp(name: str | Path) -> tuple[Path, int, int] | None:
    """Where the file of a name is, when it was changed and how long it is; None where there is none."""
    path = Path(name) if str(name).endswith(".safetensors") else pretrained_folder() / released_entry(str(name))["file"]
    if not path.is_file():
        return None
    about = path.stat()
    return path.resolve(), about.st_mtime_ns, about.st_size


def weights_hash(name: str | Path) -> str:
    """SHA-256 of released weights or of a weights file.

    Raises:
        WeightsError: no such name.
    """
    return sha256(name) if str(name).endswith(".safetensors") else released_entry(str(name))["sha256"]


def hashes_of_critic(name: str) -> frozenset[str]:
    """SHA-256 of released weights, and of earlier ones with the same critic and another calibrated head: what follows from the
    critic, as key states and the loss do, is the same with all of them."""
    entry = released_entry(name)
    return frozenset([entry["sha256"], *entry.get("same_critic", [])])


def fingerprint(model: nn.Module) -> str:
    """A short hash of the tensors of a module."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def write_model(path: Path, model: nn.Module, file_format: str, record: dict[str, Any]) -> None:
    """Write any model that has a ``config``, with a header that says all that is needed to read it."""
    header = {"format": file_format, "config": json.dumps(asdict(model.config)), "record": json.dumps(record)}
    with replace_file(path) as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary, metadata=header)
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Metadata of a safetensors file in the order of its names: safetensors writes it in another one every time, and the same
    model would have another checksum."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def read_model(path: Path, file_format: str, build: Callable[[dict[str, Any]], M], script: str) -> tuple[M, dict[str, Any]]:
    """Read what :func:`write_model` wrote; ``build`` makes the model of a configuration, ``script`` trains another one."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; {script} makes one")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:  # of many kinds, after what is damaged
        raise WeightsError(f"{path}: not a readable safetensors file ({one_line(error)})") from error
    if header.get("format") != file_format:
        raise WeightsError(f"{path}: format {header.get('format')!r}, this version reads {file_format!r}; retrain with {script}")
    # A tensor of a type that models do not have is refused below.
    if broken := [name for name, t in tensors.items() if t.dtype in _FLOATS and not bool(torch.isfinite(t).all())]:
        raise WeightsError(f"{path}: {broken[0]} is not finite, so the training that wrote it had diverged; train with {script}")
    try:
        config = json.loads(header["config"])
        stored = sum(tensor.numel() for tensor in tensors.values())
        if large := [name for name, value in config.items() if isinstance(value, int) and value > stored]:
            raise ValueError(f"{large[0]} is {config[large[0]]}, but the file holds {stored} numbers")
        with torch.random.fork_rng(devices=[]):  # weights to begin with, which are replaced, are random
            model = build(config)
        model.load_state_dict(tensors, strict=True)
        record = json.loads(header["record"])
    except Exception as error:
        raise WeightsError(f"{path}: weights and architecture do not match: {one_line(error)}") from error
    return model, record
