"""Faults that batches bring into a loss: units, types, classes that come and go, one bad batch, validation before training."""

import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.objectives.independence import Independence, _moved


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(loss: InfoAtlasLoss, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    loss(x, y).backward()
    return x.grad


def unsliced(**options) -> InfoAtlasLoss:
    return InfoAtlasLoss(slices=None, **options)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_of_a_column_do_not_change_the_gradient(scale):
    told = normal(256, 1)
    x, y = told + 0.3 * normal(256, 1, seed=1), torch.cat([told, normal(256, 1, seed=2)], 1)
    other = y * torch.tensor([1.0, scale])
    torch.testing.assert_close(gradient(unsliced(), x, other), gradient(unsliced(), x, y), atol=1e-6, rtol=1e-3)


def test_units_hide_nothing_from_the_penalty():
    nuisance = normal(512, 1)
    noise = normal(512, 1, seed=1)
    penalties = []
    for scale in (1.0, 1e4):
        loss = unsliced(direction="minimise")
        for _ in range(3):
            penalty = loss(torch.cat([nuisance, scale * noise], 1), nuisance)
        penalties.append(float(penalty))
    assert penalties[0] > 0
    assert penalties[1] == pytest.approx(penalties[0], rel=0.02)


def test_offsets_do_not_change_the_contrast():
    x = normal(128, 4)
    y = x + 0.5 * normal(128, 4, seed=1)
    moved = gradient(unsliced(), x + 10, y + 10)
    torch.testing.assert_close(moved, gradient(unsliced(), x, y), atol=1e-5, rtol=1e-2)


def test_what_is_known_keeps_its_type():
    z = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)) * 0.9
    x = z + 0.05 * normal(1000, 1)
    y = x + 0.05 * normal(1000, 1, seed=1) > 0.5
    loss = unsliced().eval()
    assert float(loss(x, y.long(), z)) == pytest.approx(float(loss(x, y.double(), z)), abs=1e-6)
    with pytest.raises(ValueError, match="conditional contains NaN"):
        loss(x, y, z / 0)
    with pytest.raises(ValueError, match=r"conditional= is for numbers: with classes, pass torch\.nn\.functional\.one_hot"):
        unsliced(classes="y")(x, y, z)


def test_a_class_more_or_less_is_no_other_objective():
    labels = torch.randint(0, 3, (256,), generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.one_hot(labels, 4).float() @ normal(4, 4) + normal(256, 4, seed=1)
    four = labels.clone()
    four[0] = 3  # as many classes as columns of x
    a, b = (gradient(unsliced(classes="y"), x, y)[1:].flatten() for y in (labels, four))
    assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > 0.99


def test_labels_of_several_data_sets_are_remembered():
    loss = unsliced(classes="y")
    for seed in range(3):
        x = normal(2, 64, 3, seed=seed).requires_grad_()
        value = loss(x, torch.randint(0, 3, (2, 64), generator=torch.Generator().manual_seed(seed)))
    assert bool(torch.isfinite(value))


def test_more_classes_in_memory_than_can_be_encoded_are_forgotten():
    loss = unsliced(classes="y")
    for start in range(0, 40, 5):
        value = loss(normal(40, 2, seed=start).requires_grad_(), torch.arange(10).repeat(4) + start)
    assert bool(torch.isfinite(value))


def test_a_bad_batch_is_not_remembered():
    loss, bad = unsliced(), normal(64, 1)
    bad[0] = float("nan")
    with pytest.raises(ValueError, match="conditional contains NaN"):
        loss(normal(64, 2).requires_grad_(), normal(64, 2, seed=1), bad)
    assert bool(torch.isfinite(loss(normal(64, 2).requires_grad_(), normal(64, 2, seed=1), normal(64, 1, seed=2))))
    penalty = unsliced(direction="minimise", check_finite=False)
    for seed in range(4):
        values = penalty(torch.cat([normal(64, 2, seed=seed), bad if seed == 2 else bad.nan_to_num()], 1), normal(64, 1, seed=9))
    assert bool(torch.isfinite(values))


def test_validation_before_training_leaves_no_trace():
    x, y = normal(64, 3), normal(64, 1, seed=1)
    loss, fresh = unsliced(direction="minimise"), unsliced(direction="minimise")
    with torch.inference_mode():
        assert bool(torch.isfinite(loss.eval()(normal(64, 3, seed=2), normal(64, 1, seed=3))))
    for batch in (x, x + 1):
        torch.testing.assert_close(loss.train()(batch.clone().requires_grad_(), y), fresh(batch.clone().requires_grad_(), y))
    assert len(loss.state()["memory"]["sides"][0]) == 128


def test_a_state_of_the_other_direction_is_refused():
    penalty = unsliced(direction="minimise")
    penalty(normal(64, 3), normal(64, 1))
    with pytest.raises(ValueError, match="other direction, this one has direction='maximise'"):
        unsliced().restore(penalty.state())
    with pytest.raises(ValueError, match="other direction, this one has direction='minimise'"):
        penalty.restore(unsliced().state())


def test_a_penalty_does_not_learn_inside_of_transforms():
    penalty, y = unsliced(direction="minimise"), normal(64, 1)
    with pytest.raises(ValueError, match=r"learns in training, but not in torch\.func transforms"):
        torch.func.grad(lambda x: penalty(x, y))(normal(64, 3))
    penalty(normal(64, 3), y)
    assert torch.func.grad(lambda x: penalty.eval()(x, y))(normal(64, 3)).shape == (64, 3)


def test_update_names_what_does_not_fit():
    loss = unsliced()
    with pytest.raises(ValueError, match="all but the last dimension have to agree"):
        loss.update(normal(20, 1), normal(10, 1))
    with pytest.raises(ValueError, match="y contains NaN"):
        loss.update(normal(20, 1), normal(20, 1) / 0 * 0)


def test_what_is_moved_goes_on_as_it_was():
    x, y = normal(64, 3), normal(64, 1, seed=1)
    stayed, moved = Independence(), Independence()
    for penalty in (stayed, moved):
        penalty(x, y)
    state = _moved(moved.state(), torch.device("meta"))
    tensors = [
        *state["sides"],
        *state["weights"],
        *state["sines"],
        *state["moments"],
        *(t for part in state["frame"] for t in part),
    ]
    assert {t.device.type for t in tensors} == {"meta"}
    moved.restore(_moved(moved.state(), x.device))
    torch.testing.assert_close(moved(x + 1, y), stayed(x + 1, y))
