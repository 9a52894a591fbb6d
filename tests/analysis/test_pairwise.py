"""All pairs of the columns of a table: values, order, kinds of columns, and what is refused."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from infoatlas_rl import estimate_mi, pairwise_mi


def columns(n=400, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return {
        "a": a,
        "b": 0.8 * a + 0.6 * rng.normal(size=n),  # I = -log(1 - 0.8^2) / 2 = 0.51
        "c": rng.normal(size=n),
        "class": np.where(a > 0, "high", "low"),
    }


def test_pairs_are_those_of_estimate_mi_and_ranked():
    data = columns()
    found = pairwise_mi(data)
    assert found.names == ["a", "b", "c", "class"]
    assert found.n == 400
    np.testing.assert_array_equal(found.mi, found.mi.T)
    assert np.isnan(np.diag(found.mi)).all()
    alone = estimate_mi(data["a"], data["b"])
    assert found.mi[0, 1] == pytest.approx(alone.mi, abs=1e-3)
    assert found.low[0, 1] == pytest.approx(alone.interval[0], abs=1e-3)
    # A class is one of two: log 2 nats at most, all of which a has.
    assert found.mi[0, 3] == pytest.approx(np.log(2), abs=0.07)
    assert found.mi[0, 3] <= np.log(2) + 0.005  # the entropy, corrected for its bias
    assert {pair[:2] for pair in found.ranked()[:2]} == {("a", "class"), ("a", "b")}
    assert found.mi[2, [0, 1, 3]].max() < 0.05
    assert "a       b" in str(found) or "class" in str(found).splitlines()[1]


def test_bits_arrays_and_progress(capsys):
    data = np.stack(list(columns().values())[:3], axis=1).astype(float)
    seen = []
    bits = pairwise_mi(data, units="bits", progress=lambda done, total: seen.append((done, total)))
    assert bits.names == ["0", "1", "2"]
    assert seen[-1] == (3, 3)
    nats = pairwise_mi(data, progress=True)
    assert "3 of 3 pairs" in capsys.readouterr().err
    assert bits.mi[0, 1] * np.log(2) == pytest.approx(nats.mi[0, 1])


def test_rows_with_gaps_are_named_or_dropped():
    data = columns()
    data["b"] = data["b"].copy()
    data["b"][7] = np.nan
    with pytest.raises(ValueError, match=r"column b has no value in row 8 of the data; 1 of 400 .*: nan_policy='drop'"):
        pairwise_mi(data)
    assert pairwise_mi(data, nan_policy="drop").n == 399


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((10, 1)), "data has 1 columns; pairs need at least two"),
        (np.zeros(10), r"data has shape \(10,\); accepted are \(n, d\)"),
        ({"a": np.zeros(10), "b": np.zeros(9)}, "columns of different lengths: a 10, b 9"),
        ({"a": np.zeros(10), "b": np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]")}, "b has type datetime64"),
        ({"a": np.zeros(100), "b": np.array([f"word {i}" for i in range(100)])}, "b is text with 100 different values in 100"),
        ({"a": np.zeros(200), "b": np.array([f"word {i % 30}" for i in range(200)])}, "b is text with 30 classes; at most 21"),
        ({"a": np.zeros(10), "b": np.array([1.0] * 9 + [np.inf])}, "column b has infinity in row 10 of the data"),
        ({"a": np.arange(5.0), "b": np.arange(5.0)}, "n = 5 samples; at least 8"),
        ({"a": np.zeros((10, 2)), "b": np.zeros(10)}, r"a has shape \(10, 2\); accepted are columns \(n,\)"),
    ],
)
def test_what_is_no_table_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        pairwise_mi(data)
    with pytest.raises(ValueError, match="nan_policy has to be raise or drop"):
        pairwise_mi(data, nan_policy="ignore")


def test_constant_columns_tell_nothing():
    found = pairwise_mi({"a": np.zeros(100), "b": np.arange(100.0)})
    assert found.mi[0, 1] == pytest.approx(0.0, abs=0.02)


def test_pairs_between_two_lists_are_those_of_all_pairs_and_processes_change_nothing():
    data = columns(n=100)
    whole, some = pairwise_mi(data), pairwise_mi(data, between=(["a"], ["c", "class", "a"]))
    # Up to rounding, which depends on what is estimated together, and which a nearly separable class enlarges up to 1e-3. A pair
    # in the place of another would be 0.1 off.
    np.testing.assert_allclose(some.mi[0, 2:], whole.mi[0, 2:], atol=5e-3)
    assert np.isnan(some.mi[[0, 2], [1, 3]]).all()
    assert [pair[:2] for pair in some.ranked()] == [("a", "class"), ("a", "c")]
    array = np.stack([data[name] for name in "abc"], axis=1)
    assert pairwise_mi(array, between=([0], [1])).ranked()[0][:2] == ("0", "1")
    assert pairwise_mi(data, between=("class", ["a"])).ranked()[0][:2] == ("a", "class")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        wide = {f"{name}{copy}": values for copy in range(3) for name, values in data.items()}  # more than one tile
        np.testing.assert_allclose(pairwise_mi(wide, map=pool.map).mi, pairwise_mi(wide).mi, atol=5e-3)
    with pytest.raises(ValueError, match="between: 'd' is no column; they are a, b, c, class"):
        pairwise_mi(data, between=(["a"], ["d"]))
    with pytest.raises(ValueError, match="no pair of two different columns"):
        pairwise_mi(data, between=(["a"], ["a"]))


def test_masked_values_are_gaps():
    data = columns()
    spoilt = np.ma.array(data["b"].copy(), mask=np.arange(400) % 10 == 0)
    spoilt.data[::10] = -999.0
    with pytest.raises(ValueError, match="b has no value in row 1 of the data; 40 of 400"):
        pairwise_mi({"a": data["a"], "b": spoilt})
    found = pairwise_mi({"a": data["a"], "b": spoilt}, nan_policy="drop")
    whole = ~spoilt.mask
    assert found.n == 360
    assert found.mi[0, 1] == pytest.approx(estimate_mi(data["a"][whole], data["b"][whole]).mi, abs=1e-6)


def test_text_of_digits_is_of_classes():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 15, 200)
    z = rng.permutation(15)[code] % 2 + 0.5 * rng.normal(size=200)
    numbers = np.array([str(10000 + 37 * c) for c in code])
    found = [
        pairwise_mi({"z": z, "code": text}).mi[0, 1] for text in (numbers, np.char.add("z", numbers), numbers.astype(object))
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0] == pytest.approx(found[2], abs=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": np.full(100, np.nan), "b": np.arange(100.0)}, "no row has a value in every column; a has none in 100 of 100"),
        ({"a": np.zeros((0,)), "b": np.zeros((0,))}, r"a has shape \(0,\) and so is empty"),
        ({"a": np.r_[np.nan, np.arange(99.0)], "b": np.r_[np.zeros(4), np.inf, np.zeros(95)]}, "infinity in row 5 of the data"),
    ],
)
def test_what_is_left_of_a_table_is_said(data, message):
    with pytest.raises(ValueError, match=message):
        pairwise_mi(data, nan_policy="drop")


def test_tensors_are_columns():
    a = torch.linspace(0, 1, 64)
    assert pairwise_mi({"a": a.clone().requires_grad_(), "b": a.to(torch.bfloat16)}).mi[0, 1] > 1


def test_columns_of_arrow_tables_keep_their_names():
    pyarrow = pytest.importorskip("pyarrow")
    x, noise = np.random.default_rng(0).normal(size=(2, 100))
    found = pairwise_mi(pyarrow.table({"height": x, "weight": x + noise}))
    assert found.names == ["height", "weight"]


def test_whole_numbers_beyond_double_precision_keep_their_order():
    x, noise = np.random.default_rng(0).normal(size=(2, 300))
    whole = [int(100 * value) for value in x]
    expected = estimate_mi(whole, x + noise).mi
    assert estimate_mi([value + 2**70 for value in whole], x + noise).mi == pytest.approx(expected, abs=1e-6)
    pandas = pytest.importorskip("pandas")
    column = pandas.Series([None, *(value + 2**61 for value in whole[1:])], dtype="Int64")
    found = pairwise_mi(pandas.DataFrame({"x": column, "y": x + noise}), nan_policy="drop")
    assert found.mi[0, 1] == pytest.approx(expected, abs=0.03)  # one row fewer
