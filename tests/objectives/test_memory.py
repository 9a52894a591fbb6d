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
