"""Suite ``ablation``: what each part of the estimator contributes.

Small networks that differ in one part are pretrained alike, for a few minutes each, and compared on unseen atlas problems:
the loss of the bound on fresh samples (what a critic knows), and the error of the bound on its own samples (what is read).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from infoatlas_rl.estimator.bounds import donsker_varadhan
from infoatlas_rl.estimator.estimate import cross_fitted
from infoatlas_rl.estimator.model import InfoAtlas, InfoAtlasConfig
from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_problems
from infoatlas_rl.pretraining.trainer import PretrainConfig, Pretrainer, regret
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

SMALL = InfoAtlasConfig(side_width=48, side_features=64, phases=48, width=64, latents=8, joint_layers=1, decoder_width=96)
ARMS: dict[str, InfoAtlasConfig] = {
    "full": SMALL,
    "fixed ridge": replace(SMALL, ridge="fixed"),
    "constant hypernetwork: plain solved head": replace(SMALL, hypernetwork="constant", ridge="fixed"),
    "noise padding": replace(SMALL, padding="noise"),
}
SIZES = (100, 500, 2500)
DIMS = (1, 3, 10)
SEED = 4 * 10**9


def run(cfg: DictConfig) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    with progress_bar("ablation", len(ARMS) * cfg.ablation_steps) as bar:
        for number, (name, config) in enumerate(ARMS.items()):
            pretrain = PretrainConfig(steps=cfg.ablation_steps, processes=1, ema=0.98)
            trainer = Pretrainer(config, AtlasConfig(), pretrain)
            checkpoint = Path(f"runs/ablation/{name.split(':')[0].replace(' ', '-')}.pt")
            if checkpoint.is_file():
                trainer.load(checkpoint)
            for figures in trainer.run(checkpoint):
                bar(number * cfg.ablation_steps + int(figures["step"]), name)
            arms[name] = _evaluate(trainer.averaged_model(), cfg.problems)
    full = arms["full"]
    arms = {"Gaussian base only": full.pop("base")} | {name: arm for name, arm in arms.items()}
    for arm in arms.values():
        arm.pop("base", None)
    return {"suite": "ablation", "arms": arms, "steps": cfg.ablation_steps, "problems": cfg.problems}


@torch.no_grad()
def _evaluate(model: InfoAtlas, problems: int) -> dict[str, Any]:
    """Means over cells: relative loss on fresh samples (bounded by one from above), absolute errors in nats."""
    rows, base_rows = [], []
    config = AtlasConfig(query=1024, truth=8000)
    for n in SIZES:
        for d in DIMS:
            generator = torch.Generator().manual_seed(SEED + 1000 * n + d)
            for _ in range(0, problems, 10):
                problem = sample_problems(10, n, d, d, config, generator)
                losses = regret(model, problem, autocast=False)
                critic = model(problem.x, problem.y)
                error = [donsker_varadhan(critic.joint, critic.product), cross_fitted(model, problem.x, problem.y, "dv")]
                errors = [(value.clamp(min=0) - problem.mi).abs() for value in error]
                rows.append(torch.stack([losses.critic.clamp(max=1), *errors]))
                base = donsker_varadhan(critic.base_joint, critic.base_product)
                base_rows.append(torch.stack([losses.base.clamp(max=1), (base.clamp(min=0) - problem.mi).abs()]))
    names = ("loss_on_fresh_samples", "error_in_sample", "error_cross_fitted")
    figures = dict(zip(names, torch.cat(rows, 1).mean(1).tolist(), strict=True))
    base = dict(zip(names[:2], torch.cat(base_rows, 1).mean(1).tolist(), strict=True))
    return {k: round(v, 4) for k, v in figures.items()} | {"base": {k: round(v, 4) for k, v in base.items()}}


def table(result: dict[str, Any]) -> Table:
    rows = []
    for name, arm in result["arms"].items():
        cross = arm.get("error_cross_fitted")
        errors = [f"{arm['error_in_sample']:.3f}", "" if cross is None else f"{cross:.3f}"]
        rows.append([name, f"{arm['loss_on_fresh_samples']:.3f}", *errors])
    header = ["small networks", "relative loss, fresh samples", "error of the in-sample bound", "error of the cross-fitted bound"]
    return Table(header, rows, f"{result['steps']} steps of pretraining each.")
