"""Worker processes that end when their parent does, and calls that are scattered over them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

RESTARTS = 2
"""How often worker processes that died are replaced before a run gives up."""
WATCH_SECONDS = 1.0


def end_with_parent() -> None:
    """Watch the parent of this process from a thread, and end this process when it is gone, however it ended.

    A parent that was killed cannot tell its workers, and a worker that waits for work would wait, with its memory, for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
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
                    f"worker processes died {attempt + 1} times without a traceback (killed, out of memory, or the simulator "
                    f"crashed), {len(left)} of {len(items)} episodes are left; `python -m infoatlas_rl.doctor` checks the set-up"
                ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
