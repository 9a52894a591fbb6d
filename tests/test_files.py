"""Files appear whole or not at all, with the usual mode; a folder belongs to one run; every refusal is one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from infoatlas_rl import files
from infoatlas_rl.files import full_disk, lock_folder, replace_file


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_file_has_the_usual_mode_whatever_its_writer_made_of_it(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replace_file(tmp_path / "weights.safetensors") as temporary:
            save_file({"a": torch.zeros(2)}, temporary)
            temporary.chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), replace_file(path) as temporary:
        temporary.write_text(b"half")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_temporary_files_of_killed_runs_go_with_the_next_write_of_the_same_file(tmp_path):
    dead, living = dead_process(), os.getppid()
    for name in (f".a[1].txt.{dead}.tmp", f".a[1].txt.{living}.tmp", f".b.txt.{dead}.tmp", ".a[1].txt.old.tmp"):
        (tmp_path / name).write_text("half")
    with replace_file(tmp_path / "a[1].txt") as temporary:
        temporary.write_text("whole")
    left = {f".a[1].txt.{living}.tmp", f".b.txt.{dead}.tmp", ".a[1].txt.old.tmp"}
    assert set(os.listdir(tmp_path)) == {"a[1].txt"} | left


@pytest.mark.parametrize("name", ["key=value.json", "été à la plage.json", "two words.json", "x" * 255, "é" * 127, "%s{}"])
def test_unusual_names_work(tmp_path, name):
    with replace_file(tmp_path / name / name) as temporary, lock_folder(tmp_path / name):
        temporary.write_text(name)
    assert (tmp_path / name / name).read_text() == name


def test_names_that_cannot_be_are_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, message in (
        (tmp_path / ("x" * 256), "has 256 bytes; at most 255"),
        (tmp_path / "folder", "folder is a folder; name a file"),
        (tmp_path / "file" / "below.txt", r"below\.txt could not be written: .*file is a file, not a folder"),
    ):
        with pytest.raises(OSError, match=message) as error, replace_file(path):
            pytest.fail("the block ran")
        assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(unprivileged):
    message = rf"^{unprivileged}/a\.txt could not be written: {unprivileged} cannot be written to.*choose another folder"
    with pytest.raises(PermissionError, match=message), replace_file(unprivileged / "a.txt"):
        pytest.fail("the block ran")
    for folder in (unprivileged, unprivileged / "new" / "run"):
        with pytest.raises(PermissionError, match=f"{unprivileged} cannot be written to"), lock_folder(folder):
            pytest.fail("the block ran")


@pytest.mark.parametrize("writer", ["bytes", "torch", "safetensors", "numpy"])
def test_a_full_disk_is_called_a_full_disk_by_every_writer(tiny_disk, writer):
    content = torch.zeros(200_000)
    write = {
        "bytes": lambda path: path.write_bytes(bytes(800_000)),
        "torch": lambda path: torch.save(content, path),
        "safetensors": lambda path: save_file({"a": content}, path),
        "numpy": lambda path: np.save(path.open("wb"), content.numpy()),
    }[writer]
    message = rf"a\.bin could not be written: no space left on the disk of {tiny_disk} \(.* MB free\)"
    with pytest.raises(OSError, match=message), replace_file(tiny_disk / "a.bin") as temporary:
        write(temporary)
    assert os.listdir(tiny_disk) == []


def test_other_failures_are_not_blamed_on_the_disk(tmp_path):
    assert full_disk(RuntimeError("shapes differ"), tmp_path) is None
    assert full_disk(FileNotFoundError(errno.ENOENT, "no such file"), tmp_path) is None
    assert full_disk(None, tmp_path) is None
    assert "a quota or a limit on file sizes" in full_disk(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path)


def hold(folder: Path) -> subprocess.Popen:
    """A process that holds the lock of a folder until it is killed."""
    code = """if True:
        import sys, time
        from infoatlas_rl.files import lock_folder
        with lock_folder(sys.argv[1]):
            print("locked", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_second_run_in_a_folder_is_told_of_the_first_and_a_killed_one_locks_nothing(tmp_path):
    other = hold(tmp_path)
    message = rf"another run is at work in {tmp_path} \(process {other.pid}: .*choose another"
    with pytest.raises(ValueError, match=message), lock_folder(tmp_path):
        pytest.fail("the block ran")
    other.kill()
    other.wait()
    assert (tmp_path / ".lock").is_file()
    for _ in range(2):
        with lock_folder(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()}: ")


def test_a_file_system_without_locks_is_pointed_out_and_does_not_stop_a_run(tmp_path, monkeypatch):
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"without locks \(No locks available\): see to it") as said, lock_folder(tmp_path):
        pass
    assert said[0].filename == __file__


def test_temporary_names_stay_within_what_the_file_system_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "pathconf", lambda *_: 60)
    with replace_file(tmp_path / ("x" * 60)) as temporary:
        assert len(temporary.name) <= 60
        temporary.write_text("")
