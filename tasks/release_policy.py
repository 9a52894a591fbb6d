"""Make a trained policy the released one of its task, and evaluate it to the end of every episode.

    python tasks/release_policy.py env=StackCube policy=runs/policies/StackCube/infoatlas-0/policy.safetensors

Copies the policy to ``pretrained/policies`` and writes its success on seen and unseen scenes, at any step and at the end, to
``docs/results/policies.json``.
"""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.policies.policy import FORMAT, KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task
from infoatlas_rl.records import keep_result, require_results
from infoatlas_rl.tasks.shell.options import hydra_main, typed_env
from infoatlas_rl.tasks.suites.arms import run_task
from infoatlas_rl.weights import release_file

LARGEST = 10 * 2**20
"""Bytes of a released policy."""


def release(cfg: DictConfig) -> Path:
    task = policy_task(cfg.env.task)
    if cfg.policy is None:
        raise ValueError("say which policy is to be released: policy=PATH")
    source = Path(cfg.policy)
    _, record = KeyStatePolicy.load_with_record(source, task.name)
    if source.stat().st_size > LARGEST:
        raise ValueError(f"{source} has {source.stat().st_size / 2**20:.1f} MB; a released policy has at most {LARGEST >> 20} MB")
    if "chosen_step" not in record:
        raise ValueError(f"{source} is a candidate of a training; release the policy.safetensors that it ended with")
    require_results(cfg.out)
    folder = Path(cfg.folder)
    target = folder / "policies" / f"{task.name}.safetensors"
    results = {}
    for split in ("seen", "unseen"):
        result = Path(cfg.run) / f"{split}.json"
        options = [f"env={task.name}", f"policy={source}", f"eval.split={split}", f"out={result}", f"run={cfg.run}/evaluation"]
        run_task("evaluate_policy", Path(cfg.run) / "evaluate_policy.txt", *options, f"eval.processes={cfg.processes}")
        content = json.loads(result.read_text())
        del content["episodes"]
        content["policy"]["path"] = str(target)
        content["command"] = f"python tasks/evaluate_policy.py env={typed_env(task.name)} eval.split={split}"
        results[split] = content
        print(f"{task.name}, {split}: {content['k']} of {content['n']} at any step, {content['k_at_end']} at the end")
    release_file(source, task.name, f"policies/{task.name}.safetensors", FORMAT, folder)
    training = {key: record[key] for key in ("seconds", "steps_per_s", "machine", "command", "chosen_step")}
    results["training"] = training | {"steps": record["config"]["training"]["steps"]}
    results["weights_sha256"] = record["keystates"].get("weights_sha256")  # of InfoAtlas; none where it was not asked
    keep_result(Path(cfg.out), task.name, results)
    print(f"released: {target}, results: {cfg.out}")
    return target


@hydra_main("release_policy")
def main(cfg: DictConfig) -> None:
    release(cfg)


if __name__ == "__main__":
    main()
