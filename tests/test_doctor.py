"""The doctor finds faults and says the fix."""

import pytest

pytest.importorskip("hydra")


from infoatlas_rl import doctor
from tests.conftest import run


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


def test_doctor_survives_a_check_that_breaks(monkeypatch):
    def check_nothing():
        raise OSError("boom")

    monkeypatch.setattr(doctor, "CHECKS", (check_nothing,))
    assert doctor.examine() == [doctor.Finding("nothing", doctor.FAULT, "OSError: boom")]
