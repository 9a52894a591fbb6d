"""Data sets in the published layouts of robomimic, LeRobot and diffusion policy."""

import json

import numpy as np
import pytest

from infoatlas_rl.keystates.datasets import DatasetError, format_of, load_dataset
from tests.conftest import run

h5py = pytest.importorskip("h5py")


def episodes(count=24, seed=0):
    """A way along x, then one along y, with a corner at a step of its own; actions and velocities beside it."""
    rng = np.random.default_rng(seed)
    out, corners = [], []
    for _ in range(count):
        corner = int(rng.integers(12, 22))
        path = np.concatenate([np.linspace([0, 0, 0], [1, 0, 0], corner), np.linspace([1, 0, 0], [1, 1, 0.4], 40 - corner)])
        out.append(path + 0.005 * rng.normal(size=path.shape))
        corners.append(corner)
    return out, corners


def write_robomimic(path):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for number, states in enumerate(episodes()[0]):
            demo = data.create_group(f"demo_{number}")
            demo.create_dataset("actions", data=np.zeros((40, 7)))
            demo.create_dataset("states", data=np.zeros((40, 32)))
            obs = demo.create_group("obs")
            obs.create_dataset("robot0_eef_pos", data=states)
            obs.create_dataset("robot0_eef_vel_lin", data=np.gradient(states, axis=0))
            obs.create_dataset("robot0_gripper_qpos", data=np.full((40, 2), 0.04))
            obs.create_dataset("agentview_image", data=np.zeros((40, 8, 8, 3), dtype=np.uint8))
    return path


FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [3], "names": None},
    "action": {"dtype": "float32", "shape": [2], "names": None},
}


def write_lerobot(path, version):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (path / "meta").mkdir(parents=True)
    (path / "meta/info.json").write_text(json.dumps({"codebase_version": version, "fps": 20, "features": FEATURES}))
    folder = path / "data/chunk-000"
    folder.mkdir(parents=True)
    tables = []
    for number, states in enumerate(episodes()[0]):
        columns = {
            "observation.state": pyarrow.array(list(states.astype(np.float32))),
            "action": pyarrow.array(list(np.zeros((40, 2), dtype=np.float32))),
            "timestamp": np.arange(40) / 20,
            "frame_index": np.arange(40),
            "episode_index": np.full(40, number),
            "index": np.arange(40) + 40 * number,
            "task_index": np.zeros(40, dtype=int),
        }
        tables.append(pyarrow.table(columns))
    if version == "v2.1":
        for number, table in enumerate(tables):
            parquet.write_table(table, folder / f"episode_{number:06d}.parquet")
    else:
        parquet.write_table(pyarrow.concat_tables(tables), folder / "file-000.parquet")
    return path


def write_zarr(path):
    zarr = pytest.importorskip("zarr")
    states, _ = episodes()
    root = zarr.open_group(str(path), mode="w")
    data, meta = root.create_group("data"), root.create_group("meta")
    for name, values in (("state", np.concatenate(states)), ("action", np.zeros((960, 2)))):
        data.create_dataset(name, data=values, shape=values.shape, dtype=values.dtype)
    images = np.zeros((960, 4, 4, 3), dtype=np.uint8)
    data.create_dataset("img", data=images, shape=images.shape, dtype=images.dtype)
    ends = np.arange(40, 961, 40)
    meta.create_dataset("episode_ends", data=ends, shape=ends.shape, dtype=ends.dtype)
    return path


def test_robomimic_observations_become_states(tmp_path):
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    assert format_of(path) == "robomimic"
    found = load_dataset(path)
    assert found.columns == {"robot0_eef_pos": 3, "robot0_gripper_qpos": 2}
    assert set(found.left_out) == {"robot0_eef_vel_lin", "agentview_image"}
    assert found.names[:3] == ["demo_0", "demo_1", "demo_2"]  # not demo_10
    np.testing.assert_array_equal(found.trajectories[2][:, :3], episodes()[0][2])
    chosen = load_dataset(path, columns=["robot0_eef_pos"], count=5)
    assert [t.shape for t in chosen.trajectories] == [(40, 3)] * 5
    assert "states: robot0_eef_pos (3)" in str(chosen)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_episodes_are_put_together(tmp_path, version):
    found = load_dataset(write_lerobot(tmp_path / "set", version))
    assert found.format == "LeRobot"
    assert found.columns == {"observation.state": 3}
    assert len(found.trajectories) == 24
    np.testing.assert_allclose(found.trajectories[11], episodes()[0][11], atol=1e-6)


def test_diffusion_policy_episodes_are_cut_at_their_ends(tmp_path):
    found = load_dataset(write_zarr(tmp_path / "set.zarr"))
    assert found.format == "diffusion policy"
    assert found.columns == {"state": 3}
    assert set(found.left_out) == {"action", "img"}
    np.testing.assert_array_equal(found.trajectories[-1], episodes()[0][-1])


def test_diffusion_policy_arrays_of_points_are_cut_as_well(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = write_zarr(tmp_path / "set.zarr")
    points = np.random.default_rng(0).normal(size=(960, 9, 2))
    zarr.open_group(str(path), mode="a")["data"].create_dataset("keypoint", data=points, shape=points.shape, dtype=points.dtype)
    found = load_dataset(path, columns=["keypoint"])
    assert [trajectory.shape for trajectory in found.trajectories] == [(40, 18)] * 24
    np.testing.assert_array_equal(found.trajectories[3], points[120:160].reshape(40, 18))


@pytest.mark.parametrize(
    ("ends", "said"), [([300, 700], "has 660 steps, but episodes end at 700"), ([400, 300, 660], "that rise")]
)
def test_ends_of_episodes_that_do_not_fit_are_named(tmp_path, ends, said):
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(tmp_path / "set.zarr"), mode="w")
    states, ends = np.zeros((660, 3)), np.array(ends)
    root.create_group("data").create_dataset("state", data=states, shape=states.shape, dtype=states.dtype)
    root.create_group("meta").create_dataset("episode_ends", data=ends, shape=ends.shape, dtype=ends.dtype)
    with pytest.raises(DatasetError, match=said):
        load_dataset(tmp_path / "set.zarr")


def test_a_missing_value_is_named(tmp_path):
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_3/obs/robot0_eef_pos"][4] = np.nan
    with pytest.raises(DatasetError, match="robot0_eef_pos of episode demo_3 has NaN or infinity at step 4"):
        load_dataset(path)


def test_what_cannot_be_read_is_named(tmp_path):
    robomimic = write_robomimic(tmp_path / "low_dim.hdf5")
    with pytest.raises(DatasetError, match=r"no 'foo' in this robomimic data set; there are agentview_image, robot0"):
        load_dataset(robomimic, columns=["foo"])
    with h5py.File(tmp_path / "images.hdf5", "w") as file:
        file.create_dataset("data/demo_0/obs/front_image", data=np.zeros((5, 4, 4, 3), dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"none of front_image looks like a state; say which are"):
        load_dataset(tmp_path / "images.hdf5")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DatasetError, match="neither robomimic"):
        load_dataset(tmp_path / "other.json")
    lerobot = write_lerobot(tmp_path / "set", "v2.1")
    broken = next((lerobot / "data").rglob("*.parquet"))
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DatasetError, match="cannot be read as LeRobot"):
        load_dataset(lerobot)
    (lerobot / "meta/info.json").write_text(json.dumps({"codebase_version": "v1.6"}))
    with pytest.raises(DatasetError, match=r"version 'v1\.6'; accepted are v2\.1 and v3\.0"):
        load_dataset(lerobot)


def test_files_of_other_kinds_are_told_what_is_read(tmp_path):
    pytest.importorskip("hydra")
    (tmp_path / "robomimic.json").write_text("{}")
    for name, said in (("robomimic.json", "is none of these: ManiSkill's .h5"), ("foo.zarr", "is not there: ManiSkill's .h5")):
        answer = run("tasks/cli.py", "keystates", str(tmp_path / name), f"paths.root={tmp_path}")
        assert answer.returncode == 1
        assert said in answer.stderr


def test_key_states_of_a_robomimic_file_on_the_command_line(tmp_path):
    pytest.importorskip("hydra")
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    quick = ["estimator.k=2", "profile.slices=2", "profile.k=2", "discovery.epochs=4", "threads=1", f"paths.root={tmp_path}"]
    answer = run("tasks/cli.py", "keystates", str(path), *quick)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "robomimic, 24 episodes; states: robot0_eef_pos (3), robot0_gripper_qpos (2)" in answer.stdout
    folder = "-".join([*tmp_path.parts[-2:], "low_dim"])  # robomimic calls all of its files so
    with np.load(tmp_path / f"runs/keystates/{folder}-default/keystates.npz") as found:
        steps = found["step"]
    # How many there are was not said; the corner is one of them.
    assert (np.abs(steps[:, :-1] - np.array(episodes()[1])[:, None]).min(1) <= 2).mean() > 0.9


def test_words_are_looked_for_not_letters(tmp_path):
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        for name in file["data"]:
            obs = file["data"][name]["obs"]
            obs["shovel_pos"], obs["index_finger"], obs["robot0_gripper_qvel"] = (
                np.ones((40, 3)),
                np.ones((40, 1)),
                np.ones((40, 2)),
            )
    data = load_dataset(path)
    assert set(data.columns) == {"robot0_eef_pos", "robot0_gripper_qpos", "shovel_pos"}
    assert list(load_dataset(path, columns="shovel_pos").columns) == ["shovel_pos"]
    with pytest.raises(DatasetError, match="no columns are asked for"):
        load_dataset(path, columns=[])
    with h5py.File(path, "a") as file:
        del file["data"]["demo_3"]["obs"]["robot0_eef_pos"]
        file["data"]["demo_3"]["obs"]["robot0_eef_pos"] = np.zeros((0, 3))
    with pytest.raises(DatasetError, match="robot0_eef_pos of episode demo_3 has no steps"):
        load_dataset(path)


def test_a_damaged_file_is_not_called_unknown(tmp_path):
    (tmp_path / "low_dim.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DatasetError, match=r"low_dim\.hdf5: not a readable HDF5 file \("):
        load_dataset(tmp_path / "low_dim.hdf5")
