"""Discover the key states of a task from demonstrations, by maximal mutual information.

    python tasks/discover_keystates.py env=PegInsertion
    python tasks/discover_keystates.py env=PickCube experiment=quick
    python tasks/discover_keystates.py env=StackCube demos.path=trajectory.h5
    python tasks/discover_keystates.py env=PickCube discovery=maxmi                        # MaxMI's objective, to compare
    python tasks/discover_keystates.py env=any demos.path=trajectory.h5                    # any task of ManiSkill
    python tasks/discover_keystates.py env=any demos.path=trajectories.npz                 # any trajectories
    python tasks/discover_keystates.py env=any demos.path=low_dim.hdf5                     # robomimic; LeRobot, Zarr alike

Collects demonstrations where there are none, finds their key states, and writes to ``runs/keystates/<env>-<name>``:
``keystates.json``, ``.csv`` and ``.npz``, ``report.html`` with all pictures (``timeline.png``, ``mi_profile.png``,
``contact_sheet.png``, ``keystates.gif``), ``log.csv`` and TensorBoard scalars. A killed run goes on from its last epoch.
"""

from __future__ import annotations

import time
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.files import lock_folder
from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, TrajectorySet, make_finder
from infoatlas_rl.keystates.datasets import format_of, load_dataset
from infoatlas_rl.keystates.subtasks import require_place_for_subtasks, write_subtasks
from infoatlas_rl.keystates.trajectories import MIN_TRAJECTORIES, require_trajectories
from infoatlas_rl.maniskill.demos import load_demonstrations, recorded_env
from infoatlas_rl.maniskill.findings import Findings
from infoatlas_rl.maniskill.overview import draw_overview
from infoatlas_rl.maniskill.tasks import configured_task, get_task
from infoatlas_rl.maniskill.trajectories import Source
from infoatlas_rl.records import provenance
from infoatlas_rl.tasks.shell.options import defaults_of_discovery, hydra_main
from infoatlas_rl.tasks.shell.progress import RunLog, progress_bar
from infoatlas_rl.tasks.shell.sources import demonstrations
from infoatlas_rl.weights import weights_hash

defaults_of_discovery()


def discover(cfg: DictConfig) -> Path:
    """The whole job; returns the folder of results."""
    began, out = time.monotonic(), Path(cfg.out)
    # All that an option can be wrong about comes before the work.
    config: KeyStateConfig = OmegaConf.to_object(cfg.discovery)
    estimator = instantiate(cfg.estimator) if cfg.estimator else None
    mi_loss = instantiate(cfg.profile)
    if cfg.demos.path is None and cfg.demos.count < MIN_TRAJECTORIES:
        raise ValueError(
            f"demos.count={cfg.demos.count}: MI between states needs at least {MIN_TRAJECTORIES} demonstrations; "
            "tasks/generate_demos.py makes many of a few"
        )
    if cfg.demos.annotate:
        require_place_for_subtasks(cfg.demos.path or "the demonstrations of ManiSkill")
    source = None if cfg.demos.path is None else _enough(_source(cfg))  # what is refused leaves no folder
    with lock_folder(out):
        source = source or _enough(_source(cfg))
        print(f"{len(source)} demonstrations of {source.name} from {source.about['path']}")
        finder = make_finder(TrajectorySet(source.trajectories, config.delta), estimator, config)
        _train(finder, out, resume=cfg.resume)
        print("measuring the MI of the key states, and along the clock")
        findings = Findings(source, finder, mi_loss)
        findings.write(out, _record(cfg))
        if cfg.demos.annotate:
            episodes = [int(label.split()[1]) for label in source.labels]
            write_subtasks(cfg.demos.path, dict(zip(episodes, findings.key_states.steps.tolist(), strict=True)))
            print(f"stages as subtasks: {cfg.demos.path}")
        print(f"key states: {out / 'keystates.json'}, {out / 'keystates.npz'}\n\n{findings.concept_table().text()}")
        if findings.scores:
            print(findings.score_table().text())
        report = draw_overview(out, findings)
    print(f"report: {report}; discovery {finder.seconds:.0f} s, {time.monotonic() - began:.0f} s in all")
    return out


def _enough(source: Source) -> Source:
    require_trajectories(len(source))
    return source


def _source(cfg: DictConfig) -> Source:
    path = None if cfg.demos.path is None else str(cfg.demos.path)
    if cfg.env.task is None and path is None:
        raise ValueError(
            "env=any needs demos.path=PATH: a ManiSkill .h5 with its .json, an .npz of trajectories, or a data set of robomimic, "
            "LeRobot or diffusion policy"
        )
    if path is not None and format_of(path) is not None:
        found = load_dataset(path, cfg.demos.columns)
        print(found)
        return Source.of_dataset(found)
    if cfg.demos.columns is not None:
        raise ValueError(
            "demos.columns chooses among the columns of robomimic, LeRobot and diffusion policy; of ManiSkill's files and of "
            ".npz the whole state is taken: leave demos.columns out, or write an .npz of the columns alone"
        )
    if str(path).lower().endswith(".npz"):
        return Source.of_file(path)
    if path is not None and Path(path).suffix.lower() not in (".h5", ".hdf5"):
        there = "is none of these" if Path(path).exists() else "is not there"
        raise ValueError(
            f"{path} {there}: ManiSkill's .h5 with its .json, .npz, robomimic's .hdf5, a LeRobot folder with meta/info.json, a "
            ".zarr of diffusion policy"
        )
    if cfg.env.task is None:
        env_id = recorded_env(path)
        return Source.of_demonstrations(load_demonstrations(path, get_task(env_id, env_id)))
    return Source.of_demonstrations(demonstrations(cfg, configured_task(cfg.env.task)))


def _train(finder: KeyStateFinder, out: Path, *, resume: bool) -> None:
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.is_file():
        finder.load(checkpoint)
        print(f"resumed from {checkpoint} at epoch {finder.epoch}")
    log = RunLog(out, keep=finder.epoch > 0)
    with progress_bar("discovery", finder.config.epochs, start=finder.epoch) as bar:
        for figures in finder.fit(checkpoint):
            epoch = int(figures.pop("epoch"))
            log.write(epoch, figures)
            bar(epoch, f"information {figures['information']:.3f} nats, moved {figures['moved']:.0f} ticks")
    log.close()


def _record(cfg: DictConfig) -> dict[str, object]:
    by_infoatlas = cfg.estimator.get("_target_") == "infoatlas_rl.InfoAtlasLoss"
    return {
        **provenance("discover_keystates", threads=cfg.threads, seed=cfg.discovery.seed),
        "weights_sha256": weights_hash(cfg.estimator.weights) if by_infoatlas else None,
        "profile_weights_sha256": weights_hash(cfg.profile.weights),
        "config": OmegaConf.to_container(cfg, resolve=True),
    }


@hydra_main("discover_keystates")
def main(cfg: DictConfig) -> None:
    discover(cfg)


if __name__ == "__main__":
    main()
