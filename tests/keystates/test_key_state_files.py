"""Trajectories and key states are read from good NPZ files; every other file is refused in one line that names it."""

import io
import json
import zipfile

import numpy as np
import pytest

from infoatlas_rl.keystates.files import load_trajectories, read_key_states, write_key_states
from tests.conftest import damaged, read_or_refuse


def refused(read, path, message):
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).count("\n") == 0
    assert str(path) in str(error.value)
    assert type(error.value) is ValueError


def npy(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def swapped_names() -> bytes:
    """A zip file of which an error would quote a long stretch: its header says that a name is as long as an array."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros((40, 4)))
    content = bytearray(buffer.getvalue())
    content[26:28] = b"\xff\x03"  # the length of the name, in the header of the first file
    return bytes(content)


def zipped(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_key_states_are_written_for_people_and_programs(tmp_path):
    states, steps = [np.arange(12.0).reshape(6, 2)] * 2, np.array([[1, 5], [2, 4]])
    identity = [{"episode": 0, "seed": 7}, {"episode": 1, "name": "second"}]
    content = {"config": {}, "weights_sha256": None}
    write_key_states(tmp_path, content, identity, states, steps, np.array([[0.5, 1.0], [0.25, 2.0]]), None)
    assert (tmp_path / "keystates.csv").read_text().splitlines() == [
        "episode,name,key_state,step,mi_nats",
        "0,7,1,1,0.5",
        "0,7,2,5,1.0",
        "1,second,1,2,0.25",
        "1,second,2,4,2.0",
    ]
    episodes = json.loads((tmp_path / "keystates.json").read_text())["episodes"]
    assert episodes[1]["key_states"][1] == {"concept": 2, "step": 4, "mi": 2.0}
    with np.load(tmp_path / "keystates.npz") as arrays:
        assert arrays["concept"].tolist() == [1, 2]
        assert arrays["states"][1, 0].tolist() == [4, 5]


def test_trajectories_are_read_from_npz(tmp_path):
    arrays = [np.random.default_rng(0).random((n, 3)) for n in (5, 7)]
    np.savez(tmp_path / "ragged.npz", first=arrays[0], second=arrays[1])
    names, read = load_trajectories(tmp_path / "ragged.npz")
    assert names == ["first", "second"]
    np.testing.assert_array_equal(read[1], arrays[1])
    np.savez_compressed(tmp_path / "one.npz", arrays[0].astype(np.float16))
    assert load_trajectories(tmp_path / "one.npz")[1][0].dtype == np.float64
    np.savez(tmp_path / "stacked.npz", states=np.arange(48).reshape(4, 6, 2))
    names, read = load_trajectories(tmp_path / "stacked.npz")
    assert names == ["states[0]", "states[1]", "states[2]", "states[3]"]
    np.testing.assert_array_equal(read[3], np.arange(36.0, 48).reshape(6, 2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"second has shape \(3,\)"),
        (np.zeros((4, 6, 2)), r"second has shape \(4, 6, 2\)"),
        (np.zeros((4, 2), complex), "type complex128"),
        (np.zeros((4, 2), "m8[s]"), "type timedelta64"),
        (np.full((4, 2), "1"), "type <U1"),
    ],
)
def test_arrays_of_another_kind_are_named(tmp_path, array, message):
    np.savez(tmp_path / "bad.npz", first=np.zeros((5, 3)), second=array)
    refused(load_trajectories, tmp_path / "bad.npz", f"{message}.*; accepted are one array of numbers")


def test_a_single_array_of_text_is_not_read_as_numbers(tmp_path):
    np.savez(tmp_path / "bad.npz", np.full((2, 4, 3), "1"))
    refused(load_trajectories, tmp_path / "bad.npz", "arr_0 has shape .*type <U1; accepted are")


def test_files_that_are_no_npz_of_plain_arrays_are_refused(tmp_path):
    path = tmp_path / "bad.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (4 * 10**13, 2)})
    huge = header.getvalue() + bytes(64)
    contents = {
        "no such file": None,
        "File is not a zip file": b"no",
        "not an .npz file": b"",
        "not a zip": npy(np.zeros((4, 2))),
        "Object arrays cannot be loaded": {"a.npy": npy(np.array([{}, 1], object), allow_pickle=True)},
        "holds 'readme.txt', which is no array": {"a.npy": npy(np.zeros((4, 2))), "readme.txt": "hello"},
        "magic string is not correct": {"a.npy": b"this is no array at all"},
        "it holds no array": {},
        "Unable to allocate": {"a.npy": huge},
        r"^.{,600}$": swapped_names(),
    }
    for message, content in contents.items():
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            zipped(path, content)
        refused(load_trajectories, path, message)
        refused(lambda path: read_key_states(path, [0]), path, message if content is not None else "no key states at")


def key_states(path, **replaced):
    rng = np.random.default_rng(0)
    arrays = {
        "seed": np.array([3, 5]),
        "step": np.array([[4, 9], [5, 8]]),
        "states": rng.random((2, 2, 10)),
        "config": np.array("{}"),
    }
    np.savez_compressed(path, **{name: array for name, array in (arrays | replaced).items() if array is not None})
    return path


def test_key_states_come_in_the_order_of_the_seeds_asked_for(tmp_path):
    steps, states = read_key_states(key_states(tmp_path / "keystates.npz"), [5, 3])
    np.testing.assert_array_equal(steps, [[5, 8], [4, 9]])
    assert states.shape == (2, 2, 10)
    with pytest.raises(ValueError, match=r"holds key states of 2 demonstrations; 1 of the 2 .* \(seed 4, for one\)"):
        read_key_states(tmp_path / "keystates.npz", [3, 4])


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"states": None}, "no array 'states' among seed, step, config, so not key states; make it again with: python"),
        ({"step": None}, "no array 'step' among seed, states, config, so not key states; make it again with: python"),
        ({"step": np.array([[0.5, 1], [2, 3]])}, r"step has shape \(2, 2\) and type float64; for n demonstrations"),
        ({"states": np.zeros((2, 3, 10))}, r"states has shape \(2, 3, 10\)"),
        ({"seed": np.array([1, 2, 3])}, r"seed has shape \(3,\)"),
        ({"seed": np.array([None, 2])}, "Object arrays cannot be loaded"),
    ],
)
def test_what_is_wrong_with_key_states_is_said(tmp_path, replaced, message):
    refused(lambda path: read_key_states(path, [3]), key_states(tmp_path / "keystates.npz", **replaced), message)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_files_are_read_or_refused_and_never_give_other_numbers(tmp_path, save):
    path = tmp_path / "trajectories.npz"
    arrays = {"a": np.random.default_rng(0).random((5, 3)), "b": np.zeros((9, 3))}
    save(path, **arrays)
    good, refusals = path.read_bytes(), 0
    for content in damaged(good, 300):
        path.write_bytes(content)
        result = read_or_refuse(load_trajectories, path)
        refusals += result is None
        for name, array in zip(*result or ([], []), strict=True):
            assert name not in arrays or np.array_equal(array, arrays[name])
    assert refusals > 200
    for content in damaged(key_states(path).read_bytes(), 100, seed=1):
        path.write_bytes(content)
        read_or_refuse(lambda path: read_key_states(path, [3]), path)
