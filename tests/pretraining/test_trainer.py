import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infoatlas_rl.estimator.model import InfoAtlas
from infoatlas_rl.pretraining.atlas import AtlasConfig, Problem
from infoatlas_rl.pretraining.trainer import PretrainConfig, Pretrainer, _low_variance_dv, regret
from tests.conftest import TINY

ATLAS = AtlasConfig(max_dim=3, max_samples=120, query=64, truth=64, max_components=4)


def trainer(tiny, **options) -> Pretrainer:
    config = PretrainConfig(
        **{"steps": 6, "warmup": 2, "pairs_per_step": 1500, "processes": 1, "validation_problems": 2, **options}
    )
    return Pretrainer(tiny, ATLAS, config)


def test_a_resumed_run_is_the_uninterrupted_one(tiny, tmp_path):
    whole = trainer(tiny)
    losses = [figures["loss"] for figures in whole.run()]

    interrupted = trainer(tiny)
    stream = interrupted.run()
    first = [next(stream)["loss"] for _ in range(3)]
    interrupted.save(tmp_path / "checkpoint.pt")
    resumed = trainer(tiny)
    resumed.load(tmp_path / "checkpoint.pt")
    rest = [figures["loss"] for figures in resumed.run()]

    assert first + rest == pytest.approx(losses, rel=1e-4)
    for name, value in whole.average.items():
        torch.testing.assert_close(resumed.average[name], value, rtol=1e-3, atol=1e-5)


def test_training_lowers_the_regret_on_the_fixed_validation_problems(tiny):
    run = trainer(tiny, steps=80, learning_rate=5e-3, validation_problems=10)
    before = run.validate()["regret"]
    for _ in run.run():
        pass
    assert run.validate()["regret"] < 0.95 * before
    assert run.skipped == 0


def test_a_step_with_a_non_finite_loss_is_skipped_and_counted(tiny, monkeypatch):
    run = trainer(tiny)
    problem = run.problem(0)
    broken = problem._replace(joint_log_ratio=torch.full_like(problem.joint_log_ratio, math.nan))
    monkeypatch.setattr(run, "problem", lambda step: broken)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    figures = run.train_step()
    assert figures["skipped"] == 1
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_checkpoint_of_another_configuration_is_refused(tiny, tmp_path):
    trainer(tiny).save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"pretrain.steps: 6 there, 9 here"):
        trainer(tiny, steps=9).load(tmp_path / "checkpoint.pt")


def test_low_variance_bound_of_the_true_critic_is_the_mutual_information(rng):
    rho = 0.9
    truth = -0.5 * math.log(1 - rho**2)
    x, e = torch.randn(2, 1, 20_000, generator=rng, dtype=torch.float64)
    y = rho * x + (1 - rho**2) ** 0.5 * e

    def s(a, b):
        return truth + (rho * a * b - rho**2 * (a**2 + b**2) / 2) / (1 - rho**2)

    joint, product = s(x, y), s(x, y.roll(1, dims=-1))
    empty = torch.empty(0)
    problem = Problem(empty, empty, empty, empty, joint, product, empty, empty)
    # Standard error of the joint term: 0.006.
    assert abs(_low_variance_dv(joint, product, problem) - truth) < 0.025
    # Any other critic has a lower bound; this one loses 0.07 nats by an analytic second-order expansion.
    assert _low_variance_dv(2 * joint, 2 * product, problem) < truth - 0.05


def test_regret_of_the_released_weights_is_small_for_a_gaussian_problem(model):
    from infoatlas_rl.pretraining.atlas import _spectrum

    network = InfoAtlas(model.config)
    network.load_state_dict(model.state_dict())
    network.eval()
    g = torch.Generator().manual_seed(3)
    x, y, ratio = _spectrum(2500, 2, 2, g)
    q = slice(2000, 2500)
    s_joint, s_product = ratio(x[q], y[q]), ratio(x[q], y[q].roll(1, 0))
    parts = (x[:2000], y[:2000], x[q], y[q], s_joint, s_product, s_joint.mean(), torch.zeros(()))
    problem = Problem(*(part[None] for part in parts))
    result = regret(network, problem, autocast=False)
    # 500 queries and an MI of about half a nat: the standard error of the regret is 0.05.
    assert abs(float(result.critic.detach())) < 0.2


TWO_PROCESSES = """
import sys, torch, torch.distributed as dist
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tests.pretraining.test_trainer import ATLAS, PretrainConfig, Pretrainer
from tests.conftest import TINY
if sys.argv[3] == "2":
    dist.init_process_group("gloo")
config = PretrainConfig(steps=4, warmup=2, pairs_per_step=1500, processes=2, autocast=False)
trainer = Pretrainer(TINY, ATLAS, config)
problems = [figures["problems"] for figures in trainer.run()]
if trainer.rank == 0:
    torch.save([trainer.model.state_dict(), problems], sys.argv[2])
"""


def test_two_processes_train_the_weights_of_one_with_the_doubled_batch(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    root = str(Path(__file__).resolve().parents[2])
    launch = {"1": [sys.executable], "2": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]}
    results = []
    for world, command in launch.items():
        out = tmp_path / f"{world}.pt"
        subprocess.run([*command, script, root, out, world], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
        results.append(torch.load(out, weights_only=True))
    (one, problems_one), (two, problems_two) = results
    assert problems_one == problems_two
    torch.manual_seed(PretrainConfig().seed)
    start = TINY.build().state_dict()
    moved = torch.cat([(one[name] - start[name]).flatten() for name in one]).norm()
    apart = torch.cat([(one[name] - two[name]).flatten() for name in one]).norm()
    # The same sums in another order; where a gradient is nothing but rounding, Adam makes steps of it.
    assert apart < 0.02 * moved


def test_batches_that_cannot_be_shared_are_refused(tiny, monkeypatch):
    monkeypatch.setattr("infoatlas_rl.pretraining.trainer.dist.is_initialized", lambda: True)
    monkeypatch.setattr("infoatlas_rl.pretraining.trainer.dist.get_rank", lambda: 0)
    monkeypatch.setattr("infoatlas_rl.pretraining.trainer.dist.get_world_size", lambda: 3)
    with pytest.raises(ValueError, match=r"pretrain.processes = 4 cannot be shared by 3 processes"):
        trainer(tiny, processes=4)


def test_a_failed_factorisation_skips_the_step(tiny, monkeypatch):
    run = trainer(tiny)

    def fail(*_, **__):
        raise torch.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr("infoatlas_rl.pretraining.trainer.regret", fail)
    assert run.train_step()["skipped"] == 1
