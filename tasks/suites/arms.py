"""Training and evaluating policies as processes of their own: what the comparisons of policies share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl.files import replace_file, require_same_run, sha256
from infoatlas_rl.tasks.shell.options import STARTED_BY, typed_env
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.weights import hashes_of_critic, weights_hash


def run_task(script: str, log: Path, *options: str) -> None:
    """Run ``tasks/<script>.py`` on one thread; its output goes to ``log``, the end of which is shown if it fails. The name of a
    task of one's own becomes that of its file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    path = Path(__file__).parents[1] / f"{script}.py"
    options = tuple(_with_file(option) for option in options)
    with open(log, "a") as file:
        command = [sys.executable, "-u", str(path), *options]
        code = subprocess.run(
            command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1", STARTED_BY: str(os.getpid())}
        ).returncode
    if code != 0:
        end = "\n".join(log.read_text().splitlines()[-15:])
        raise RuntimeError(f"tasks/{script}.py {' '.join(options)} failed ({log}):\n{end}")


def _with_file(option: str) -> str:
    key, _, value = option.partition("=")
    return f"env={Path(typed_env(value)).absolute()}" if key == "env" and typed_env(value) != value else option


def paths(cfg: DictConfig) -> list[str]:
    """The options that make another task use the same folders."""
    return [f"paths.{name}={value}" for name, value in cfg.paths.items()]


def collect_first(cfg: DictConfig, count: int) -> None:
    """Demonstrations are there before the first job: two jobs at the same time would both collect them."""
    options = [f"env={cfg.env.name}", f"demos.count={count}", "demos.control_mode=pd_joint_pos", *paths(cfg)]
    run_task("collect_demos", Path(cfg.run) / "collect_demos.txt", *options)


def train_and_evaluate(folder: Path, env: str, splits: dict[str, int], *options: str) -> None:
    """Train a policy into ``folder`` and evaluate it; what is there already is not done again.

    Args:
        env: short name of the task.
        splits: "seen" or "unseen" to the number of scenes.
        options: of ``tasks/train_policy.py``.

    Raises:
        ValueError: the policy that is there was trained with other options, or with other key states.
    """
    policy, noted = folder / "policy.safetensors", folder / "options.json"
    if noted.is_file():
        there, here = (dict(option.split("=", 1) for option in some) for some in (json.loads(noted.read_text()), options))
        require_same_run(folder, there, here, "remove the folder, or choose another run=")
    if policy.is_file():
        _require_same_keystates(folder)
    else:
        with replace_file(noted) as temporary:
            temporary.write_text(json.dumps(sorted(options)))
        fixed = [f"env={env}", f"out={folder}", "threads=1", "validation.processes=1"]
        run_task("train_policy", folder / "train_policy.txt", *fixed, *options)
    for split, episodes in splits.items():
        if not _evaluated(folder, split, episodes):
            fixed = [f"env={env}", f"policy={policy}", f"eval.split={split}", f"out={folder}/{split}.json"]
            fixed += [f"run={folder}/evaluation", "eval.stop_at_success=true", "eval.processes=1", f"eval.episodes={episodes}"]
            run_task("evaluate_policy", folder / "evaluate_policy.txt", *fixed)


def _require_same_keystates(folder: Path) -> None:
    used = json.loads((folder / "training.json").read_text())["keystates"]
    path = used.get("path")
    if path is not None and Path(path).is_file() and sha256(path) != used["sha256"]:
        raise ValueError(
            f"{path} has changed since the policy in {folder} was trained; remove the folder, or choose another run="
        )


def _evaluated(folder: Path, split: str, episodes: int) -> bool:
    """Whether this very policy has been evaluated on as many scenes."""
    path = folder / f"{split}.json"
    if not path.is_file():
        return False
    content = json.loads(path.read_text())
    return content["policy"]["sha256"] == sha256(folder / "policy.safetensors") and content["n"] == episodes


def training_record(folder: Path) -> dict[str, Any]:
    """How the policy in ``folder`` was made; its key states have to be those of the released InfoAtlas weights."""
    record = json.loads((folder / "training.json").read_text())
    released, used = weights_hash("base"), record["keystates"].get("weights_sha256")
    if used not in {None, *hashes_of_critic("base")}:
        raise ValueError(
            f"the key states of {folder} were found with InfoAtlas weights {used[:12]}, the released ones are {released[:12]}; "
            "discover them again, remove the folder, and train again"
        )
    return record


def outcomes(folder: Path, split: str) -> dict[int, bool] | None:
    """Scene to success of an evaluation; None where there is none."""
    path = folder / f"{split}.json"
    if not path.is_file():
        return None
    return {episode["seed"]: episode["success"] for episode in json.loads(path.read_text())["episodes"]}


def run_all(title: str, jobs: Sequence[tuple[str, Callable[[], Any]]], at_once: int, after: Callable[[], Any]) -> None:
    """Run named jobs, ``at_once`` at a time, and ``after`` when one is done; an error ends it once the running ones are done."""
    with ThreadPoolExecutor(at_once) as pool, progress_bar(title, len(jobs)) as bar:
        futures = {pool.submit(job): name for name, job in jobs}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                bar(done, futures[future])
                after()
        finally:
            pool.shutdown(cancel_futures=True)
