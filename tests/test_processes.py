"""Workers end with their parent, however it ends; a worker that died is described by how it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from infoatlas_rl.processes import describe_exits, end_with_parent, scatter, worker_pool

PARENT = """
import os, time
from infoatlas_rl.processes import worker_pool

if __name__ == "__main__":
    pool = worker_pool(2)
    at_work = pool.submit(time.sleep, 60)
    pool.submit(os.getpid).result()  # by the other, which then waits
    print(*pool._processes, flush=True)
    time.sleep(60)
"""


def lives(process: int) -> bool:
    """Whether a process is there and not merely waiting for its parent to read its exit code."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_at_work_or_waiting_end_with_a_parent_that_is_killed(tmp_path, how):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(lives(worker) for worker in workers)
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(lives(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(lives(worker) for worker in workers)


def test_a_process_without_a_parent_of_ours_has_none_to_end_with():
    with pytest.raises(RuntimeError, match="no such parent"):
        end_with_parent()


def test_fewer_than_one_process_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        worker_pool(0)


def test_calls_that_kill_their_process_are_told_by_its_exit_code():
    with pytest.raises(RuntimeError, match=r"died 3 times .* by exit code 7 \(.*\); 1 of 1 episodes are left; .*doctor"):
        scatter(os._exit, [7], finish=lambda _: None, processes=1)


def test_numpy_2_is_blamed_for_crashes_alone_and_only_where_it_is_there(monkeypatch):
    killed, crashed = -signal.SIGKILL, -signal.SIGSEGV
    assert "SIGKILL (killed from outside" in describe_exits([killed, -signal.SIGTERM, None, 0])
    assert "SIGTERM" not in describe_exits([killed, -signal.SIGTERM])
    assert "SIGTERM (ended from outside)" in describe_exits([-signal.SIGTERM])
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert "numpy" not in describe_exits([crashed])
    monkeypatch.setattr(np, "__version__", "2.1.0")
    assert "numpy 2.1.0 with mplib 0.1.1 does this" in describe_exits([crashed])
    assert "numpy" not in describe_exits([killed])
