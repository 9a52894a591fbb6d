"""The doctor finds full disks, closed folders, too many threads and runs at work, and says what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from infoatlas_rl import doctor
from infoatlas_rl.files import lock_folder
from tests.conftest import ROOT, run


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("INFOATLAS_ROOT", str(tmp_path))
    return tmp_path


def test_a_full_disk_is_a_fault(tiny_disk, monkeypatch):
    monkeypatch.setenv("INFOATLAS_ROOT", str(tiny_disk / "not" / "there" / "yet"))
    finding = doctor.check_disk()
    assert (finding.state, finding.fix) == (doctor.FAULT, "free some space, or set paths.root=")
    assert finding.text.startswith(f"0.0 GiB free in {tiny_disk}; ")


def test_a_folder_that_cannot_be_written_to_is_a_fault(unprivileged, monkeypatch):
    monkeypatch.setenv("INFOATLAS_ROOT", str(unprivileged))
    finding = doctor.check_folders()
    assert finding.state == doctor.FAULT
    assert finding.text == f"cannot write to {unprivileged} (Permission denied)"


def test_asking_leaves_nothing_in_a_folder(root):
    assert doctor.check_folders().state == doctor.GOOD
    assert os.listdir(root) == []


def test_more_threads_than_cores_are_noted(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 100_000)
    finding = doctor.check_threads()
    assert (finding.state, finding.fix.split("=")[0]) == (doctor.NOTE, "export OMP_NUM_THREADS")


def test_threads_beside_other_programs_are_noted(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    for load, state in ((0.2, doctor.GOOD), (2.1, doctor.NOTE)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, load, load))
        assert doctor.check_threads().state == state
    assert "load 2.1" in doctor.check_threads().text


def test_little_memory_is_noted_before_a_run_dies_of_it(monkeypatch):
    for free, state in ((2**18, doctor.FAULT), (2**21, doctor.NOTE), (2**24, doctor.GOOD)):
        monkeypatch.setattr(doctor.Path, "read_text", lambda self, free=free: f"MemTotal: 9 kB\nMemAvailable:   {free} kB\n")
        assert doctor.check_memory().state == state


def test_a_run_at_work_is_told_and_a_lock_that_nobody_holds_is_no_fault(root):
    folder = root / "runs" / "train" / "a"
    with lock_folder(folder):
        assert f"at work in {folder} (process {os.getpid()}: " in doctor.check_locks().text
        other = subprocess.Popen([sys.executable, "-c", ""])
        other.wait()
        (folder / ".lock").write_text(f"process {other.pid}: train")
        finding = doctor.check_locks()
        assert finding.state == doctor.NOTE
        assert f"{folder} is locked by process {other.pid}: train, which is no process of this machine" in finding.text
    assert doctor.check_locks() == doctor.Finding("runs", doctor.GOOD, "none at work")


def test_doctor_finds_no_fault_here():
    answer = run("-m", "infoatlas_rl.doctor")
    assert answer.returncode == 0, answer.stdout
    assert "no faults" in answer.stdout


def test_doctor_says_the_fix_for_numpy_2(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: "2.1.0" if package == "numpy" else "0.1.1")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    finding = doctor.check_numpy_mplib()
    assert finding.state == doctor.FAULT
    assert finding.fix == "pip install 'numpy<2'"


def test_fixes_are_those_of_a_checkout_or_of_a_wheel(tmp_path):
    assert doctor.ROBOT == "pip install -c constraints.txt -e '.[robot]'"
    (tmp_path / "infoatlas_rl").symlink_to(ROOT / "infoatlas_rl")
    answer = subprocess.run(
        [sys.executable, "-c", "from infoatlas_rl import doctor; print(doctor.ROBOT)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "pip install 'infoatlas-rl[robot]'\n"


def test_doctor_survives_a_check_that_breaks(monkeypatch):
    def check_nothing():
        raise OSError("boom")

    monkeypatch.setattr(doctor, "CHECKS", (check_nothing,))
    assert doctor.examine() == [doctor.Finding("nothing", doctor.FAULT, "OSError: boom")]
