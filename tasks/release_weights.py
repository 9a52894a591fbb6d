"""Make the weights of a finished pretraining run the released ones.

    python tasks/release_weights.py run=runs/pretrain/base name=base

Copies ``weights.safetensors`` to ``pretrained/infoatlas-<name>.safetensors`` and notes its SHA-256 in the manifest.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.estimator.model import FORMAT, read_weights
from infoatlas_rl.files import sha256
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.weights import release_file


def release(run: Path, name: str) -> Path:
    source = run / "weights.safetensors"
    _, record = read_weights(source)
    target = release_file(source, name, f"infoatlas-{name}.safetensors", FORMAT)
    print(f"{target}: {record['problems']} problems, {record['hours']} h; sha256 {sha256(target)}")
    return target


@hydra_main("release_weights")
def main(cfg: DictConfig) -> None:
    release(Path(cfg.run), cfg.name)


if __name__ == "__main__":
    main()
