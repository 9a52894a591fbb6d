"""Worker processes that end when their parent does, and calls that are scattered over them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np

RESTARTS = 2
"""How often worker processes that died are replaced before a run gives up."""


def end_with_parent() -> None:
    """Watch the parent of a process of :mod:`multiprocessing` from a thread, and end it when the parent is gone.

    A parent that was killed cannot tell its workers, and a worker that waits for work would wait, with its memory, for ever.

    Raises:
        RuntimeError: this process has no parent to watch.
    """
    parent = parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for processes that multiprocessing started; this one has no such parent")

    def watch() -> None:
        parent.join()  # however the parent ended: the system then closes a pipe, even if it was before this line
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def end_with_process(pid: int) -> None:
    """The same for a program that another program, process ``pid``, has started: it is asked every second who its parent is."""

    def watch() -> None:
        while os.getppid() == pid:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def worker_pool(
    processes: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of freshly started processes that end with this one.

    Raises:
        ValueError: fewer than one process.
    """
    if processes < 1:
        raise ValueError(f"processes has to be at least 1, not {processes}")
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start, initargs=(initializer, initargs))


def _start(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    end_with_parent()
    if initializer is not None:
        initializer(*initargs)


def cause_of_death(pool: ProcessPoolExecutor) -> str:
    """What is known of the workers of a pool that broke: signal or exit code of those that died by themselves, usual causes.

    To be called after ``BrokenProcessPool``; it shuts the pool down, which is what shows how its workers ended.
    """
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=True, cancel_futures=True)
    return describe_exits(worker.exitcode for worker in workers)


def describe_exits(codes: Iterable[int | None]) -> str:
    """Exit codes of workers in words; those that a broken pool ended (SIGTERM) are told only where there are no others."""
    ended = {code for code in codes if code}
    names, hints = [], []
    for code in sorted(ended - {-signal.SIGTERM} or ended):
        if code > 0:
            names.append(f"exit code {code}")
            hints.append("it ended itself: a fault at its start, or a library that gave up")
            continue
        number = signal.Signals(-code) if -code in set(signal.Signals) else -code
        names.append(getattr(number, "name", f"signal {number}"))
        hints.append(_HINTS.get(number, ""))
    if int(np.__version__.split(".")[0]) >= 2 and {-signal.SIGSEGV, -signal.SIGABRT} & ended:
        hints.append(f"numpy {np.__version__} with mplib 0.1.1 does this: pip install 'numpy<2'")
    known = "; ".join(dict.fromkeys(hint for hint in hints if hint))
    return f"{', '.join(names) or 'a fault at their start'}{f' ({known})' if known else ''}"


_HINTS = {
    signal.SIGKILL: "killed from outside, most often because memory ran out: fewer processes need less",
    signal.SIGTERM: "ended from outside",
    signal.SIGSEGV: "a library in C crashed: the simulator, the planner or the renderer",
    signal.SIGABRT: "a library in C gave up: the simulator, the planner or the renderer",
    signal.SIGBUS: "shared memory or the disk is full",
}


def scatter(
    function: Callable[[int], Any],
    items: Sequence[int],
    finish: Callable[[Any], None],
    *,
    processes: int,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> None:
    """Call ``finish(function(item))`` for every item, ``function`` in processes of their own, in any order.

    Processes that die are replaced, :data:`RESTARTS` times.

    Raises:
        ValueError: fewer than one process.
        RuntimeError: they died again; or what ``function`` raised, with its traceback.
    """
    left = set(items)

    def call(pool: ProcessPoolExecutor) -> None:
        futures = {pool.submit(function, item): item for item in items if item in left}
        for future in as_completed(futures):
            finish(future.result())
            left.discard(futures[future])

    for attempt in range(RESTARTS + 1):
        pool = worker_pool(min(processes, max(len(left), 1)), initializer, initargs)
        try:
            return call(pool)
        except BrokenProcessPool as error:
            if attempt == RESTARTS:
                raise RuntimeError(
                    f"worker processes died {attempt + 1} times without a traceback, the last by {cause_of_death(pool)}; "
                    f"{len(left)} of {len(items)} episodes are left; `infoatlas doctor` checks the set-up"
                ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
