"""What is minimised: hidden dependence is found, independence costs nothing, and all of it resumes."""

import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.objectives.independence import RAMP, Independence


def pairs(n, generator, *, dependent):
    """x in three dimensions; y is a function of its length, which no linear map of x shows, or independent."""
    x = torch.randn(n, 3, generator=generator)
    y = x.norm(dim=1, keepdim=True) if dependent else torch.randn(n, 1, generator=generator)
    return x, y + 0.1 * torch.randn(n, 1, generator=generator)


def trained(dependent, calls=150, n=128):
    generator = torch.Generator().manual_seed(0)
    penalty = Independence()
    for _ in range(calls):
        penalty(*pairs(n, generator, dependent=dependent))
    penalty.calls = RAMP  # at its full strength
    return torch.stack([penalty(*pairs(512, generator, dependent=dependent), learn=False) for _ in range(8)]).mean()


def test_dependence_that_no_linear_map_shows_is_found():
    # A correlation of 0.9 of one pair would be 0.4. Independent samples have squared correlations of 1/n in a dozen pairs.
    assert float(trained(dependent=True)) > 0.25
    assert float(trained(dependent=False)) < 0.02


def test_an_offset_of_times_hides_nothing():
    """Seconds of a minute, since 1970: in single precision they would all be one."""
    found = []
    for offset in (0.0, 1.7e9):
        generator = torch.Generator().manual_seed(0)
        penalty = Independence()
        for _ in range(20):
            second = 60 * torch.rand(256, 1, generator=generator, dtype=torch.float64)
            x = torch.cat([second / 60, torch.randn(256, 2, generator=generator, dtype=torch.float64)], 1)
            last = penalty(x, second + offset)
        found.append(float(last))
    assert found[1] == pytest.approx(found[0], rel=0.01)  # the offsets are rounded to 2e-7 s
    assert found[0] > 0.01


def test_an_encoder_loses_the_nuisance_and_keeps_the_rest():
    """The task wants signal and nuisance alike; with the penalty the code holds the signal alone."""
    generator = torch.Generator().manual_seed(0)
    penalty = InfoAtlasLoss(slices=None, direction="minimise").train()
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], 0.01)
    for _ in range(300):
        u = torch.randn(128, 2, generator=generator)
        z = (u @ weight).unsqueeze(1)
        loss = 0.1 * (z[:, 0] - u.sum(1)).square().mean() + penalty(z, u[:, 1:].sinh())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    signal, nuisance = weight.tolist()
    assert signal > 0.7
    assert abs(nuisance) < 0.35  # 1 without the penalty


def test_the_penalty_grows_over_the_first_calls():
    x, y = pairs(256, torch.Generator().manual_seed(0), dependent=False)
    y = x[:, :1]
    penalty = Independence()
    first = float(penalty(x, y))
    penalty.calls = RAMP
    assert float(penalty(x, y)) > 50 * first > 0


def test_a_resumed_penalty_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    generator = torch.Generator().manual_seed(0)
    batches = [pairs(64, generator, dependent=True) for _ in range(12)]
    whole = InfoAtlasLoss(slices=None, direction="minimise").train()
    expected = [float(whole(x.requires_grad_(), y).detach()) for x, y in batches]
    first = InfoAtlasLoss(slices=None, direction="minimise").train()
    for x, y in batches[:7]:
        first(x, y)
    torch.save(first.state(), tmp_path / "state.pt")
    resumed = InfoAtlasLoss(slices=None, direction="minimise", seed=5).train()
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [float(resumed(x, y).detach()) for x, y in batches[7:]] == expected[7:]
    whole.reset()
    assert float(whole(*batches[0]).detach()) == expected[0]


def test_evaluation_learns_nothing_and_is_symmetric_in_calls():
    generator = torch.Generator().manual_seed(0)
    penalty = InfoAtlasLoss(slices=None, direction="minimise").train()
    for _ in range(10):
        penalty(*(t.requires_grad_() for t in pairs(64, generator, dependent=True)))
    x, y = pairs(64, generator, dependent=True)
    penalty.eval()
    assert float(penalty(x, y)) == float(penalty(x, y))
    penalty.train()
    with torch.no_grad():
        assert float(penalty(x, y)) == float(penalty(x, y))


def test_without_learning_the_penalty_has_its_full_strength():
    """As a figure it does not depend on how long has been trained; half a squared correlation of one is 0.5."""
    x = torch.randn(512, 1, generator=torch.Generator().manual_seed(0))
    assert float(InfoAtlasLoss(slices=None, direction="minimise").eval()(x, x)) > 0.4


@pytest.mark.parametrize("wakes", [1, 4, 5])
def test_a_column_is_not_seen_until_it_varies(wakes):
    """A unit that is silent at first, and then speaks in one row."""
    generator = torch.Generator().manual_seed(0)
    penalty = InfoAtlasLoss(slices=None, direction="minimise")
    for call in range(12):
        x, y = torch.randn(128, 4, generator=generator), torch.randn(128, 1, generator=generator)
        x[:, 3] = 0
        x[0, 3] = 0.5 * (call >= wakes)
        value = penalty(x.requires_grad_(), y)
        (gradient,) = torch.autograd.grad(value, x)
        # A correlation moves by about 1 / n where a sample moves by a standard deviation.
        assert 0 <= float(value.detach()) < 0.01
        assert float(gradient.abs().max()) < 0.1
        if call < wakes:
            assert not gradient[:, 3].any()


def test_other_variables_are_refused_and_forgotten_ones_are_not():
    penalty = InfoAtlasLoss(slices=None, direction="minimise")
    x, y = pairs(64, torch.Generator().manual_seed(0), dependent=True)
    penalty(x, y)
    with pytest.raises(ValueError, match=r"x and y have 2 and 1 columns, the memory 3 and 1; .* or reset"):
        penalty(x[:, :2], y)
    penalty.reset()
    penalty(x[:, :2], y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loss, x, y: loss(x.expand(2, -1, -1), y.expand(2, -1, -1)), "takes one data set"),
        (lambda loss, x, y: loss(x, y, conditional=y), "conditional= is for direction='maximise'"),
        (lambda loss, x, y: loss(x * float("nan"), y), "x contains NaN or infinity"),
    ],
)
def test_what_cannot_be_minimised_is_said(call, message):
    x, y = pairs(64, torch.Generator().manual_seed(0), dependent=True)
    with pytest.raises(ValueError, match=message):
        call(InfoAtlasLoss(slices=None, direction="minimise"), x, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "down"}, "direction has to be one of maximise, minimise, not 'down'"),
        ({"memory": 10}, "memory has to be an integer of at least 256, not 10"),
        ({"reduction": "max"}, "reduction has to be one of mean, sum, none"),
        ({"views": "yes"}, "views has to be one of None, True, False, not 'yes'"),
        ({"seed": None}, "seed has to be an integer, not None"),
    ],
)
def test_wrong_arguments_are_answered_with_the_accepted_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        InfoAtlasLoss(**arguments)
