"""Mutual information of all pairs of the columns of a table."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from infoatlas_rl.columns import numbers_of, whole_rows
from infoatlas_rl.estimator.discrete import distinct_rows
from infoatlas_rl.estimator.inputs import check_dense, check_index, on_host, warn
from infoatlas_rl.estimator.model import shared_pretrained
from infoatlas_rl.tables import Table

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

TILE = 8
"""Pairs of one of so many columns with one of as many others are a job."""
TOGETHER = 2000
"""Samples of the pairs that are estimated at a time: with few, most of the time is that of starting operations, and what many
need does not fit into the caches."""
MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class PairwiseMI:
    """Mutual information of all pairs of d columns."""

    names: list[str]
    mi: Array
    """``(d, d)``, symmetric, calibrated point estimates; NaN on the diagonal, and where nothing was asked for."""
    low: Array
    high: Array
    """``(d, d)``: ends of the calibrated 90 % intervals."""
    n: int
    """Rows that were used."""
    units: str = "nats"

    def ranked(self) -> list[tuple[str, str, float]]:
        """Pairs of names and their information, the largest first."""
        pairs = [
            (self.names[i], self.names[j], float(self.mi[i, j]))
            for i, j in itertools.combinations(range(len(self.names)), 2)
            if not np.isnan(self.mi[i, j])
        ]
        return sorted(pairs, key=lambda pair: -pair[2])

    def table(self, most: int = 20) -> Table:
        """The pairs with the largest information, with intervals."""
        place = {name: number for number, name in enumerate(self.names)}
        rows = [
            [a, b, f"{mi:.3f}", f"{self.low[place[a], place[b]]:.3f} to {self.high[place[a], place[b]]:.3f}"]
            for a, b, mi in self.ranked()[:most]
        ]
        note = f"{len(self.names)} columns, n = {self.n}."
        return Table(["column", "and column", f"MI ({self.units})", "90 %"], rows, note)

    def __str__(self) -> str:
        return self.table().text()


def pairwise_mi(
    data: Any,
    *,
    nan_policy: Literal["raise", "drop"] = "raise",
    units: Literal["nats", "bits"] = "nats",
    weights: str = "base",
    progress: bool | Progress = False,
    between: tuple[Sequence[str], Sequence[str]] | None = None,
    map: Callable[..., Iterable[Any]] = map,
) -> PairwiseMI:
    """Mutual information of all pairs of the columns of a table.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> height = rng.normal(170, 10, size=500)
        >>> size = np.where(height > 175, "tall", "short")
        >>> found = pairwise_mi({"height": height, "size": size, "luck": rng.normal(size=500)})
        >>> found.ranked()[0][:2]                       # the largest pair; print(found) shows all
        ('height', 'size')
        >>> found.mi.round(1)                           # pandas.DataFrame(found.mi, found.names, found.names)
        array([[nan, 0.6, 0. ],
               [0.6, nan, 0. ],
               [0. , 0. , nan]])

    Args:
        data: a data frame, a mapping of names to arrays ``(n,)``, or an array ``(n, d)``. Numbers are numbers,
            categories of numbers, too; text and booleans are classes without an order.
        nan_policy: ``"raise"`` an error where a value is missing, or ``"drop"`` the rows in which one is.
        progress: show a line on the standard error output, or call this with (done, total).
        between: two lists of names; only pairs of a column of the one and a column of the other are estimated, the rest is NaN.
        map: applies a function to jobs, one after the other by default; that of an executor of processes spreads them. They have
            to be spawned, not forked, which torch's threads do not survive. Jobs are independent, and results the same but for
            rounding.

    Raises:
        ValueError: fewer than two columns or 8 rows, columns of different lengths, missing values, dates or more than 20 classes,
            or names that are no columns; the message names column, row and remedy.
    """
    if nan_policy not in ("raise", "drop"):
        raise ValueError(f"nan_policy has to be raise or drop, not {nan_policy!r}")
    if units not in ("nats", "bits"):
        raise ValueError(f"units has to be nats or bits, not {units!r}")
    columns = _columns(data, nan_policy, shared_pretrained(weights).config.max_dim)
    names = list(columns)
    tell = (_on_terminal if progress else (lambda done, total: None)) if isinstance(progress, bool) else progress
    size = len(names)
    mi, low, high = (np.full((size, size), np.nan) for _ in range(3))
    pairs = _pairs(names, between)
    tiles: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, j in pairs:
        tiles.setdefault((i // TILE, j // TILE), []).append((i, j))
    jobs = [_Job(tile, {k: columns[names[k]] for pair in tile for k in pair}, units, weights) for tile in tiles.values()]
    done = 0
    for found in map(_estimate, jobs):
        for i, j, value, a, b in found:
            mi[i, j] = mi[j, i] = value
            low[i, j], high[i, j] = low[j, i], high[j, i] = a, b
        done += len(found)
        tell(done, len(pairs))
    return PairwiseMI(names, mi, low, high, len(next(iter(columns.values()))), units)


@dataclass(frozen=True)
class _Job:
    """Pairs of columns, with what another process needs for them."""

    pairs: list[tuple[int, int]]
    columns: dict[int, Array]
    units: str
    weights: str


def _estimate(job: _Job) -> list[tuple[int, int, float, float, float]]:
    """Pair, point estimate and interval."""
    model, rows = shared_pretrained(job.weights), []
    alike: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, j in job.pairs:
        alike.setdefault((job.columns[i].shape[1], job.columns[j].shape[1]), []).append((i, j))
    together = max(1, TOGETHER // len(job.columns[job.pairs[0][0]]))
    for pairs in alike.values():
        for first in range(0, len(pairs), together):
            some = pairs[first : first + together]
            found = model.estimate(*(np.stack([job.columns[k] for k in side]) for side in zip(*some, strict=True)))
            found = found.in_bits() if job.units == "bits" else found
            rows += [(*pair, *map(float, row)) for pair, *row in zip(some, found.mi, *found.interval, strict=True)]
    return rows


def _pairs(names: list[str], between: tuple[Sequence[str], Sequence[str]] | None) -> list[tuple[int, int]]:
    if between is None:
        return list(itertools.combinations(range(len(names)), 2))
    place = {name: number for number, name in enumerate(names)}
    sides = [[side] if isinstance(side, str) else [str(name) for name in side] for side in between]
    if unknown := [name for side in sides for name in side if name not in place]:
        some = ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and {len(names) - 10} more"
        raise ValueError(f"between: {unknown[0]!r} is no column; they are {some}")
    found = {tuple(sorted((place[a], place[b]))) for a, b in itertools.product(*sides) if a != b}
    if not found:
        raise ValueError("between: there is no pair of two different columns, one of each list")
    return sorted(found)


def _columns(data: Any, nan_policy: str, limit: int) -> dict[str, Array]:
    """Name to ``(n, k)``: numbers as they are, classes as columns of zeros and ones."""
    if isinstance(data, Mapping) or hasattr(data, "columns"):
        # Of Arrow tables the columns are without their names.
        named = list(data.keys() if isinstance(data, Mapping) else getattr(data, "column_names", data.columns))
        if double := [name for name, count in Counter(map(str, named)).items() if count > 1]:
            raise ValueError(f"more than one column is called {double[0]}; rename them")
        indexed = [name for name in named if isinstance(data, Mapping) and hasattr(data[name], "iloc")]
        for name in indexed[1:]:  # the columns of a frame have one index
            check_index(data[indexed[0]], data[name], str(name), str(indexed[0]))
        raw = {str(name): _as_array(data[name]) for name in named}
    else:
        array = _as_array(data)
        if array.ndim != 2:
            raise ValueError(f"data has shape {array.shape}; accepted are (n, d), a data frame, or names with arrays (n,)")
        raw = {str(number): column for number, column in enumerate(array.T)}
    if len(raw) < 2:
        raise ValueError(f"data has {len(raw)} columns; pairs need at least two")
    if wrong := [name for name, values in raw.items() if values.ndim != 1]:
        raise ValueError(f"{wrong[0]} has shape {raw[wrong[0]].shape}; accepted are columns (n,)")
    kept = whole_rows(raw, drop=nan_policy == "drop", remedy="nan_policy='drop' leaves them out")
    if kept.sum() > MOST_ROWS:
        raise ValueError(f"data has {int(kept.sum())} rows; at most {MOST_ROWS} are accepted: give a random choice of them")
    numbers = {name: numbers_of("data", name, values[kept]) for name, values in raw.items()}
    if wide := [name for name, values in numbers.items() if values.shape[1] > limit]:
        raise ValueError(
            f"{wide[0]} is text with {numbers[wide[0]].shape[1] + 1} classes; at most {limit + 1} are accepted: join rare ones"
        )
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(kept)[~np.isfinite(values).all(1)][0])
            raise ValueError(f"column {name} has infinity in row {row + 1} of the data; leave the row out")
    distinct = distinct_rows(*map(torch.from_numpy, numbers.values()))
    if distinct is None:
        return numbers
    rest = distinct.numpy()
    copies = len(rest) - int(rest.sum())
    warn(f"{copies} of {len(rest)} rows are copies of others; the estimates are of the {int(rest.sum())} different ones")
    return {name: values[rest] for name, values in numbers.items()}


def _as_array(values: Any) -> NDArray[Any]:
    """An array in which what is masked is missing."""
    check_dense("data", values)
    values = on_host(values)
    if np.ma.is_masked(values):
        return np.where(np.ma.getmaskarray(values), None, np.ma.getdata(values).astype(object))
    if str(getattr(values, "dtype", "")) in ("Int64", "UInt64"):  # of pandas, whose gaps would make doubles of all
        values = values.astype(object)
    return np.asarray(values)


def _on_terminal(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rmutual information: {done} of {total} pairs", end=end, file=sys.stderr, flush=True)
