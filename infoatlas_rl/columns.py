"""Columns of CSV, Parquet and NumPy files, for ``infoatlas mi``: numbers as they are, text as one-hot classes."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import one_line

Array = NDArray[np.float64]

MISSING = {"", "na", "nan", "null", "none"}
"""Words that say in text files that there is no value; in memory they are words."""
TEXT = (".csv", ".tsv")
FORMATS = (*TEXT, ".parquet", ".npy", ".npz")


def read_columns(path: Path | str, *selections: str, drop_missing: bool = False) -> list[Array]:
    """Columns of a file, one matrix ``(n, d)`` for each selection.

    Args:
        path: ``.csv`` or ``.tsv`` with a header, ``.parquet`` (needs pyarrow), ``.npy`` of a matrix, or ``.npz`` of arrays.
        selections: names, separated by commas; of ``.npy`` numbers of columns, of any file ``2:5`` for columns 2 to 4.
        drop_missing: leave out the rows in which a value is missing, in any of the selections.

    Raises:
        ValueError: no such file, one that cannot be read, no such column, missing values; the message says which and what to do.
    """
    path, table = Path(path), read_table(path)
    chosen = [choose(path, list(table), selection) for selection in selections]
    used = whole_columns(path, {name: table[name] for names in chosen for name in names}, drop_missing=drop_missing)
    return [np.hstack([numbers_of(path, name, used[name]) for name in names]) for names in chosen]


def whole_columns(path: Path | str, table: Mapping[str, NDArray[Any]], *, drop_missing: bool) -> dict[str, NDArray[Any]]:
    """Columns of a file without rows in which a value is missing; text files have numbers, and gaps, as words.

    Raises:
        ValueError: missing values that are not to be left out.
    """
    text = Path(path).suffix.lower() in TEXT
    kept = whole_rows(table, drop=drop_missing, remedy="--drop-missing leaves them out", where=f"{path}: ", words=text)
    return {name: as_numbers(column[kept]) if text else column[kept] for name, column in table.items()}


def read_table(path: Path | str) -> dict[str, NDArray[Any]]:
    """All columns of a file, name to ``(n,)`` or ``(n, d)``, as they are there; numbers of text files are text.

    Raises:
        ValueError: no such file, or one that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: files of this kind are not read; accepted are {', '.join(FORMATS)}")
    try:
        return _read(path)
    except Exception as error:  # csv, zip files, headers of arrays and Parquet tell of damage by errors of many kinds
        raise ValueError(f"{path}: cannot be read as {path.suffix} ({one_line(error)})") from error


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Name to column, ``(n,)`` or ``(n, d)``."""
    match path.suffix.lower():
        case ".csv" | ".tsv":
            with open(path, newline="", encoding="utf-8-sig") as file:
                lines = [row for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",") if row]
            if len(lines) < 2:
                raise ValueError("it has no rows below its header")
            header, *rows = lines
            header = [name.strip() for name in header]
            if all(map(_is_number, header)) and not all(name.isdecimal() for name in header):
                raise ValueError(
                    f"its first row is of numbers ({', '.join(header)[:60]}), where names of columns belong; add them"
                )
            if double := {name for name in header if header.count(name) > 1}:
                raise ValueError(f"more than one column is called {', '.join(sorted(double))}")
            if wrong := [number for number, row in enumerate(rows, start=1) if len(row) != len(header)]:
                other = "; fields are separated by commas, not by semicolons" if ";" in "".join(header) else ""
                raise ValueError(f"row {wrong[0]} has {len(rows[wrong[0] - 1])} fields, the header {len(header)}{other}")
            return {name: np.array(column, dtype=object) for name, column in zip(header, zip(*rows), strict=True)}
        case ".parquet":
            try:
                import pyarrow.parquet as parquet
            except ImportError as error:
                raise ValueError("reading Parquet needs pyarrow: pip install 'infoatlas-rl[data]'") from error
            table = parquet.read_table(path)
            names = [name for name in table.column_names if not name.startswith("__index_level_")]  # of pandas
            return {name: _of_arrow(table.column(name)) for name in names}
        case ".npy":
            matrix = np.load(path, allow_pickle=False)
            matrix = matrix[:, None] if matrix.ndim == 1 else matrix
            if matrix.ndim != 2:
                raise ValueError(f"an array of shape {matrix.shape}; accepted are (n,) and (n, d)")
            return {str(number): column for number, column in enumerate(matrix.T)}
        case _:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}


def _of_arrow(column: Any) -> NDArray[Any]:
    """A column of an Arrow table; integers with gaps as objects, not as doubles, which end at 2^53."""
    gaps = column.null_count and "int" in str(column.type)
    return np.array(column.to_pylist(), dtype=object) if gaps else column.to_numpy()


def whole_rows(
    columns: Mapping[str, NDArray[Any]], *, drop: bool, remedy: str, where: str = "", words: bool = False
) -> NDArray[np.bool_]:
    """Which rows ``(n,)`` have a value in all columns.

    Args:
        drop: rows with gaps are no error.
        remedy, where: last and first words of the message.
        words: of text files, in which a word says that there is no value.

    Raises:
        ValueError: single values, columns of different lengths, or gaps; the message names the column and the row.
    """
    if single := [name for name, column in columns.items() if np.ndim(column) == 0]:
        raise ValueError(f"{where}{single[0]} is a single value; accepted are columns (n,) and (n, d)")
    if empty := [name for name, column in columns.items() if column.size == 0]:
        raise ValueError(f"{where}{empty[0]} has shape {columns[empty[0]].shape} and so is empty")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{where}columns of different lengths: {', '.join(f'{name} {n}' for name, n in lengths.items())}")
    gaps = {name: missing_in(column, words) for name, column in columns.items()}
    kept = ~np.any(list(gaps.values()), axis=0)
    if drop and len(kept) and not kept.any():
        name = max(gaps, key=lambda name: int(gaps[name].sum()))
        raise ValueError(
            f"{where}no row has a value in every column; {name} has none in {int(gaps[name].sum())} of {len(kept)} rows"
        )
    if not kept.all() and not drop:
        name = next(name for name, gap in gaps.items() if gap.any())
        row = int(np.flatnonzero(gaps[name])[0])
        raise ValueError(
            f"{where}column {name} has no value in row {row + 1} of the data; {int((~kept).sum())} of {len(kept)} rows have "
            f"gaps: {remedy}"
        )
    return kept


def choose(path: Path | str, names: Sequence[str], selection: str) -> list[str]:
    """Names of a selection: one of them, several with commas between, or ``2:5``."""
    if selection in names:
        return [selection]
    chosen: list[str] = []
    for part in (part.strip() for part in selection.split(",")):
        first, colon, last = part.partition(":")
        if part in names:
            chosen.append(part)
        elif colon and (first or "0").isdigit() and (last or "0").isdigit():
            chosen += names[int(first or 0) : int(last) if last else None]
        else:
            shown = ", ".join(f"{name!r}" if "," in name else name for name in names[:20]) + (", ..." if len(names) > 20 else "")
            raise ValueError(f"{path}: no column {part!r}; there are {shown}")
    if not chosen:
        raise ValueError(f"{path}: {selection!r} selects no column of {len(names)}")
    return chosen


def missing_in(column: NDArray[Any], words: bool = False) -> NDArray[np.bool_]:
    """``(n,)``; ``words``: :data:`MISSING` as well."""
    if column.dtype == object:
        return np.array([_is_missing(value) or (words and str(value).strip().lower() in MISSING) for value in column], dtype=bool)
    if np.issubdtype(column.dtype, np.datetime64) or np.issubdtype(column.dtype, np.timedelta64):
        return np.isnat(column)
    if np.issubdtype(column.dtype, np.floating):
        return np.isnan(column).reshape(len(column), -1).any(1)
    return np.zeros(len(column), dtype=bool)


_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # of pandas, which need not be there
        return True
    return isinstance(value, float | np.floating) and bool(value != value)


def numbers_of(path: Path | str, name: str, column: NDArray[Any]) -> Array:
    """``(n, d)``: numbers as they are; of text, whatever it says, a column of zeros and ones for every class but the last."""
    if column.dtype.kind in "bifu":
        if column.ndim > 2:
            raise ValueError(f"{path}: {name} has shape {column.shape}; accepted are (n,) and (n, d)")
        return _as_double(column).reshape(len(column), -1)
    if column.dtype.kind not in "OUS":
        raise ValueError(f"{path}: {name} has type {column.dtype}; accepted are numbers and text")
    if len(column) and hasattr(column[0], "year"):
        raise ValueError(f"{path}: {name} has dates; accepted are numbers and text")
    if len(column) and isinstance(column[0], list | tuple | np.ndarray):
        raise ValueError(f"{path}: {name} has a list in every row; accepted are numbers and text")
    if column.dtype != object or any(isinstance(value, str | bytes) for value in column):
        return classes_of(path, name, column)
    try:
        return as_numbers(column)[:, None].astype(np.float64)
    except (ValueError, TypeError):
        return classes_of(path, name, column)


def as_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """Text or objects as numbers, where all of them are; as they are, where not."""
    try:
        numbers = column.astype(np.float64)
    except (ValueError, TypeError):
        return column
    if numbers.size and np.abs(numbers).max() > 2**53 and all(_WHOLE.fullmatch(str(value)) for value in column.flat):
        whole = [int(value) for value in column.flat]
        numbers = np.array([value - min(whole) for value in whole], dtype=np.float64).reshape(column.shape)
    return numbers


def _as_double(column: NDArray[Any]) -> Array:
    """As doubles; integers beyond 2^53 less the smallest, as they would be equal to others, where that does not overflow."""
    if column.dtype.kind in "iu" and column.size:
        low, high = int(column.min()), int(column.max())
        if max(-low, high) > 2**53 and high - low <= np.iinfo(column.dtype).max:
            column = column - column.min(0)
    return column.astype(np.float64)


_SIGNED = re.compile(r"\W*\d+([.,]\d+)*\W*")
"""A number between signs: 12%, $12."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def classes_of(path: Path | str, name: str, column: NDArray[Any]) -> Array:
    """A column of zeros and ones for every different value, but for the last one."""
    classes, codes = np.unique(column.astype(str), return_inverse=True)
    if all(_DATE.match(value) for value in classes):
        raise ValueError(f"{path}: {name} has dates; accepted are numbers and text: write them as days or seconds")
    if all(_SIGNED.fullmatch(value) for value in classes) and not any(map(_is_number, classes)):
        remedy = f"for numbers write {str(classes[0])!r} without its signs"
        warnings.warn(f"{path}: {name} is taken as {len(classes)} classes without an order; {remedy}", stacklevel=2)
    words = [not _is_number(value) for value in classes]
    wordy = np.array(words)[codes]
    share = float(np.mean(wordy))
    if len(classes) > max(2, len(column) // 4):
        row = int(wordy.argmax())
        rest = f"row {row + 1} has {str(column[row])!r}, which is no number" if 0 < share < 0.5 else "too many for classes"
        raise ValueError(f"{path}: {name} is text with {len(classes)} different values in {len(column)} rows; {rest}")
    if 0 < share < 0.5:
        shown = ", ".join(repr(str(value)) for value, word in zip(classes, words, strict=True) if word)
        warnings.warn(
            f"{path}: {name} is taken as {len(classes)} classes without an order, for {shown} is no number; leave such rows out "
            "where it is one of numbers",
            stacklevel=2,
        )
    return np.eye(len(classes))[codes][:, : max(len(classes) - 1, 1)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
