"""Make a trained policy the released one of its task, and evaluate it to the end of every episode.

    python tasks/release_policy.py env=StackCube policy=runs/policies/StackCube/infoatlas-0/policy.safetensors

Copies the policy to ``pretrained/policies`` and writes its success on seen and unseen scenes, at any step and at the end, to
``docs/results/policies.json``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.weights import weights_hash
from policies.policy import KeyStatePolicy
from tasks.arms import run_task
from tasks.common import hydra_main

LARGEST = 10 * 2**20
"""Bytes of a released policy."""


def release(cfg: DictConfig) -> Path:
    task = get_task(**cfg.env.task)
    if cfg.policy is None:
        raise ValueError("say which policy is to be released: policy=PATH")
    source = Path(cfg.policy)
    _, record = KeyStatePolicy.load_with_record(source, task.name)
    if source.stat().st_size > LARGEST:
        raise ValueError(f"{source} has {source.stat().st_size / 2**20:.1f} MB; a released policy has at most {LARGEST >> 20} MB")
    target = Path(cfg.folder) / f"{task.name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(target) as temporary:
        shutil.copyfile(source, temporary)
    results = {}
    for split in ("seen", "unseen"):
        out = Path(cfg.run) / f"{split}.json"
        options = [f"env={task.name}", f"policy={target}", f"eval.split={split}", f"out={out}", f"run={cfg.run}/evaluation"]
        run_task("evaluate_policy", Path(cfg.run) / "evaluate_policy.txt", *options, f"eval.processes={cfg.processes}")
        content = json.loads(out.read_text())
        del content["episodes"]
        content["command"] = f"python tasks/evaluate_policy.py env={task.name} eval.split={split}"
        results[split] = content
        print(f"{task.name}, {split}: {content['k']} of {content['n']} at any step, {content['k_at_end']} at the end")
    out = Path(cfg.out)
    merged = json.loads(out.read_text()) if out.is_file() else {}
    training = {key: record[key] for key in ("seconds", "steps_per_s", "machine", "command", "chosen_step")}
    merged[task.name] = results | {
        "training": training | {"steps": record["config"]["training"]["steps"]},
        "weights_sha256": weights_hash("base"),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(out) as temporary:
        temporary.write_text(json.dumps(merged, indent=1))
    print(f"released: {target}, results: {out}")
    return target


@hydra_main("release_policy")
def main(cfg: DictConfig) -> None:
    release(cfg)


if __name__ == "__main__":
    main()
