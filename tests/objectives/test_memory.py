"""Earlier batches, and values that rest on them."""

import pytest
import torch

from infoatlas_rl.objectives.memory import Memory, RunningValue


def test_the_newest_samples_are_kept_and_other_variables_begin_anew():
    memory = Memory(5)
    x = torch.arange(8.0).unsqueeze(1)
    assert not memory.add(x[:3], -x[:3])
    assert memory.add(x[3:6].requires_grad_(), -x[3:6])
    assert [side[:, 0].tolist() for side in memory.sides] == [[3, 4, 5, 0, 1], [-3, -4, -5, 0, -1]]
    assert not memory.sides[0].requires_grad
    assert len(memory) == 5
    assert not memory.add(x.expand(8, 2), x)
    assert len(memory) == 5
    memory.clear()
    assert len(memory) == 0


def test_a_running_value_is_computed_in_powers_of_two_and_every_so_often():
    seen = []

    def mean(x):
        seen.append(x.shape[-2])
        return x.mean((-1, -2))

    value = RunningValue(mean, capacity=30, every=8)
    values = [float(value(torch.full((1, 4, 1), float(call)))) for call in range(20)]
    assert seen == [4, 8, 12, 20, 30, 30]  # calls 0, 1, 2, 4, 8 and 16
    # Calls 10 to 16, and of call 9 two samples.
    assert values[16] == values[19] == pytest.approx((2 * 9 + 4 * sum(range(10, 17))) / 30)
    value(torch.zeros(2, 40, 1))  # other data sets; a batch of more than the capacity counts whole
    assert seen[-1] == 40


def test_samples_that_come_again_are_not_remembered_twice():
    memory = Memory(100, renew=True)
    data = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    for epoch in range(3):
        for rows in torch.randperm(30, generator=torch.Generator().manual_seed(epoch)).split(10):
            code = (data[rows] + epoch).requires_grad_()
            memory.add(code, data[rows])
    assert len(memory) == 30
    torch.testing.assert_close(memory.sides[0], memory.sides[1] + 2)  # the codes of the last epoch
    # Labels, and codes of which nothing is data, cannot be told from others.
    labels = torch.tensor([0.0, 1.0]).repeat(5).unsqueeze(1)
    ages = torch.arange(20, 30).unsqueeze(1)  # which others may have as well
    codes = data[:10].clone().requires_grad_()
    for sides in ((codes, labels), (codes, ages), tuple(data[:10].clone().requires_grad_() for _ in range(2))):
        memory = Memory(100, renew=True)
        for _ in range(2):
            memory.add(*sides)
        assert len(memory) == 20


def test_a_state_that_lacks_something_changes_nothing():
    value = RunningValue(lambda x, y: x.mean((-1, -2)), capacity=30)
    value(torch.ones(8, 1), torch.randn(8, 1))
    before = value.state()
    with pytest.raises(ValueError, match="state lacks last, numbers, sides"):
        value.restore({"calls": 3})
    assert value.state()["calls"] == before["calls"] == 1
