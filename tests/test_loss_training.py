"""The loss in training: what its gradient does, several processes, conditional dependence, few samples, logging."""

import math
import subprocess
import sys

import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from tests.conftest import ROOT, correlated


def test_the_value_is_the_estimate_whatever_the_gradient_follows():
    x, y = correlated(200, [0.8, 0.4])
    x.requires_grad_()
    loss = InfoAtlasLoss(slices=None)
    assert float(loss(x, y).detach()) == pytest.approx(-float(loss.mi(x, y).detach()), abs=1e-6)


def test_the_running_value_rests_on_earlier_batches_and_is_computed_once_in_a_while(tmp_path):
    x, y = correlated(60 * 18, [0.0] * 4)
    y = torch.sin(2 * x) + 0.3 * y
    x.requires_grad_()
    batches = list(zip(x.split(60), y.split(60), strict=True))
    loss = InfoAtlasLoss(slices=None)
    values = [float(-loss(a, b).detach()) for a, b in batches[:16]]
    single = [float(loss.mi(a, b).detach()) for a, b in batches]
    torch.save(loss.state(), tmp_path / "state.pt")
    values += [float(-loss(a, b).detach()) for a, b in batches[16:]]
    assert len(set(values)) == 6  # calls 0, 1, 2, 4, 8 and 16
    assert values[0] == pytest.approx(single[0])
    assert values[-1] > 1.3 * sum(single) / len(single)
    resumed = InfoAtlasLoss(slices=None)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [float(-resumed(a, b).detach()) for a, b in batches[16:]] == values[16:]
    # Evaluation and values without gradients are of the batch; other variables begin anew.
    assert float(-loss(*(t.detach() for t in batches[0]))) == pytest.approx(single[0])
    assert float(-loss(x[:60, :3], y[:60]).detach()) == pytest.approx(float(loss.mi(x[:60, :3], y[:60]).detach()))


def test_an_encoder_finds_what_two_views_share():
    """Two views of ten columns share two; the encoder, which starts blind to scale, has to find them."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(0.3 * torch.randn(10, 2, generator=generator))
    loss = InfoAtlasLoss(slices=None)
    optimizer = torch.optim.Adam([weight], 0.03)
    for _ in range(120):
        shared = torch.randn(128, 2, generator=generator)
        views = [
            torch.cat([shared + 0.3 * torch.randn(128, 2, generator=generator), 3 * torch.randn(128, 8, generator=generator)], 1)
            for _ in range(2)
        ]
        optimizer.zero_grad()
        loss(views[0] @ weight, views[1] @ weight).backward()
        optimizer.step()
    energy = weight.detach().square().sum(1) * torch.tensor([1.09] * 2 + [9.0] * 8)
    assert float(energy[:2].sum() / energy.sum()) > 0.9


def test_independent_samples_near_the_dimension_say_nothing():
    # Before, 37 nats at n = 16, d = 20, with gradients of norm 100.
    loss = InfoAtlasLoss(slices=None)
    for n in (8, 16, 24, 32, 48):
        for d in (10, 20):
            x, y = torch.randn(2, 64, n, d, generator=torch.Generator().manual_seed(n + d))
            x.requires_grad_()
            value = loss.mi(x, y)
            value.sum().backward()
            # The largest mean is 0.094, at n = 48, d = 10.
            assert abs(float(value.detach().mean())) < 0.1, (n, d)
            # Of eight samples two can be nearly tied, and normal scores are steep there: 22 in one set of 64; 0.9 from 16 on.
            assert float(x.grad.flatten(1).norm(dim=1).max()) < (50 if n == 8 else 5)


def test_conditional_dependence_follows_the_chain_rule():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1000, 1, generator=generator)
    x, y = z + torch.randn(1000, 1, generator=generator), z + torch.randn(1000, 1, generator=generator)
    loss = InfoAtlasLoss(slices=None)
    assert float(-loss(x, y)) > 0.1  # through z
    assert abs(float(loss(x, y, conditional=z))) < 0.03
    x.requires_grad_()
    loss(x, y, conditional=z).backward()
    assert bool(torch.isfinite(x.grad).all())
    loss.eval()
    torch.testing.assert_close(loss(x, y[:, 0], conditional=z[:, 0]), loss(x, y, conditional=z))
    with pytest.raises(ValueError, match=r"conditional has shape \(60, 1\), y \(1000, 1\); as many samples as of y are needed"):
        loss(x, y, conditional=z[:60])


def test_conditional_dependence_is_nothing_where_all_of_it_is_through_z():
    # The difference of two sliced values was -9.6 nats here.
    generator = torch.Generator().manual_seed(0)
    z, noise, y = torch.randn(3, 1000, 30, generator=generator)
    x = (z + 0.3 * noise).requires_grad_()
    loss = InfoAtlasLoss()
    # Of 30 x 30 columns and 1000 samples chance leaves 900 / 2000 nats, and the ridge a little less.
    assert 0 <= float(-loss(x, y, conditional=z).detach()) < 0.5
    told = z + noise + 0.5 * y
    assert float(-loss(told, y, conditional=z)) == pytest.approx(15 * math.log(1.25), abs=0.5)
    assert float(-loss(z, z, conditional=z)) == 0
    loss(x, y, conditional=z).backward()
    assert bool(torch.isfinite(x.grad).all())
    assert loss.step == 0
    with pytest.raises(ValueError, match="conditional= needs gradient='canonical', not 'envelope'"):
        InfoAtlasLoss(gradient="envelope")(x, y, conditional=z)


def test_reductions():
    x, y = correlated(100, [0.5], batch=3)
    values = InfoAtlasLoss(slices=None, reduction="none")(x, y)
    assert values.shape == (3,)
    assert float(InfoAtlasLoss(slices=None, reduction="sum")(x, y)) == pytest.approx(float(values.sum()), abs=1e-5)
    assert float(InfoAtlasLoss(slices=None)(x, y)) == pytest.approx(float(values.mean()), abs=1e-5)


def test_what_small_batches_cannot_show_is_seen_over_many():
    loss = InfoAtlasLoss(slices=None, memory=1024)
    x, y = correlated(1500, [0.0] * 4)
    y = torch.sin(2 * x) + 0.3 * y
    with pytest.raises(RuntimeError, match="update"):
        loss.compute()
    batches = [float(loss.mi(a, b)) for a, b in zip(x.split(60), y.split(60))]
    for a, b in zip(x.split(60), y.split(60)):
        loss.update(a, b)
    assert float(loss.compute()) > 1.3 * sum(batches) / len(batches)
    sliced = InfoAtlasLoss(slices=4, k=2)
    sliced.update(x, y)
    assert float(sliced.compute()) == float(sliced.compute())
    assert sliced.step == 0  # a number for a log does not move the slices to come
    assert sliced.training
    loss.reset()
    with pytest.raises(RuntimeError, match="update"):
        loss.compute()


def test_two_processes_with_gathered_samples_have_the_gradient_of_one(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(f"""
import sys, torch, torch.distributed as dist
sys.path.insert(0, {str(ROOT)!r})
from infoatlas_rl import InfoAtlasLoss
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
g = torch.Generator().manual_seed(0)
u, v = torch.randn(2, 64, 5, generator=g)
weight = torch.eye(5)[:, :3].clone().requires_grad_()
mine = slice(32 * rank, 32 * rank + 32)
loss = InfoAtlasLoss(slices=None, gather_distributed=True)
value = loss(u[mine] @ weight, (u + v)[mine] @ weight)
value.backward()
dist.all_reduce(weight.grad)
if rank == 0:
    whole = torch.eye(5)[:, :3].clone().requires_grad_()
    one = InfoAtlasLoss(slices=None)(u @ whole, (u + v) @ whole)
    one.backward()
    torch.testing.assert_close(value, one)
    torch.testing.assert_close(weight.grad / 2, whole.grad, atol=1e-6, rtol=1e-4)
dist.destroy_process_group()
""")
    ranks = [subprocess.Popen([sys.executable, script, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_the_value_does_not_grow_with_epochs():
    x, y = torch.randn(2, 128, 4, generator=torch.Generator().manual_seed(0))
    loss = InfoAtlasLoss(slices=None)
    values = [float(-loss((1.0 * x).requires_grad_(), y).detach()) for _ in range(17)]
    assert values[-1] == pytest.approx(values[0], abs=0.02)  # 2 nats before, of samples that are independent
    for _ in range(8):
        loss.update(x, y)
    assert float(loss.compute()) == pytest.approx(values[0], abs=0.02)
    state = loss.state()
    with pytest.raises(ValueError, match=r"seed has to be an integer, not 1\.5"):
        loss.restore(state | {"seed": 1.5})
    fresh = InfoAtlasLoss(slices=None)
    fresh.restore(state)
    fresh(x.clone().requires_grad_(), y)
    assert len(fresh._running._memory) == 128
