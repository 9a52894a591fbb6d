"""Make the weights of a finished pretraining run the released ones.

    python tasks/release_weights.py run=runs/pretrain/base name=base

Copies ``weights.safetensors`` to ``pretrained/infoatlas-<name>.safetensors`` and notes its SHA-256 in the manifest; where the
critic is that of the weights before, and only the calibrated head is another one, theirs as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from omegaconf import DictConfig
from safetensors import safe_open

from infoatlas_rl.estimator.model import FORMAT, read_weights
from infoatlas_rl.files import sha256
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.weights import pretrained_folder, release_file, released


def release(run: Path, name: str) -> Path:
    source = run / "weights.safetensors"
    _, record = read_weights(source)
    before = released().get(name)
    same = before is not None and _critic(pretrained_folder() / before["file"]) == _critic(source)
    more = {"same_critic": [*before.get("same_critic", []), before["sha256"]]} if same else {}
    target = release_file(source, name, f"infoatlas-{name}.safetensors", FORMAT, **more)
    print(f"{target}: {record['problems']} problems, {record['hours']} h; sha256 {sha256(target)}")
    return target


def _critic(path: Path) -> str:
    """A hash of all tensors of a weights file, of whatever format, but those that the quantiles of the MI are computed with."""
    digest = hashlib.sha256()
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            if not name.startswith("calibrated_head.") or name.startswith("calibrated_head.gradient."):
                digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
    return digest.hexdigest()


@hydra_main("release_weights")
def main(cfg: DictConfig) -> None:
    release(Path(cfg.run), cfg.name)


if __name__ == "__main__":
    main()
