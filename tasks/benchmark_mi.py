"""Measure the estimator against distributions with known mutual information.

    python tasks/benchmark_mi.py suite=bmi out=docs/results/bmi.json

- ``bmi``: the eight tasks of Table 1 of the InfoAtlas paper, n = 5000, mean over ten seeds.
- ``bmi40``: all forty tasks of the BMI benchmark, up to 50 dimensions, n = 5000.
- ``discrete``: discrete and non-Gaussian distributions, the second table of the poster, n = 1000.
- ``families``: thirty further tasks, half of them discrete or mixed, n = 1000.
- ``derived``: tables with columns that add nothing: copies, sums, products, codes, noise, n = 1000.
- ``small``: n = 16 to 128 against 1 to 20 dimensions.
- ``highdim``: 25 to 1024 dimensions, beside random slices.
- ``peers``: KSG, KDE, MINE, NWJ, SMILE, InfoNCE, KNIFE, MINDE, InfoNet, MIST in one run: error against time, with a picture.
- ``sizes``: time and memory of all of these against n, with a picture.
- ``selfconsistency``: upper against lower halves of digits under noise, the paper's Figure 4, with a picture.
- ``emoji``: pictures of emoji against their names under noise, with a picture.
- ``segmentation``: points that move together, the paper's Figure 5, on demonstrations, with a picture.
- ``mocap``: the same on limbs of people, recorded by motion capture, with a picture.
- ``slicing``: what slices see and what they miss, the paper's appendices A.6 and A.7.
- ``pairs``: all pairs of the columns of a table, in one process and in two.
- ``atlas``: unseen problems of the atlas against KSG and the Gaussian copula; coverage of the intervals.
- ``independence``: what is estimated where the truth is zero.
- ``testing``: tests of independence in 16 to 128 dimensions, the paper's Figures 3 and 7, with a picture.
- ``order``: which of two dependences is stronger? InfoNet's Table 3.
- ``consistency``: error against n, with a picture.
- ``gradient``: gradients of the loss against the analytic ones of correlated Gaussians.
- ``time``: seconds of the loss and of estimates beside KSG's, and peak memory.
- ``ablation``: what each part of the estimator contributes; trains small networks.
"""

from __future__ import annotations

from omegaconf import DictConfig

from infoatlas_rl.records import provenance, require_results, write_json
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites import (
    ablation,
    atlas,
    consistency,
    emoji,
    gradient,
    highdim,
    independence,
    known,
    mocap,
    order,
    pairs,
    peers,
    segmentation,
    selfconsistency,
    sizes,
    slicing,
    small,
    testing,
)
from infoatlas_rl.tasks.suites import time as timing
from infoatlas_rl.weights import weights_hash

PLAIN = (atlas, independence, testing, small, highdim, order, consistency, gradient, timing, pairs, ablation)
PLAIN += (peers, sizes, selfconsistency, emoji, segmentation, mocap, slicing)
SUITES = {
    "bmi": (known.run_bmi, known.table),
    "bmi40": (known.run_bmi40, known.long_table),
    "discrete": (known.run_discrete, known.table),
    "families": (known.run_families, known.long_table),
    "derived": (known.run_derived, known.long_table),
    **{suite.__name__.rpartition(".")[2]: (suite.run, suite.table) for suite in PLAIN},
}

COUNTS = ("n", "seeds", "problems", "independent_sets", "triplets", "highdim_seeds", "populations", "steps")


@hydra_main("benchmark_mi")
def main(cfg: DictConfig) -> None:
    if cfg.suite not in SUITES:
        raise ValueError(f"unknown suite {cfg.suite!r}; accepted: {', '.join(SUITES)}")
    for name in COUNTS:
        if cfg[name] < 1:
            raise ValueError(f"{name} has to be at least 1, not {cfg[name]}")
    require_results(cfg.out)
    run, table = SUITES[cfg.suite]
    result = run(cfg)
    print(f"\n{table(result).text()}")
    weights = {"weights": str(cfg.weights), "weights_sha256": weights_hash(cfg.weights)}
    write_json(cfg.out, result | weights | provenance("benchmark_mi", threads=cfg.threads))
    print(cfg.out)


if __name__ == "__main__":
    main()
