"""Columns of files: the same numbers from every format, and one line about what cannot be read."""

import builtins
import re
import warnings

import numpy as np
import pytest

from infoatlas_rl import pairwise_mi
from infoatlas_rl.columns import missing_in, numbers_of, read_columns


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "height,weight,kind\n1,10,a\n2,20,b\n3,,c\n4,40,a\n5,50,b\n6,60,b\n7,70,c\n8,80,a\n9,90,b\n10,100,c\n11,110,a\n12,120,b\n"
    )
    return path


def test_columns_are_chosen_by_name_and_by_number(table, tmp_path):
    x, y = read_columns(table, "height", "weight", drop_missing=True)
    assert x.shape == (11, 1)
    assert y[:3, 0].tolist() == [10, 20, 40]
    matrix = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "matrix.npy", matrix)
    first, rest = read_columns(tmp_path / "matrix.npy", "0", "1:")
    assert np.array_equal(first, matrix[:, :1])
    assert np.array_equal(rest, matrix[:, 1:])
    np.savez(tmp_path / "arrays.npz", a=matrix, b=matrix[:, 0])
    (both,) = read_columns(tmp_path / "arrays.npz", "a,b")
    assert both.shape == (4, 4)


def test_text_is_taken_as_classes(table):
    (kind,) = read_columns(table, "kind")
    assert kind.shape == (12, 2)
    assert kind[:3].tolist() == [[1, 0], [0, 1], [0, 0]]


def test_gaps_are_refused_or_left_out_together(table):
    with pytest.raises(ValueError, match=r"column weight has no value in row 3 of the data; 1 of 12 rows .* --drop-missing"):
        read_columns(table, "height", "weight")
    x, y = read_columns(table, "height", "weight", drop_missing=True)
    assert len(x) == len(y) == 11
    assert 3 not in x


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "no such file"),
        ("table.xlsx", b"", "files of this kind are not read; accepted are .csv"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "row 2 has 1 fields, the header 2"),
        ("empty.csv", b"", "no rows below its header"),
        ("header.csv", b"a,b\n", "no rows below its header"),
        ("rows.csv", b"0.5,1\n1,2\n3,4\n", "its first row is of numbers .0.5, 1., where names of columns belong"),
        ("double.csv", b"a,a,b\n1,2,3\n", "more than one column is called a"),
        ("binary.csv", b"\xff\xfe\x00\x01", "cannot be read as .csv"),
        ("text.csv", b"a,b\n1,u\n2,v\n3,w\n", "b is text with 3 different values in 3 rows"),
        ("damaged.npz", b"PK\x03\x04 nothing", "cannot be read as .npz"),
        ("damaged.npy", b"\x93NUMPY", "cannot be read as .npy"),
        ("zeros.npy", b"\x93NUMPY\x01\x00v\x00{'descr'" + bytes(107), "cannot be read as .npy"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_columns(path, "a", "b")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_an_unknown_column_is_answered_with_the_known_ones(table):
    with pytest.raises(ValueError, match=r"no column 'age'; there are height, weight, kind"):
        read_columns(table, "age")


def test_no_pickle_is_read(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"cannot be read as \.npy"):
        read_columns(tmp_path / "objects.npy", "0")


def test_parquet_gives_the_same_columns_or_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(ValueError, match=r"pip install 'infoatlas-rl\[data\]'"):
            read_columns(path, "a")
        return
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "b": ["u", "u"]}), path)
    assert read_columns(path, "a")[0].tolist() == [[1], [2]]
    words = pyarrow.table({"a": list(range(40)), "zip": ["10", "20"] * 20, "kind": ["none", "some"] * 20})
    pyarrow.parquet.write_table(words, path)  # which knows what is text, and what is missing
    assert [side.shape for side in read_columns(path, "zip", "kind")] == [(40, 1), (40, 1)]
    assert set(read_columns(path, "zip")[0].ravel()) == {0.0, 1.0}
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cannot be read as \.parquet"):
        read_columns(path, "a")
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'infoatlas-rl\[data\]'"):
        read_columns(path, "a")


def test_a_single_value_matters_only_where_it_is_asked_for(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.arange(5.0), version=np.array(3))
    assert read_columns(tmp_path / "arrays.npz", "a")[0].shape == (5, 1)
    with pytest.raises(ValueError, match="version is a single value"):
        read_columns(tmp_path / "arrays.npz", "version")


def test_words_for_nothing_are_words_in_memory():
    x = np.arange(40.0) % 7
    words = np.where(np.arange(40) % 2, "None", "some").astype(object)
    assert not missing_in(words).any()
    assert missing_in(words, words=True).sum() == 20
    assert numbers_of("data", "c", words).shape == (40, 1)
    assert list(missing_in(np.array([1.0, None, np.nan, "a"], dtype=object))) == [False, True, True, False]
    assert pairwise_mi({"x": x, "c": words}).mi.shape == (2, 2)


def test_columns_of_data_frames_are_classes_or_named():
    pandas = pytest.importorskip("pandas")
    b = np.random.default_rng(0).normal(size=200)
    frame = pandas.DataFrame({"b": b, "bin": pandas.cut(b, 4), "s": pandas.Series(["u", "v"] * 100, dtype="string")})
    found = pairwise_mi(frame)
    assert found.mi[0, 1] > 0.5
    gaps = frame.assign(s=frame.s.where(frame.index > 3))
    assert pairwise_mi(gaps, nan_policy="drop").n == 196
    with pytest.raises(ValueError, match="when has dates; accepted are numbers and text"):
        pairwise_mi({"b": b, "when": pandas.date_range("2020", periods=200, tz="UTC")})
    with pytest.raises(ValueError, match="b and a have different indexes"):
        pairwise_mi({"b": frame.b, "a": frame.b.sample(frac=1, random_state=0)})
    with pytest.raises(ValueError, match="b and a have different indexes"):
        pairwise_mi({"n": np.arange(200), "b": frame.b, "a": frame.b.sample(frac=1, random_state=0)})
    with pytest.raises(ValueError, match="more than one column is called 1; rename them"):
        pairwise_mi(pandas.DataFrame(np.ones((20, 3)), columns=[1, "1", "c"]))


def test_text_of_digits_is_of_classes_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers_of("data", "zip", np.array(["10", "20", "30"] * 10)).shape == (30, 2)


def test_one_word_among_numbers_is_told():
    ratings = np.array([*map(str, [0, 1, 2, 3] * 10), "?"], dtype=object)
    with pytest.warns(UserWarning, match="r is taken as 5 classes without an order, for '\\?' is no number"):
        assert numbers_of("t.csv", "r", ratings).shape == (41, 4)


def test_names_of_a_header_are_told_apart(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b, a\n1,2,3\n4,5,6\n")
    with pytest.raises(ValueError, match="more than one column is called a"):
        read_columns(path, "a")
    path.write_text('"x, m",b\n1,2\n3,4\n')
    assert read_columns(path, "x, m", "b")[0].shape == (2, 1)
    with pytest.raises(ValueError, match="no column 'y'; there are 'x, m', b"):
        read_columns(path, "y")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-01-01", "2024-01-02"] * 20, "x has dates; accepted are numbers and text"),
        ([*map(str, range(39)), "?"], "row 40 has '?', which is no number"),
    ],
)
def test_text_that_is_meant_for_something_else_is_named(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        numbers_of("table", "x", np.array(values))


def test_integers_at_both_ends_of_their_type_keep_their_order():
    ends = np.array([-(2**63), 0, 2**63 - 1])
    assert (np.diff(numbers_of("table", "x", ends)[:, 0]) > 0).all()
    near = np.array([2**60, 2**60 + 1, 2**60 + 2])
    assert numbers_of("table", "x", near)[:, 0].tolist() == [0, 1, 2]


def test_numbers_between_signs_are_classes_and_that_is_said():
    with pytest.warns(UserWarning, match="x is taken as 2 classes without an order; for numbers write '12%' without its signs"):
        assert numbers_of("table", "x", np.array(["12%", "7%"] * 10)).shape == (20, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers_of("table", "x", np.array(["A1", "B2"] * 10))
        numbers_of("table", "x", np.array(["1", "2"] * 10))
