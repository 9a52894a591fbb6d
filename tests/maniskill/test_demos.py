"""Files of demonstrations, ours and official ones, and everything that can be wrong with one."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.collect import demo_path
from infoatlas_rl.maniskill.demos import DemonstrationFileError, load_demonstrations, recorded_env
from infoatlas_rl.maniskill.tasks import get_task
from tests.conftest import damaged, read_or_refuse

simulator = pytest.mark.simulator


@simulator
def test_files_without_our_notes_are_read_like_official_ones(demo_root, tmp_path):
    task = get_task("PegInsertion")
    source = demo_path(demo_root, task)
    for suffix in (".h5", ".json"):
        shutil.copy(source.with_suffix(suffix), tmp_path / f"official{suffix}")
    meta = json.loads((tmp_path / "official.json").read_text())
    meta.pop("collection")
    for episode in meta["episodes"]:
        episode.pop("geometry")
    (tmp_path / "official.json").write_text(json.dumps(meta))
    ours, theirs = load_demonstrations(source, task), load_demonstrations(tmp_path / "official.h5", task)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.states, b.states, atol=1e-6)
    meta["episodes"][0]["episode_seed"] += 1
    (tmp_path / "official.json").write_text(json.dumps(meta))
    with pytest.raises(DemonstrationFileError, match="does not give its scene"):
        load_demonstrations(tmp_path / "official.h5", task)


SIZES = ("tip_offset", "target_offset", "half_size")


def edit(path, **entries):
    """Replace entries of the .json beside a file."""
    notes = path.with_suffix(".json")
    notes.write_text(json.dumps(json.loads(notes.read_text()) | entries))


def write_demonstrations(folder):
    """A file of one demonstration, that nobody recorded."""
    folder.mkdir(exist_ok=True)
    states = {"actors": {"cube": 13, "goal_site": 13}, "articulations": {"panda": 31}}
    with h5py.File(folder / "demo.h5", "w") as file:
        for kind, members in states.items():
            for name, size in members.items():
                values = np.random.default_rng(0).normal(size=(5, size)).astype(np.float32)
                file[f"traj_0/env_states/{kind}/{name}"] = values
        file["traj_0/actions"] = np.zeros((4, 8), np.float32)
    meta = {"env_info": {"env_id": "PickCube-v1"}, "episodes": [{"episode_id": 0, "episode_seed": 3, "success": True}]}
    (folder / "demo.json").write_text(json.dumps(meta))
    return folder / "demo.h5"


class TestBadFiles:
    """Every fault names the file, what is wrong with it, and the command that makes a good one."""

    @pytest.fixture
    def path(self, tmp_path):
        return write_demonstrations(tmp_path)

    def refused(self, path, message, task="PickCube", **options):
        with pytest.raises(DemonstrationFileError, match=message) as error:
            load_demonstrations(path, get_task(task), **options)
        assert "python tasks/collect_demos.py env=" in str(error.value)
        assert path.stem in str(error.value)

    @pytest.mark.parametrize("name", ["demo", "a=b", "été à la plage"])
    def test_the_file_itself_is_good_under_any_name(self, path, name):
        for suffix in (".h5", ".json"):
            path.with_suffix(suffix).rename(path.with_name(f"{name}{suffix}"))
        assert load_demonstrations(path.with_name(f"{name}.h5"), get_task("PickCube")).demonstrations[0].states.shape == (5, 100)

    def test_missing(self, path):
        path.unlink()
        self.refused(path, "no such file")

    def test_missing_json(self, path):
        path.with_suffix(".json").unlink()
        self.refused(path, "demo.json: no such file")

    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:2000])
        self.refused(path, "truncated, or not a file that can be used")

    def test_foreign_json(self, path):
        path.with_suffix(".json").write_text("[1, 2")
        self.refused(path, "not valid JSON")
        path.with_suffix(".json").write_text("{}")
        self.refused(path, "no list of episodes")

    def test_another_task(self, path):
        self.refused(path, "recorded in PickCube-v1, but env=StackCube needs StackCube-v1", task="StackCube")

    def test_without_states(self, path):
        with h5py.File(path, "a") as file:
            del file["traj_0/env_states"]
        self.refused(path, "traj_0 has no env_states")

    def test_another_robot(self, path):
        with h5py.File(path, "a") as file:
            file.move("traj_0/env_states/articulations/panda", "traj_0/env_states/articulations/fetch")
        self.refused(path, "no Panda among the robots")

    def test_too_few(self, path):
        self.refused(path, "1 successful demonstrations, 5 are needed", count=5)
        edit(path, episodes=[])
        self.refused(path, "0 successful demonstrations, some are needed")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "demo.json: not valid JSON"),
            ("[]", "demo.json: no list of episodes"),
            ("[" * 100_000, "demo.json: not valid JSON"),
            ("\xff", "demo.json: not valid JSON"),
            ('{"episodes": {}}', "demo.json: no list of episodes"),
            ('{"episodes": [1]}', "demo.json: episode 0 has to be an object, not 1; make"),
            ('{"episodes": [], "env_info": []}', r"demo.json: env_info has to be an object, not \[\]"),
            ('{"episodes": [], "env_info": {"env_kwargs": 1}}', "demo.json: env_kwargs has to be an object, not 1"),
        ],
    )
    def test_odd_json(self, path, text, message):
        path.with_suffix(".json").write_bytes(text.encode("latin1"))
        self.refused(path, message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"episode_id": None}, "episode 0 needs a whole number episode_id, not null"),
            ({"episode_id": "../0"}, "episode 0 needs a whole number episode_id"),
            ({"episode_seed": 1.5}, "episode 0 needs a whole number episode_seed, not 1.5"),
            ({"episode_seed": 2**70}, "episode 0 needs a whole number episode_seed"),
            ({"stage_ends": 3}, "stage_ends that are no list of whole numbers: 3"),
            ({"geometry": {"clearance": 1}}, "episode 0 has a geometry that is none"),
            ({"geometry": {name: [0, 0, 1e999] for name in SIZES} | {"clearance": 1}}, "a geometry that is none .NaN or inf"),
            ({"episode_id": 7}, "there is no /traj_7"),
        ],
    )
    def test_odd_episodes(self, path, change, message):
        edit(path, episodes=[{"episode_id": 0, "episode_seed": 3} | change])
        self.refused(path, message)

    def test_a_file_that_does_not_say_its_task(self, path):
        edit(path, env_info={})
        self.refused(path, r"demo\.json: no env_id in its env_info, so it does not say in which task .* add \"env_info\"")
        with pytest.raises(DemonstrationFileError, match="no env_id in its env_info"):
            recorded_env(path)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("actions", None, "there is no /traj_0/actions"),
            ("actions", {}, "/traj_0/actions is not a data set"),
            ("actions", np.zeros(4), r"/traj_0/actions has shape \(4,\) and type float64; \(steps, 1 or more\) numbers"),
            ("actions", np.float32(1), r"/traj_0/actions has shape \(\)"),
            ("actions", h5py.Empty("f4"), "/traj_0/actions has shape None"),
            ("actions", np.full((4, 8), b"a"), r"type \|S1"),
            ("actions", np.full((4, 8), np.inf), "traj_0 contains NaN or infinity"),
            ("env_states", np.zeros(3), "/traj_0/env_states is not a group"),
            ("env_states/actors", None, "there is no /traj_0/env_states/actors"),
            ("env_states/actors/cube", {}, "/traj_0/env_states/actors/cube is not a data set"),
            ("env_states/actors/cube", np.zeros((4, 13)), r"cube has shape \(4, 13\) .* \(5, 7 or more\) numbers are needed"),
            ("env_states/actors/cube", np.zeros((5, 3)), r"cube has shape \(5, 3\)"),
            ("env_states/actors/cube", np.zeros((5, 12)), "cube has 12 numbers a step; 13 are needed"),
            ("env_states/actors/cube", np.zeros((5, 13)), "a quaternion of zeros is no rotation"),
            ("env_states/actors/cube", np.zeros((5, 13), complex), "type complex128"),
            ("env_states/actors/cube", h5py.SoftLink("/traj_0/env_states/actors/goal_site"), "cube is a link to another"),
            ("env_states", h5py.ExternalLink("other.h5", "/traj_0/env_states"), "env_states is a link to another place"),
        ],
    )
    def test_odd_members(self, path, name, value, message):
        (path.parent / "other.h5").write_bytes(path.read_bytes())
        with h5py.File(path, "a") as file:
            del file[f"traj_0/{name}"]
            if isinstance(value, dict):
                file.create_group(f"traj_0/{name}")
            elif value is not None:
                file[f"traj_0/{name}"] = value
        self.refused(path, message)

    def test_data_of_other_files_is_not_read(self, path):
        (path.parent / "secret").write_bytes(bytes(4 * 8 * 4))
        with h5py.File(path.parent / "other.h5", "w") as other:
            other["actions"] = np.zeros((4, 8), np.float32)
        virtual = h5py.VirtualLayout((4, 8), np.float32)
        virtual[:] = h5py.VirtualSource(path.parent / "other.h5", "actions", (4, 8))
        for make in (
            lambda file: file.create_virtual_dataset("traj_0/actions", virtual),
            lambda file: file.create_dataset("traj_0/actions", (4, 8), np.float32, external=[(path.parent / "secret", 0, 128)]),
        ):
            with h5py.File(path, "a") as file:
                del file["traj_0/actions"]
                make(file)
            self.refused(path, "/traj_0/actions lies in another file, which is not followed")

    def test_more_data_than_the_file_holds(self, path):
        with h5py.File(path, "a") as file:
            del file["traj_0/actions"]
            file.create_dataset("traj_0/actions", (10**12, 8), np.float32, chunks=(1000, 8))
        self.refused(path, r"/traj_0/actions declares 32000.0 GB, which this file does not hold")

    def test_damaged_in_many_ways(self, path):
        """It is read or refused, and a bit too many never ends the process or asks for all memory."""
        good, notes, refusals = path.read_bytes(), path.with_suffix(".json"), 0

        def read(path):
            return load_demonstrations(path, get_task("PickCube"))

        for content in damaged(good, 240):
            path.write_bytes(content)
            refusals += read_or_refuse(read, path, DemonstrationFileError) is None
        assert refusals > 80
        path.write_bytes(good)
        for content in damaged(notes.read_bytes(), 100, seed=1):
            notes.write_bytes(content)
            read_or_refuse(read, path, DemonstrationFileError)
            read_or_refuse(recorded_env, path, DemonstrationFileError)


@simulator
def test_notes_that_do_not_fit_are_refused(demo_root, tmp_path):
    task = get_task("PegInsertion")
    path = tmp_path / "notes.h5"
    for suffix in (".h5", ".json"):
        shutil.copy(demo_path(demo_root, task).with_suffix(suffix), path.with_suffix(suffix))
    episodes = json.loads(path.with_suffix(".json").read_text())["episodes"]
    edit(path, episodes=[episodes[0], episodes[1] | {"episode_id": episodes[0]["episode_id"]}])
    with pytest.raises(DemonstrationFileError, match=f"two episodes have the episode_id {episodes[0]['episode_id']}"):
        load_demonstrations(path, task)
    edit(path, episodes=[episodes[0] | {"success": "false"}])
    with pytest.raises(DemonstrationFileError, match='needs a success that is true or false, not "false"'):
        load_demonstrations(path, task)
