"""Value and gradients are finite, whatever finite numbers the loss is given: a few hundred random cases of odd ones."""

import random

import pytest
import torch

from infoatlas_rl import InfoAtlasLoss

CASES = 60
"""Per type of number."""

COLUMNS = {
    "plain": lambda t, info: t,
    "constant": lambda t, info: torch.full_like(t, 3.7),
    "zero": lambda t, info: torch.zeros_like(t),
    "constant denormal": lambda t, info: torch.full_like(t, info.tiny / 7),
    "constant but for rounding": lambda t, info: 1 + 2 * info.eps * t,
    "denormal": lambda t, info: t * info.tiny / 4,
    "tiny": lambda t, info: t * 1e-30,
    "small": lambda t, info: t * 1e-7,
    "huge": lambda t, info: t * 1e30,
    "offset": lambda t, info: t + 1e6,
    "largest": lambda t, info: t.clamp(-2, 2) / 2 * info.max,
    "largest of both signs": lambda t, info: t.sign() * info.max,
    "repeated rows": lambda t, info: t[: len(t) // 8].repeat(len(t), 1)[: len(t)],
    "ties": lambda t, info: t.round(),
    "one that differs": lambda t, info: torch.eye(len(t), 1, dtype=t.dtype),
    "an outlier": lambda t, info: torch.cat([1e8 * t[:1], t[1:]]),
}
NUMBERS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def side(choice: random.Random, generator: torch.Generator, n: int, dtype: torch.dtype) -> tuple[list[str], torch.Tensor]:
    info, kinds = torch.finfo(dtype), choice.choices(list(COLUMNS), k=choice.choice([1, 1, 2, 3, 5]))
    columns = [COLUMNS[kind](torch.randn(n, 1, generator=generator, dtype=torch.float64), info) for kind in kinds]
    return kinds, torch.cat(columns, dim=1).clamp(-info.max, info.max).to(dtype)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_value_and_gradients_are_finite_for_any_finite_samples(model, dtype):
    losses = [
        InfoAtlasLoss(slices=slices, k=2, bound=bound, gradient=gradient, weights=model).eval()
        for slices, bound, gradient in (
            (None, "dv", "envelope"),
            (2, "dv", "full"),
            (2, "smile", "envelope"),
            (None, "nwj", "full"),
            (None, "infonce", "envelope"),
        )
    ]
    for seed in range(CASES):
        choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        n = choice.choice([16, 17, 24, 40])
        x_kinds, x = side(choice, generator, n, dtype)
        y_kinds, y = side(choice, generator, n, choice.choice([dtype, dtype, *NUMBERS]))
        loss = choice.choice(losses)
        x.requires_grad_()
        y.requires_grad_()
        value = loss(x, y)
        value.backward()
        finite = [bool(torch.isfinite(t).all()) for t in (value, x.grad, y.grad)]
        assert all(finite), (seed, loss, x_kinds, y_kinds, y.dtype, n)
