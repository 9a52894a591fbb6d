import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.estimator.slicing import random_orthonormal
from tests.conftest import correlated


@pytest.fixture(scope="module")
def loss() -> InfoAtlasLoss:
    return InfoAtlasLoss(slices=4, k=3, resample=False)


def test_the_loss_is_the_negative_mutual_information(loss):
    x, y = correlated(200, [0.9] * 6)
    assert loss(x, y).ndim == 0
    assert loss(x, y) == -loss.mi(x, y)
    assert loss(x, y) < loss(x, y.roll(1, 0))


@pytest.mark.parametrize("d", [2, 5])
def test_gradient_agrees_with_the_analytic_one(d):
    # y_i = a_i x_i + sqrt(1 - a_i^2) e_i has I = -1/2 sum log(1 - a_i^2) and dI/da_i = a_i / (1 - a_i^2).
    # One data set of n = 1000 has a sampling error of some per cent; the mean over eight is compared.
    plain = InfoAtlasLoss(slices=None, gradient="envelope")
    correlation = torch.linspace(0.3, 0.8, d)
    gradients = []
    for seed in range(8):
        x, e = torch.randn(2, 1000, d, generator=torch.Generator().manual_seed(seed))
        a = correlation.clone().requires_grad_()
        (-plain(x, a * x + (1 - a**2).sqrt() * e)).backward()
        gradients.append(a.grad)
    gradients = torch.stack(gradients)
    truth = correlation / (1 - correlation**2)
    cosine = torch.cosine_similarity(gradients, truth.expand_as(gradients), dim=-1)
    assert cosine.min() > 0.95
    assert abs(gradients.norm(dim=-1).mean() / truth.norm() - 1) < 0.15


@pytest.mark.parametrize("gradient", ["canonical", "envelope", "full"])
def test_a_step_along_the_gradient_raises_the_mutual_information(gradient):
    objective = InfoAtlasLoss(slices=8, k=3, resample=False, gradient=gradient)
    x, y = correlated(200, [0.4] * 10)
    x.requires_grad_()
    y.requires_grad_()
    value = objective(x, y)
    value.backward()
    for samples in (x, y):
        assert bool(torch.isfinite(samples.grad).all())
        assert samples.grad.abs().sum() > 0
    step = 0.3 / max(x.grad.norm(), y.grad.norm())
    assert objective(x - step * x.grad, y - step * y.grad) < value


def test_batches_are_the_same_as_single_data_sets(loss):
    x, y = correlated(64, [0.7] * 5, batch=3)
    one_by_one = torch.stack([loss.mi(a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(loss.mi(x, y), one_by_one, atol=1e-4, rtol=0)
    assert loss(x, y) == pytest.approx(-float(one_by_one.mean()), abs=1e-4)


def test_hundred_dimensions_with_the_default_slices():
    x, y = correlated(100, [0.8] * 100)
    x.requires_grad_()
    InfoAtlasLoss()(x, y).backward()
    assert bool(torch.isfinite(x.grad).all())


def test_pointwise_values_average_to_the_bound(loss):
    x, y = correlated(100, [0.8] * 4)
    assert loss.pointwise(x, y).shape == (100,)
    assert loss.pointwise(x, y).mean() == pytest.approx(float(loss.mi(x, y)), abs=1e-5)


def test_frozen_means_frozen(loss):
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 4)
            self.mi_loss = InfoAtlasLoss(slices=2)

    agent = Agent()
    assert list(agent.mi_loss.parameters()) == []
    assert list(agent.state_dict()) == ["encoder.weight", "encoder.bias"]
    agent.train()
    network = agent.mi_loss._frozen[0]
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(agent.parameters(), lr=1.0)
    x, y = correlated(64, [0.5] * 4)
    agent.mi_loss(agent.encoder(x), y).backward()
    optimizer.step()
    assert agent.encoder.weight.grad.abs().sum() > 0
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_seed_gives_the_same_sequence_of_slices():
    x, y = correlated(64, [0.6] * 30)

    def sequence(seed):
        objective = InfoAtlasLoss(slices=2, k=2, seed=seed).train()
        return [float(objective(x, y)) for _ in range(3)]

    assert sequence(1) == sequence(1)
    assert sequence(1) != sequence(2)
    assert len(set(sequence(1))) == 3


def test_fixed_slices_and_evaluation_mode_are_deterministic():
    x, y = correlated(64, [0.6] * 30)
    fixed = InfoAtlasLoss(slices=2, k=2, resample=False).train()
    assert fixed(x, y) == fixed(x, y)
    evaluated = InfoAtlasLoss(slices=2, k=2).eval()
    assert evaluated(x, y) == evaluated(x, y)


@pytest.mark.parametrize("sides", ["x", "y"])
def test_one_sided_slices_keep_the_other_side_whole(sides):
    x, y = correlated(100, [0.8] * 10)
    assert torch.isfinite(InfoAtlasLoss(slices=3, k=2, sides=sides)(x, y))
    wide = torch.randn(100, 30)
    with pytest.raises(ValueError, match="30 dimensions and is not sliced"):
        InfoAtlasLoss(slices=3, k=2, sides=sides)(*((x, wide) if sides == "x" else (wide, y)))


def test_precisions_agree(loss):
    x, y = correlated(100, [0.8] * 4)
    single = loss(x, y)
    assert loss(x.double(), y.double()).dtype == torch.float64
    assert float(loss(x.double(), y.double())) == pytest.approx(float(single), abs=1e-3)
    half_x = x.bfloat16().requires_grad_()
    half = loss(half_x, y.bfloat16())
    half.backward()
    assert half_x.grad.dtype == torch.bfloat16
    assert half.dtype == torch.float32  # a value of 3 nats would be rounded to 1/64
    # Rounding to eight bits makes ties and moves ranks.
    assert float(half.detach()) == pytest.approx(float(single), abs=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(loss(x, y)) == pytest.approx(float(single), abs=1e-4)


@pytest.mark.parametrize("gradient", ["envelope", "full"])
def test_a_first_call_for_validation_does_not_spoil_training(gradient):
    x, y = correlated(617, [0.8] * 4)  # a number of samples that no other test has
    mi_loss = InfoAtlasLoss(slices=2, k=2, resample=False, gradient=gradient)
    with torch.inference_mode():
        value = float(mi_loss(x, y))
    x.requires_grad_()
    again = mi_loss(x, y)
    again.backward()
    assert float(again.detach()) == pytest.approx(value)
    assert bool(x.grad.abs().sum() > 0)


def test_degenerate_samples_have_finite_values_and_gradients(loss):
    x, y = correlated(100, [0.8] * 4)
    constant = torch.ones_like(x)
    duplicated = x[:10].repeat(10, 1)
    ties = x.round()
    zero_padded = torch.cat([x[:, :1], torch.zeros(100, 3)], dim=1)
    for samples in (constant, duplicated, ties, zero_padded):
        samples = samples.clone().requires_grad_()
        value = loss(samples, y)
        value.backward()
        assert torch.isfinite(value)
        assert bool(torch.isfinite(samples.grad).all())


def test_identical_sides_are_finite():
    loss = InfoAtlasLoss(slices=4, k=3, resample=False)
    x = correlated(100, [0.8] * 4)[0].requires_grad_()
    value = loss(x, x)
    value.backward()
    assert value < -1
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slices": 0}, "slices has to be at least 1"),
        ({"k": 21}, "k has to be 1 to 20"),
        ({"bound": "mine"}, "bound has to be one of dv, nwj, smile, infonce"),
        ({"sides": "left"}, "sides has to be one of both, x, y"),
        ({"gradient": "none"}, "gradient has to be one of canonical, envelope, full"),
    ],
)
def test_bad_options_list_the_accepted_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        InfoAtlasLoss(**arguments)


def test_bad_samples_are_named(loss):
    x, y = correlated(100, [0.8] * 4)
    with pytest.raises(ValueError, match="y contains NaN"):
        loss(x, y.clone().fill_(math.nan))
    with pytest.raises(ValueError, match="have to agree"):
        loss(x, y[:50])
    with pytest.raises(TypeError, match="x is complex; give real and imaginary parts"):
        loss(x + 1j, y)
    with pytest.raises(TypeError, match=r"y has to be a torch\.Tensor"):
        loss(x, y.numpy())


def test_integers_booleans_and_single_columns_are_numbers(loss, model):
    x, y = correlated(200, [0.8])
    counts = (3 * y).round()
    column = loss(x, counts)
    for same in (counts[:, 0], counts.long(), counts[:, 0].to(torch.int16)):
        assert loss(x[:, 0], same) == pytest.approx(float(column), abs=1e-5)
        assert loss(x, same).dtype == torch.float32
    assert loss(x, y[:, 0] > 0) == pytest.approx(float(loss(x, (y > 0).float())), abs=1e-5)
    # Not sliced, and so the bound of the loss is that of the estimate but for the product samples.
    plain = InfoAtlasLoss(slices=None).mi(x, counts[:, 0].long())
    assert float(plain) == pytest.approx(model.estimate(x.numpy(), counts[:, 0].long().numpy()).bound, abs=0.05)


def test_class_labels_are_one_hot_encoded():
    x, _ = correlated(240, [0.5] * 3, batch=2)
    labels = (3 * x[..., 0]).round().long()  # about nine classes
    by_name = InfoAtlasLoss(slices=None, classes="y")
    for a, b in ((x[0], labels[0]), (x, labels)):
        encoded = torch.unique(b, return_inverse=True)[1]
        assert by_name(a, b) == InfoAtlasLoss(slices=None)(a, torch.nn.functional.one_hot(encoded).float())
    assert by_name(x[0], labels[0]) == by_name(x[0], labels[0].unsqueeze(-1))
    renamed = (labels[0] * 7919) % 1000  # other names in another order: a label is no number
    assert by_name(x[0], renamed) == pytest.approx(float(by_name(x[0], labels[0])), abs=0.05)
    with pytest.raises(ValueError, match=r"y has 240 classes, at most 20 .* pass slices=25"):
        by_name(x[0], torch.arange(240))
    assert torch.isfinite(InfoAtlasLoss(slices=2, classes="y")(x[0], torch.arange(240) // 8))
    with pytest.raises(TypeError, match="class labels have to be integers or booleans"):
        by_name(x[0], x[0, :, 0])
    with pytest.raises(ValueError, match="classes has to be x, y or both"):
        InfoAtlasLoss(classes="z")


@pytest.mark.parametrize("gradient", ["envelope", "full"])
def test_large_inputs_are_the_same_in_parts(monkeypatch, gradient):
    objective = InfoAtlasLoss(slices=3, k=2, resample=False, gradient=gradient)
    weight = torch.rand(64)

    def results():
        x, y = (t.double().requires_grad_() for t in correlated(64, [0.8] * 4, batch=2))
        values = objective.mi(x, y).sum() + (objective.pointwise(x, y) * weight).sum()
        values.backward()
        return values.detach(), x.grad, y.grad

    whole = results()
    monkeypatch.setattr("infoatlas_rl.estimator.parts.PART", 130)  # two slices at a time
    for part, expected in zip(results(), whole, strict=True):
        torch.testing.assert_close(part, expected, atol=5e-5, rtol=1e-3)  # the network works in single precision
    x, y = correlated(64, [0.8] * 4)
    x.requires_grad_()
    objective(x, y).backward()  # the other side needs no gradient
    assert bool(torch.isfinite(x.grad).all())


def test_memory_is_that_of_one_part():
    # 8 slices of 2000 samples take 380 MB at once, and 50 MB one after the other.
    code = """
import torch
from infoatlas_rl import loss
from infoatlas_rl.estimator import parts
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
parts.PART = 2000
x, y = torch.randn(2, 2000, 6)
loss.InfoAtlasLoss(slices=1)(x.requires_grad_(), y).backward()
one = peak()
loss.InfoAtlasLoss(slices=8)(x, y).backward()
print(peak() - one)
"""
    if not Path("/proc/self/status").is_file():
        pytest.skip("the peak of memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150_000  # kB


def test_evaluation_does_not_depend_on_what_is_trained_in_between():
    x, y = correlated(64, [0.6] * 30)
    objective = InfoAtlasLoss(slices=2, k=2)
    first = objective.eval()(x, y)
    objective.train()(x, y)
    objective(x[:, :20], y)
    objective.eval()(x[:, :9], y)
    assert objective(x, y) == first
    assert InfoAtlasLoss(slices=2, k=2).train()(x, y) == first  # step 0


def test_a_restored_loss_draws_the_slices_of_the_uninterrupted_run():
    x, y = correlated(64, [0.6] * 30)
    objective = InfoAtlasLoss(slices=2, k=2, seed=3).train()
    objective(x, y)
    state = objective.state()
    assert (state["seed"], state["step"]) == (3, 1)
    expected = [float(objective(x, y)) for _ in range(2)]
    resumed = InfoAtlasLoss(slices=2, k=2).train()
    resumed.restore(state)
    assert [float(resumed(x, y)) for _ in range(2)] == expected
    with pytest.raises(ValueError, match="seed and step"):
        resumed.restore({"seed": 1})


@pytest.mark.parametrize("resample", [True, False])
def test_ranks_draw_the_same_slices_unless_asked_for_their_own(monkeypatch, resample):
    x, y = correlated(64, [0.6] * 30)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)

    def value(rank, **options):
        monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
        objective = InfoAtlasLoss(slices=2, k=2, resample=resample, **options)
        return float(objective.train()(x, y)), float(objective.eval()(x, y))

    same, own = [value(rank) for rank in (0, 1)], [value(rank, per_rank_slices=True) for rank in (0, 1)]
    assert same[0] == same[1] == own[0]
    assert own[0][0] != own[1][0]
    assert own[0][1] == own[1][1]  # evaluation


def test_the_first_slices_are_those_of_the_seed():
    # Key states that were found depend on them.
    generator = torch.Generator().manual_seed(5)
    drawn = [random_orthonormal(2, d, 3, generator=generator) for d in (7, 6)]
    objective = InfoAtlasLoss(slices=2, k=3).eval()
    objective.reseed(5)
    for frames, expected in zip(objective._frames(7, 6), drawn, strict=True):
        assert torch.equal(frames, expected)


def test_the_check_for_nan_can_be_left_out():
    x, y = correlated(64, [0.6])
    unchecked = InfoAtlasLoss(slices=None, check_finite=False)
    assert unchecked(x, y) == InfoAtlasLoss(slices=None)(x, y)
    with pytest.raises(torch.linalg.LinAlgError):
        unchecked(x, y.clone().fill_(math.nan))


def test_the_loss_can_be_copied_and_pickled(loss):
    x, y = correlated(64, [0.8] * 4)
    assert copy.deepcopy(loss)(x, y) == loss(x, y)
    assert pickle.loads(pickle.dumps(loss))(x, y) == loss(x, y)


def test_a_model_that_is_handed_over_is_not_shared(model):
    mine = copy.deepcopy(model)
    objective = InfoAtlasLoss(slices=None, weights=mine)
    x, y = correlated(100, [0.8])
    before = objective(x, y)
    mine.train().requires_grad_(True)
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.zero_()
    assert objective(x, y) == before
