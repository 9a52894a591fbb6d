"""``infoatlas``: one door to what people use.

    infoatlas mi table.csv --x height,weight --y age
    infoatlas mi table.csv --x height --y weight --given age
    infoatlas pairs table.csv
    infoatlas keystates env=PegInsertion
    infoatlas keystates demonstrations.hdf5
    infoatlas generate env=StackCube demos.count=5
    infoatlas train env=StackCube keystates=infoatlas
    infoatlas evaluate env=PickCube
    infoatlas doctor

``keystates``, ``generate``, ``train`` and ``evaluate`` are ``tasks/discover_keystates.py``, ``generate_demos.py``,
``train_policy.py`` and ``evaluate_policy.py``, with the same options, and need the robot extra.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from infoatlas_rl import __version__, doctor, estimate_mi, pairwise_mi
from infoatlas_rl.columns import FORMATS, choose, read_columns, read_table, whole_columns

COMMANDS = {
    "keystates": ("discover_keystates", "key states of demonstrations"),
    "generate": ("generate_demos", "many demonstrations from a few, cut at their key states"),
    "train": ("train_policy", "a policy from demonstrations and their key states"),
    "evaluate": ("evaluate_policy", "success rate of a policy"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in COMMANDS:
        return _task(arguments[0], arguments[1:])
    parser = argparse.ArgumentParser("infoatlas", description="Mutual information, and key states of robot demonstrations.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    mi = commands.add_parser("mi", help="mutual information of columns of a table")
    _add_mi_options(mi)
    pairs = commands.add_parser("pairs", help="mutual information of all pairs of the columns of a table")
    _add_pairs_options(pairs)
    for name, (script, what) in COMMANDS.items():
        commands.add_parser(name, help=f"{what}; options as of tasks/{script}.py", add_help=False)
    commands.add_parser("doctor", help="find set-up faults and say the fix")
    given = parser.parse_args(arguments)
    if given.command == "doctor":
        return doctor.main()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        try:
            (_pairs if given.command == "pairs" else _estimate)(given)
        except (ValueError, TypeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _add_mi_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help=f"a table: {', '.join(FORMATS)}")
    parser.add_argument("--x", required=True, help="columns by name, or 0:3 for the first three")
    parser.add_argument("--y", required=True, help="likewise; text is taken as classes")
    parser.add_argument("--given", help="columns that are known: conditional information")
    parser.add_argument("--units", choices=["nats", "bits"], default="nats")
    parser.add_argument(
        "--slices", type=int, help="average so many random projections; without, above 20 columns, informative ones"
    )
    parser.add_argument("--k", type=int, help="dimension of such a random projection, 5 if it is not given; with --slices")
    parser.add_argument("--permutations", type=int, default=0, help="of a test of independence; 99 for p-values down to 0.01")
    parser.add_argument("--seed", type=int, default=0, help="of projections and permutations (%(default)s)")
    parser.add_argument("--drop-missing", action="store_true", help="leave out rows with gaps")
    parser.add_argument("--json", action="store_true", help="print figures for programs")


def _estimate(given: argparse.Namespace) -> None:
    if given.k is not None and given.slices is None:
        raise ValueError(f"--k {given.k} is the dimension of random projections; say how many, --slices 25")
    chosen = [given.x, given.y] + ([] if given.given is None else [given.given])
    x, y, *known = read_columns(given.file, *chosen, drop_missing=given.drop_missing)
    options = {name: getattr(given, name) for name in ("units", "slices", "k", "permutations", "seed")}
    options = {name: value for name, value in options.items() if value is not None}
    found = estimate_mi(x, y, given=known[0] if known else None, **options)
    if given.json:
        low, high = found.interval
        figures = {"mi": found.mi, "low": low, "high": high, "bound": found.bound, "p_value": found.p_value, "units": found.units}
        print(json.dumps(figures | {"n": found.n, "dims": found.dims}))
    else:
        print(found)


def _add_pairs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help=f"a table: {', '.join(FORMATS)}")
    parser.add_argument("--columns", help="names, separated by commas; all of them by default")
    parser.add_argument("--most", type=int, default=20, help="pairs that are printed, the largest (%(default)s)")
    parser.add_argument("--units", choices=["nats", "bits"], default="nats")
    parser.add_argument("--drop-missing", action="store_true", help="leave out rows with gaps")
    parser.add_argument("--json", action="store_true", help="print names and the matrix for programs")


def _pairs(given: argparse.Namespace) -> None:
    if given.most < 1:
        raise ValueError(f"--most has to be at least 1, not {given.most}")
    table = read_table(given.file)
    names = list(table) if given.columns is None else choose(given.file, list(table), given.columns)
    columns = whole_columns(given.file, {name: table[name] for name in names}, drop_missing=given.drop_missing)
    found = pairwise_mi(columns, units=given.units, progress=sys.stderr.isatty())
    if given.json:
        matrix = [[None if value != value else value for value in row] for row in found.mi.tolist()]
        print(json.dumps({"names": found.names, "mi": matrix, "n": found.n, "units": found.units}))
    else:
        print(found.table(given.most).text())


def _task(name: str, options: list[str]) -> int:
    script, _ = COMMANDS[name]
    first = options[0] if options else "-"
    if name == "keystates" and not first.startswith("-") and ("=" not in first or Path(first).exists()):
        # A data set, of any format; quoted, for a name may look like a number or a list.
        path = first.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
        options = ["env=any", f"demos.path='{path}'", *options[1:]]
    try:
        module = importlib.import_module(f"infoatlas_rl.tasks.{script}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("infoatlas_rl"):
            raise
        remedy = "pip install 'infoatlas-rl[robot]'"
        print(f"error: infoatlas {name} needs {error.name}, which comes with the robot extra: {remedy}", file=sys.stderr)
        return 1
    sys.argv = [f"infoatlas {name}", *options]
    module.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
