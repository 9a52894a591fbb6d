"""Samples of any shape, type and size: values and gradients are finite, or one line says what is wrong with them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from infoatlas_rl import InfoAtlasLoss, estimate_mi, pairwise_mi
from infoatlas_rl.estimator.calibration import LARGEST
from tests.hostile.conftest import cases, refused

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OTHERS = (torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64)
KINDS = ("normal", "constant", "ties", "rows", "outlier", "sorted", "one column", "sparse", "nearly constant")
RARELY = (None,) * 12


@st.composite
def sides(draw: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sides that are mostly pairs: other kinds, types, scales and shapes, and here and there a NaN, an infinity or a row
    too few."""
    n = draw(st.integers(0, 60) | st.sampled_from([8, 16, 32, 64, 128]))
    batch = draw(st.sampled_from([None, None, None, 1, 3]))
    x = draw(side(n, batch))
    if draw(st.integers(0, 4)) == 0:
        y = x * draw(st.sampled_from([1, -1, 0, 1e-20])) if x.dtype in FLOATS else x
    else:
        y = draw(side(n, batch))
    if draw(st.sampled_from((*RARELY, True))):
        y = y[..., : max(0, n - 1), :] if y.ndim > 1 else y[:-1]
    return x, y


@st.composite
def side(draw: Any, n: int, batch: int | None) -> torch.Tensor:
    kind, dtype = draw(st.sampled_from(KINDS)), draw(st.sampled_from(FLOATS * 3 + OTHERS))
    d = draw(st.sampled_from([1, 1, 2, 3, 5, 8, 20, 21, 40, 0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    values = rng.standard_normal((batch or 1, n, d))
    if kind == "constant":
        values[:] = values[..., :1, :] if n else 0
    elif kind == "nearly constant":
        values = 1 + 1e-7 * values
    elif kind == "ties":
        values = values.round()
    elif kind == "rows" and n:
        values = values[:, rng.integers(min(n, 3), size=n)]
    elif kind == "outlier" and values.size:
        values.flat[rng.integers(values.size)] = 1e6
    elif kind == "sorted":
        values.sort(axis=1)
    elif kind == "one column":
        values[:] = values[..., :1] if d else 0
    elif kind == "sparse":
        values *= rng.random(values.shape) < 0.1
    most = 300 if dtype == torch.float64 else 37
    values = values * 10.0 ** draw(st.sampled_from([0, 0, 0, 0, -5, 3, 10, -30, most, -most]))
    if values.size and (planted := draw(st.sampled_from((*RARELY, math.nan, math.inf, -math.inf)))):
        values.flat[rng.integers(values.size)] = planted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        tensor = torch.from_numpy(values).to(dtype) if dtype in FLOATS else torch.from_numpy(np.nan_to_num(values)).to(dtype)
    if batch is None:
        tensor = tensor[0]
    return tensor[..., 0] if d == 1 and batch is None and draw(st.booleans()) else tensor


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "slices": st.sampled_from([None, 1, 3, 0, 2.5]),
        "k": st.sampled_from([1, 2, 5, 20, 0, 21]),
        "sides": st.sampled_from(["both", "x", "y"]),
        "bound": st.sampled_from(["dv", "nwj", "smile", "infonce", "mine"]),
        "gradient": st.sampled_from(["canonical", "envelope", "full"]),
        "direction": st.sampled_from(["maximise", "minimise"]),
        "views": st.sampled_from([None, True, False]),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
        "memory": st.sampled_from([256, 2048, 8]),
        "seed": st.integers(0, 2**63),
    },
)


@cases(
    pair=sides(),
    options=OPTIONS,
    training=st.booleans(),
    calls=st.integers(1, 2),
    conditional=st.none() | st.integers(0, 64).flatmap(lambda n: side(n, None)) | st.just("like x"),
)
def test_the_loss_and_its_gradients_are_finite_or_refused(pair, options, training, calls, conditional):
    x, y = (samples.clone().requires_grad_() if samples.dtype in FLOATS else samples for samples in pair)
    z = x.detach() + 1 if isinstance(conditional, str) else conditional
    try:
        loss = InfoAtlasLoss(**{"slices": 2, "k": 3, **options}).train(training)
        for _ in range(calls):
            value = loss(x, y, z).sum()
    except (ValueError, TypeError) as error:
        return refused(error)
    assert torch.isfinite(value), value
    if value.requires_grad:
        value.backward()
    for samples in (x, y):
        assert samples.grad is None or torch.isfinite(samples.grad).all()


@cases(
    pair=sides(),
    options=st.fixed_dictionaries(
        {},
        optional={
            "slices": st.sampled_from([None, 1, 2, -1]),
            "k": st.sampled_from([1, 3, 20, 0]),
            "bound": st.sampled_from(["dv", "nwj", "smile", "infonce", ""]),
            "cross_fit": st.booleans(),
            "permutations": st.sampled_from([0, 2, -1]),
            "classes": st.sampled_from([None, None, "x", "y", "both", "z"]),
        },
    ),
    arrays=st.booleans(),
)
def test_an_estimate_is_finite_or_refused(pair, options, arrays):
    x, y = (samples.numpy() if arrays and samples.dtype != torch.bfloat16 else samples for samples in pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # outside of the range of training, said as a warning
        try:
            found = estimate_mi(x, y, **options)
        except (ValueError, TypeError) as error:
            return refused(error)
    low, high = found.interval
    assert np.isfinite([found.mi, low, high, found.bound]).all(), found
    assert np.max(high) <= LARGEST
    assert np.all((np.asarray(low) >= 0) & (low <= np.asarray(found.mi)) & (found.mi <= np.asarray(high))), found


CELLS = {
    "numbers": st.floats(-1e3, 1e3),
    "any numbers": st.floats(allow_nan=False, allow_infinity=False),
    "with gaps": st.floats(-1, 1) | st.just(math.nan),
    "infinite": st.floats(-1, 1) | st.just(math.inf),
    "integers": st.integers(-3, 3),
    "huge integers": st.integers(-(2**70), 2**70),
    "text": st.sampled_from(["red", "green", "blue"]),
    "any text": st.text(max_size=4),
    "booleans": st.booleans(),
    "mixed": st.sampled_from([None, 1, "one", 2.5, True, (), {}, b"x"]),
    "dates": st.sampled_from([np.datetime64("2020-01-01"), np.datetime64("NaT")]),
    "complex": st.sampled_from([1j, 2.0]),
}


@st.composite
def tables(draw: Any) -> dict[str, Any]:
    n = draw(st.integers(0, 24) | st.just(16))
    table = {}
    for number in range(draw(st.integers(0, 4))):
        cell = CELLS[draw(st.sampled_from(sorted(CELLS)))]
        length = draw(st.sampled_from([n] * 10 + [n + 1]))
        values: Any = draw(st.lists(cell, min_size=length, max_size=length))
        if draw(st.booleans()) and all(isinstance(value, int | float) for value in values):
            values = np.array(values)
        table[draw(st.sampled_from(["", "a", "ä", "a b"])) + str(number)] = values
    return table


@cases(table=tables(), policy=st.sampled_from(["raise", "drop", "drop", "keep"]))
def test_all_pairs_of_a_table_are_finite_or_refused(table, policy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = pairwise_mi(table, nan_policy=policy)
        except (ValueError, TypeError) as error:
            return refused(error)
    off = ~np.eye(len(found.names), dtype=bool)
    for matrix in (found.mi, found.low, found.high):
        assert np.isfinite(matrix[off]).all(), found.mi
    assert (found.mi[off] >= 0).all()
