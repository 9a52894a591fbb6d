"""Second stage of pretraining: fit the calibrated head on statistics of the finished critic, on fresh atlas problems.

Rows of the table are collected in groups of problems of one size; groups are seeded by their number, written as they are
made, and shared by the processes of ``torchrun``.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infoatlas_rl.checks import check_numbers
from infoatlas_rl.estimator.calibration import (
    LEVELS,
    SIZES,
    STATISTICS,
    CalibratedHead,
    from_scale,
    pinball_loss,
    size_features,
    statistics,
    to_scale,
)
from infoatlas_rl.estimator.model import InfoAtlas
from infoatlas_rl.files import replace_file
from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_elliptical, sample_problems, sample_sizes
from infoatlas_rl.weights import fingerprint

SEED = 2 * 10**9
GROUPS_PER_FILE = 20
TABLES = ("mi", "gradient", "large", "plain", "small", "simple", "strong", "redundant", "counts")
"""Their place is part of their seed."""


FITTING = (
    "independent_weight",
    "unknown_weight",
    "strong_weight",
    "redundant_weight",
    "epochs",
    "batch",
    "learning_rate",
    "weight_decay",
    "validation_share",
)
"""Fields that do not change the table."""


@dataclass(frozen=True)
class CalibrateConfig:
    """Size of the table and optimisation of the head."""

    groups: int = 3240
    """Groups of problems of one size."""
    small_groups: int = 2440
    """Further groups of data sets of at most ``small_samples``: cheap, and the truth is hardest to tell there."""
    small_samples: int = 256
    large_groups: int = 840
    """Further groups of data sets of ``large_samples`` to ``most_samples``: there are few problems in a group of large ones."""
    large_samples: int = 1500
    most_samples: int = 8192
    """As many as a critic is written on."""
    plain_groups: int = 1320
    """Further groups of problems without flows: most distributions that users try first are simple ones."""
    simple_groups: int = 1000
    """Further groups of problems without flows, half of them of one component and the others of a few, with up to
    ``most_samples``; columns add nothing in ``simple_redundant`` of them."""
    strong_groups: int = 800
    """Further groups of problems of one component whose sides nearly determine each other, with up to ``strong_samples``; half of
    them have no flows."""
    strong_samples: int = 3000
    redundant_groups: int = 1000
    """Further groups in which columns add nothing in every problem; most of them have no flows, half of those left are of one
    component."""
    counts_groups: int = 600
    """Further groups of counts, with up to ``most_samples``."""
    redundant: float = 0.15
    """Share of problems with columns that add nothing."""
    simple_redundant: float = 0.4
    gradient_groups: int = 240
    """Groups for the gain of the gradient; 0 leaves it as it is."""
    group_pairs: int = 20_000
    """Problems in a group: as many as have this many samples together, 2 to ``max_group``."""
    max_group: int = 16
    truth: int = 4096
    """Fresh samples that the true MI of each problem is averaged over."""
    independent_weight: float = 4.0
    """Weight of independent problems: more often than on the atlas, users ask whether there is a dependence at all."""
    unknown_weight: float = 12.0
    """What is added to it, times dx dy / (2 n), at most ten times: the fewer samples, the less dependence is to be believed."""
    strong_weight: float = 0.1
    """Weight of strong problems: with that of the others, what is usual would be estimated less well for what is rare."""
    redundant_weight: float = 0.3
    epochs: int = 16
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(
            self,
            or_zero=(
                "weight_decay",
                "small_groups",
                "large_groups",
                "plain_groups",
                "simple_groups",
                "strong_groups",
                "redundant_groups",
                "counts_groups",
                "gradient_groups",
                "redundant",
            ),
        )

    @property
    def total(self) -> int:
        """Groups of all tables."""
        return sum(value for name, value in asdict(self).items() if name == "groups" or name.endswith("_groups"))


def table_name(model: InfoAtlas, atlas: AtlasConfig, config: CalibrateConfig) -> str:
    """Of the folder of a table, which belongs to the critic and the problems that it was made with."""
    critic = fingerprint(nn.ModuleList([model.encoder, model.phases, model.hypernetwork]))
    made_with = {name: value for name, value in asdict(config).items() if name not in FITTING}
    content = json.dumps([STATISTICS, asdict(atlas), made_with], sort_keys=True)
    return f"calibration-{critic}-{hashlib.sha256(content.encode()).hexdigest()[:6]}"


def collect(model: InfoAtlas, atlas: AtlasConfig, config: CalibrateConfig, folder: Path) -> Iterator[int]:
    """Write the table to ``folder``; yields the groups done so far. Files that are there are kept."""
    done = 0
    folder.mkdir(parents=True, exist_ok=True)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    atlas = replace(atlas, redundant=config.redundant)
    most = max(config.most_samples, atlas.min_samples)
    large = replace(atlas, min_samples=max(min(config.large_samples, most), atlas.min_samples), max_samples=most)
    small = replace(atlas, max_samples=max(config.small_samples, atlas.min_samples))
    simple = replace(atlas, flows=False, max_components=6, elliptical=0.5, redundant=config.simple_redundant, max_samples=most)
    strong = replace(atlas, plain=0.5, strong=1.0, max_samples=max(min(config.strong_samples, most), atlas.min_samples))
    redundant = replace(atlas, plain=0.7, max_components=6, elliptical=0.5, redundant=1.0)
    counts = replace(atlas, flows=False, counts=1.0, max_samples=most)
    tables = (
        ("small", config.small_groups, small, _mi_rows),
        ("mi", config.groups, atlas, _mi_rows),
        ("large", config.large_groups, large, _mi_rows),
        ("plain", config.plain_groups, replace(atlas, flows=False), _mi_rows),
        ("simple", config.simple_groups, simple, _mi_rows),
        ("strong", config.strong_groups, strong, _mi_rows),
        ("redundant", config.redundant_groups, redundant, _mi_rows),
        ("counts", config.counts_groups, counts, _mi_rows),
        ("gradient", config.gradient_groups, atlas, _gradient_rows),
    )
    for name, groups, problems, row in tables:
        for number, first in enumerate(range(0, groups, GROUPS_PER_FILE)):
            path = folder / f"{name}-{number:04d}.pt"
            if number % world != rank:
                continue
            if not path.is_file():
                numbers = range(first, min(first + GROUPS_PER_FILE, groups))
                began = time.perf_counter()
                parts = [row(model, problems, config, _generator(name, index)) for index in numbers]
                columns = [torch.cat(column) for column in zip(*parts, strict=True)]
                seconds = torch.full((len(columns[0]),), (time.perf_counter() - began) / len(columns[0]))
                with replace_file(path) as temporary:
                    torch.save([*columns, seconds], temporary)
            done += GROUPS_PER_FILE * world
            yield done
    if world > 1:
        dist.barrier()


def _generator(name: str, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(SEED + index + 10**8 * TABLES.index(name))


def _group_size(n: int, config: CalibrateConfig) -> int:
    return min(max(config.group_pairs // n, 2), config.max_group)


@torch.no_grad()
def _mi_rows(model: InfoAtlas, atlas: AtlasConfig, config: CalibrateConfig, g: torch.Generator) -> list[Tensor]:
    n, dx, dy = sample_sizes(atlas, g)
    fresh = replace(atlas, query=1, truth=config.truth)
    problem = sample_problems(_group_size(n, config), n, dx, dy, fresh, g)
    critic = model(problem.x, problem.y)
    return [statistics(critic), critic.maps.summary, problem.mi, problem.mi_error]


def _gradient_rows(model: InfoAtlas, atlas: AtlasConfig, config: CalibrateConfig, g: torch.Generator) -> list[Tensor]:
    """Summary, and the two sums whose ratio is the share: gradients of the bound and of the true log ratio on whitened
    samples, multiplied, and the latter squared (per sample)."""
    n, dx, dy = sample_sizes(atlas, g)
    samples, true_gradients, whiten = [], [], []
    for _ in range(_group_size(n, config)):
        x, y, log_ratio = sample_elliptical(n, dx, dy, g)
        x, y = x.requires_grad_(), y.requires_grad_()
        true_gradients.append(torch.autograd.grad(log_ratio(x, y).sum(), (x, y)))
        samples.append((x.detach(), y.detach()))
        whiten.append(
            [torch.linalg.cholesky(side.detach().double().T.cov().reshape(d, d)).float() for side, d in ((x, dx), (y, dy))]
        )
    x, y = (torch.stack(side).requires_grad_() for side in zip(*samples, strict=True))
    critic = model(x, y)
    gradients = torch.autograd.grad(critic.joint.sum(), (x, y))
    products, squares = 0.0, 0.0
    for side in range(2):
        factor = torch.stack([w[side] for w in whiten])
        true = torch.stack([t[side] for t in true_gradients]) @ factor
        products = products + ((gradients[side] @ factor) * true).sum((1, 2)) / n
        squares = squares + true.square().sum((1, 2)) / n
    return [critic.maps.summary.detach(), products, squares]


def read_table(folder: Path, name: str) -> list[Tensor]:
    """All columns that :func:`collect` wrote under a name; the last one is the time that each row took, in seconds."""
    parts = [torch.load(path, weights_only=True) for path in sorted(folder.glob(f"{name}-*.pt"))]
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def fit_head(head: CalibratedHead, folder: Path, config: CalibrateConfig, seed: int = 0) -> dict[str, float]:
    """Fit the head on the table; the state with the best validation loss of every member stays. Returns figures."""
    weights = {"strong": config.strong_weight, "redundant": config.redundant_weight}
    tables = []
    for name in TABLES:
        if name != "gradient" and any(folder.glob(f"{name}-*.pt")):
            *columns, seconds = read_table(folder, name)
            tables.append([*columns, seconds, torch.full_like(seconds, weights.get(name, 1.0))])
    table, summary, mi, _, seconds, weight = (torch.cat(column) for column in zip(*tables, strict=True))
    order = torch.randperm(len(mi), generator=torch.Generator().manual_seed(seed))
    order = order[(torch.isfinite(table).all(-1) & torch.isfinite(summary).all(-1))[order]]
    table, summary, mi, weight = table[order], summary[order], mi[order].clamp(min=0), weight[order]
    held = round(len(mi) * config.validation_share)
    inputs = head.inputs(table, summary)
    head.centre.copy_(inputs[held:].mean(0))
    head.scale.copy_(inputs[held:].std(0) + 1e-2)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        figures = _fit_quantiles(head, table, summary, mi, weight, held, config)
        if config.gradient_groups:
            *columns, gradient_seconds = read_table(folder, "gradient")
            figures |= _fit_gradient(head, *columns)
            seconds = torch.cat([seconds, gradient_seconds])
    return figures | {"rows": len(mi), "process_hours": float(seconds.sum()) / 3600}


def _fit_quantiles(
    head: CalibratedHead, table: Tensor, summary: Tensor, mi: Tensor, of_table: Tensor, held: int, config: CalibrateConfig
) -> dict[str, float]:
    head.members.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.members.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * math.ceil((len(mi) - held) / config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.05)
    target = to_scale(mi)
    *_, unknown, _ = table[:, SIZES].unbind(-1)
    unknown = unknown.clamp(max=10.0)
    share, weight_of_independent = (mi == 0).float().mean(), config.independent_weight + config.unknown_weight * unknown
    # All sizes together weigh the same.
    weight = torch.where(mi == 0, weight_of_independent, 1.0) / (share * weight_of_independent + 1 - share)
    weight = weight * of_table / of_table.mean()
    best, kept = math.inf, None
    for _ in range(config.epochs):
        for rows in (held + torch.randperm(len(mi) - held)).split(config.batch):
            optimizer.zero_grad()
            pinball_loss(head.scaled_quantiles(table[rows], summary[rows]), target[rows], weight[rows]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            quantiles = head.scaled_quantiles(table[:held], summary[:held]).mean(0)
            loss = float(pinball_loss(quantiles, target[:held], weight[:held]))
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in head.members.state_dict().items()}
    head.members.load_state_dict(kept)
    head.members.requires_grad_(False)
    table, summary, truth = table[:held], summary[:held], mi[:held]
    before = _coverage(head, table, summary, truth)
    _widen(head, table, summary, truth)
    with torch.no_grad():
        middle = head(table, summary)[:, len(LEVELS) // 2]
    return {
        "pinball": best,
        "mae": float((middle - truth).abs().mean()),
        "bound_mae": float((table[:, 0] - truth).abs().mean()),
        "coverage_before_widening": before,
    }


@torch.no_grad()
def _coverage(head: CalibratedHead, table: Tensor, summary: Tensor, truth: Tensor) -> float:
    quantiles = from_scale(head.scaled_quantiles(table, summary).mean(0))
    return float(((quantiles[:, 0] <= truth + 1e-4) & (truth <= quantiles[:, -1])).float().mean())


def _widen(head: CalibratedHead, table: Tensor, summary: Tensor, truth: Tensor) -> None:
    """Conformal correction (Romano et al., 2019): scale the quantiles around the median so that the outer ones cover their share
    of the validation rows, which the head was not fitted to. How much is needed depends on the sizes: quantile regression of
    its logarithm. What the disagreement of the members adds for data that are unlike these comes on top."""
    with torch.no_grad():
        quantiles, features = head.scaled_quantiles(table, summary).mean(0), size_features(table)
        low, middle, high = (quantiles[:, k] for k in (0, len(LEVELS) // 2, -1))
        off = to_scale(truth) - middle
        needed = (off.abs() / torch.where(off > 0, high - middle, middle - low)).clamp(1e-2, 1e2).log()
    level = LEVELS[-1] - LEVELS[0]
    coefficients = torch.zeros(features.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([coefficients], 0.02)
    with torch.enable_grad():
        for _ in range(1500):
            optimizer.zero_grad()
            pinball_loss((features @ coefficients).unsqueeze(-1), needed, levels=(level,)).backward()
            optimizer.step()
    head.spread.copy_(coefficients.detach())


def _fit_gradient(head: CalibratedHead, summary: Tensor, products: Tensor, squares: Tensor) -> dict[str, float]:
    """Least squares for the expected share; problems with hardly any gradient count less."""
    finite = torch.isfinite(products) & torch.isfinite(squares) & (squares > 1e-4)
    summary, products, squares = summary[finite], products[finite], squares[finite]
    share, weight = (products / squares).clamp(-1, 3), squares / (squares + 0.05)
    head.gradient.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.gradient.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(200):
        for rows in torch.randperm(len(share)).split(256):
            optimizer.zero_grad()
            (weight[rows] * (head.gradient_share(summary[rows]) - share[rows]) ** 2).mean().backward()
            optimizer.step()
    head.gradient.requires_grad_(False)
    return {"gradient_share": float((weight * share).sum() / weight.sum())}
