"""Released weights: safetensors files with the configuration in the header, checked against a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.model import InfoAtlas, InfoAtlasConfig

FORMAT = "infoatlas-2"

M = TypeVar("M", bound=nn.Module)


class WeightsError(RuntimeError):
    """Weights are missing, damaged or of another architecture; the message says which and what to do."""


def pretrained_folder() -> Path:
    """Folder of the released weights: inside the installed package, or ``pretrained/`` of a checkout."""
    package = Path(str(resources.files("infoatlas_rl")))
    installed = package / "pretrained"
    return installed if installed.is_dir() else package.parent / "pretrained"


def released() -> dict[str, dict[str, str]]:
    """The manifest: ``{name: {"file", "sha256"}}``."""
    manifest = pretrained_folder() / "manifest.json"
    if not manifest.is_file():
        raise WeightsError(f"{manifest} is missing: the installation is incomplete; reinstall infoatlas-rl")
    return json.loads(manifest.read_text())


def load_pretrained(name: str | Path = "base") -> InfoAtlas:
    """Load released weights by name, or any weights file by path, in evaluation mode and frozen.

    Raises:
        WeightsError: no such weights, a wrong checksum (both are named), or another architecture. Weights are never
            replaced by random ones.
    """
    if str(name).endswith(".safetensors"):
        return _frozen(read_weights(Path(name))[0])
    manifest = released()
    if name not in manifest:
        raise WeightsError(
            f"no released weights {name!r}; there are {', '.join(manifest)}, or give a path to a .safetensors file"
        )
    path = pretrained_folder() / manifest[name]["file"]
    if not path.is_file():
        raise WeightsError(f"{path} is missing: the installation is incomplete; reinstall infoatlas-rl")
    expected, actual = manifest[name]["sha256"], sha256(path)
    if actual != expected:
        raise WeightsError(f"{path} is damaged: sha256 is {actual}, the manifest says {expected}; reinstall infoatlas-rl")
    return _frozen(read_weights(path)[0])


def weights_hash(name: str | Path) -> str:
    """SHA-256 of released weights or of a weights file."""
    return sha256(name) if str(name).endswith(".safetensors") else released()[name]["sha256"]


def fingerprint(model: nn.Module) -> str:
    """A short hash of the tensors of a module."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def write_weights(path: Path, model: InfoAtlas, record: dict[str, Any]) -> None:
    """Write weights with their configuration and a record of how they were made."""
    write_model(path, model, FORMAT, record)


def read_weights(path: Path) -> tuple[InfoAtlas, dict[str, Any]]:
    """Read a model and the record of how it was made; every tensor has to be there and to fit."""
    return read_model(path, FORMAT, lambda config: InfoAtlas(InfoAtlasConfig(**config)), "tasks/pretrain.py")


def write_model(path: Path, model: nn.Module, file_format: str, record: dict[str, Any]) -> None:
    """Write any model that has a ``config``, with a header that says all that is needed to read it."""
    header = {"format": file_format, "config": json.dumps(asdict(model.config)), "record": json.dumps(record)}
    with replace_file(path) as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary, metadata=header)


def read_model(path: Path, file_format: str, build: Callable[[dict[str, Any]], M], script: str) -> tuple[M, dict[str, Any]]:
    """Read what :func:`write_model` wrote; ``build`` makes the model of a configuration, ``script`` trains another one."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    if header.get("format") != file_format:
        raise WeightsError(f"{path}: format {header.get('format')!r}, this version reads {file_format!r}; retrain with {script}")
    try:
        model = build(json.loads(header["config"]))
        model.load_state_dict(tensors, strict=True)
        record = json.loads(header["record"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: weights and architecture do not match: {error}") from error
    return model, record


def _frozen(model: InfoAtlas) -> InfoAtlas:
    return model.eval().requires_grad_(False).float()
