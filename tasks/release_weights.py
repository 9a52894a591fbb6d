"""Make the weights of a finished pretraining run the released ones.

    python tasks/release_weights.py run=runs/pretrain/base name=base

Copies ``weights.safetensors`` to ``pretrained/infoatlas-<name>.safetensors`` and notes its SHA-256 in the manifest.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from infoatlas_rl.files import replace_file, sha256
from infoatlas_rl.weights import read_weights
from tasks.common import hydra_main


def release(run: Path, name: str, folder: Path) -> Path:
    source = run / "weights.safetensors"
    _, record = read_weights(source)
    target = folder / f"infoatlas-{name}.safetensors"
    with replace_file(target) as temporary:
        shutil.copyfile(source, temporary)
    manifest = folder / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.is_file() else {}
    entries[name] = {"file": target.name, "sha256": sha256(target)}
    with replace_file(manifest) as temporary:
        temporary.write_text(json.dumps(entries, indent=1) + "\n")
    print(f"{target}: {record['problems']} problems, {record['hours']} h; sha256 {entries[name]['sha256']}")
    return target


@hydra_main("release_weights")
def main(cfg: DictConfig) -> None:
    release(Path(cfg.run), cfg.name, ROOT / "pretrained")


if __name__ == "__main__":
    main()
