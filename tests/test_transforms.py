"""The loss inside of ``torch.func`` transforms and ``torch.compile``."""

import warnings

import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

from infoatlas_rl import InfoAtlasLoss
from tests.conftest import correlated

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")

OPTIONS = [
    {"slices": None},
    {"slices": None, "gradient": "envelope"},
    {"slices": 3, "k": 2, "sides": "y", "gradient": "envelope"},
    {"slices": None, "gradient": "full"},
]


def samples(n: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(t.to(dtype) for t in correlated(n, [0.8, 0.5, 0.1], batch=3))


def gradients(loss: InfoAtlasLoss, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    sum(loss(a, b) for a, b in zip(x, y, strict=True)).backward()
    return x.grad


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_transformed_gradients_are_those_of_backward(options, dtype):
    # The first call is inside of the transforms, and with a number of samples that no other test has: nothing that is kept may
    # belong to them.
    loss = InfoAtlasLoss(**options, resample=False)
    x, y = samples(71 if dtype == torch.float32 else 73, dtype)
    batched = vmap(grad(loss))(x, y)
    single = grad(loss)(x[0], y[0])
    through = grad(lambda x: vmap(loss)(x, y).sum())(x)
    jacobian = jacrev(lambda x: loss.mi(x, y) if "gradient" in options else torch.stack([-loss(a, b) for a, b in zip(x, y)]))(x)
    expected = gradients(loss, x, y)
    tolerance = {"atol": 1e-5, "rtol": 0} if dtype == torch.float32 else {"atol": 1e-3, "rtol": 1e-3}
    for found in (batched, through, -torch.stack([jacobian[i, i] for i in range(3)])):
        torch.testing.assert_close(found, expected, **tolerance)
    torch.testing.assert_close(single, expected[0], **tolerance)


@pytest.mark.parametrize("options", OPTIONS[:3])
def test_forward_mode_agrees_with_reverse_mode(options, rng):
    loss = InfoAtlasLoss(**options, resample=False)
    x, y = (t[0] for t in samples(79))
    direction = torch.randn(x.shape, generator=rng)
    value, slope = jvp(lambda x: loss(x, y), (x,), (direction,))
    assert value == loss(x, y)
    assert float(slope) == pytest.approx(float((gradients(loss, x[None], y[None])[0] * direction).sum()), abs=1e-5)


def test_a_transform_counts_as_one_training_call_and_leaves_no_trace():
    loss = InfoAtlasLoss(slices=2, k=2).train()
    x, y = samples(83)
    vmap(grad(loss))(x, y)
    grad(loss)(x[0], y[0])
    assert loss.step == 2
    value = loss(x[0], y[0])
    resumed = InfoAtlasLoss(slices=2, k=2).train()
    resumed.restore({"seed": 0, "step": 2})
    assert resumed(x[0], y[0]) == value


def test_what_cannot_be_transformed_is_refused_and_does_no_harm():
    loss = InfoAtlasLoss(slices=None, classes="y")
    x, _ = samples(89)
    labels = (x[..., 0] > 0).long()
    before = loss(x[0], labels[0])
    with pytest.raises(ValueError, match=r"cannot be counted inside of torch.func.*one_hot\(labels, count\)"):
        vmap(loss)(x, labels)
    assert loss(x[0], labels[0]) == before


def test_the_loss_compiles_and_does_not_compile_anew_for_new_slices():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    plain, compiled = (InfoAtlasLoss(slices=2, k=2) for _ in range(2))
    call = torch.compile(compiled, backend=counter)
    x, y = (t[0] for t in samples(64))
    graphs = []
    for _ in range(3):
        expected = float(plain(x, y))
        assert float(call(x, y)) == pytest.approx(expected, abs=1e-5)
        graphs.append(counter.frame_count)
    assert compiled.step == 3
    assert graphs[0] == graphs[-1]


def test_a_loss_with_fixed_slices_compiles_into_one_graph():
    torch._dynamo.reset()
    loss = InfoAtlasLoss(slices=2, k=2, resample=False, check_finite=False)
    x, y = (t[0] for t in samples(64))
    expected = gradients(loss, x[None], y[None])[0]  # what is drawn once is drawn in a call before
    call = torch.compile(loss, backend="aot_eager", fullgraph=True)
    x.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(x, y).backward()
    torch.testing.assert_close(x.grad, expected, atol=1e-6, rtol=1e-4)
