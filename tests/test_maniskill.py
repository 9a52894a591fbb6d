"""States, events, demonstrations and the simulator, on three tasks, with no rendering device needed."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill import pictures
from infoatlas_rl.maniskill.collect import collect_demonstrations, convert_demonstrations, demo_path
from infoatlas_rl.maniskill.demos import DemonstrationFileError, load_demonstrations, recorded_env
from infoatlas_rl.maniskill.envs import make_env, read_state
from infoatlas_rl.maniskill.events import detect_events, grasped, success
from infoatlas_rl.maniskill.panda import forward_kinematics
from infoatlas_rl.maniskill.renderless import ensure_simulator, rendering_device
from infoatlas_rl.maniskill.states import LAYOUT, STATE_DIM, STATE_INDEX, pose_matrix, positions
from infoatlas_rl.maniskill.tasks import TASKS, get_task

simulator = pytest.mark.simulator


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory):
    """A few real demonstrations of each task."""
    root = tmp_path_factory.mktemp("demos")
    for name, count in (("PickCube", 20), ("StackCube", 2), ("PegInsertion", 2)):
        collect_demonstrations(get_task(name), root, count, processes=2)
    return root


@pytest.fixture(params=list(TASKS))
def task(request):
    return TASKS[request.param]


def test_tasks_are_found_by_both_names():
    assert get_task("PegInsertion") is get_task("PegInsertionSide-v1")
    with pytest.raises(ValueError, match="unknown env 'OpenDrawer'; choose one of PickCube, StackCube, PegInsertion"):
        get_task("OpenDrawer")


def test_layout_has_exactly_hundred_numbers():
    assert STATE_DIM == 100
    covered = [i for part in STATE_INDEX.values() for i in range(100)[part]]
    assert covered == list(range(100))
    assert len({name for name, _, _ in LAYOUT}) == len(LAYOUT)


@simulator
def test_tasks_step_with_or_without_a_rendering_device(task):
    env = make_env(task)
    env.reset(seed=0)
    for _ in range(3):
        _, _, _, _, info = env.step(env.action_space.sample())
    assert "success" in info
    assert np.isfinite(read_state(env, task)).all()
    env.close()


@simulator
def test_the_shim_is_on_exactly_where_there_is_no_rendering_device():
    import sapien

    assert ensure_simulator() is (rendering_device() is not None)
    replaced = sapien.render.RenderMaterial.__module__.startswith("infoatlas_rl")
    assert replaced is (rendering_device() is None)
    if rendering_device() is None:
        with pytest.raises(RuntimeError, match=r"no rendering device.*doctor"):
            make_env(get_task("PickCube"), render=True)


@simulator
def test_forward_kinematics_is_the_simulators(task):
    env = make_env(task)
    env.reset(seed=1)
    for _ in range(5):
        env.step(env.action_space.sample())
    robot = env.unwrapped.agent.robot
    state = next(iter(env.unwrapped.get_state_dict()["articulations"].values())).numpy().astype(float)
    frames = forward_kinematics(state[:, 13:22], pose_matrix(state[:, :7]))
    names = {"panda_hand_tcp": "tcp", "panda_leftfinger": "left_finger", "panda_rightfinger": "right_finger"}
    compared = 0
    for link in robot.links:
        name = names.get(link.name, link.name.removeprefix("panda_"))
        if name in frames:
            np.testing.assert_allclose(frames[name][0, :3, 3], link.pose.p[0].numpy(), atol=2e-6)
            compared += 1
    assert compared == 11
    state = read_state(env, task)
    np.testing.assert_allclose(
        state[STATE_INDEX["tcp_linear_velocity"]], robot.links_map["panda_hand_tcp"].linear_velocity[0], atol=5e-3
    )
    env.close()


@simulator
def test_live_and_recorded_states_agree(task, demo_root):
    demo = load_demonstrations(demo_path(demo_root, task), task).demonstrations[0]
    env = make_env(task, control_mode="pd_joint_pos")
    env.reset(seed=demo.seed)
    np.testing.assert_allclose(read_state(env, task), demo.states[0], atol=1e-6)
    for step, action in enumerate(demo.actions, start=1):
        env.step(action)
        np.testing.assert_allclose(read_state(env, task), demo.states[step], atol=1e-6)
    env.close()


@simulator
def test_at_most_twenty_numbers_are_constant(task, demo_root):
    states = np.concatenate([d.states for d in load_demonstrations(demo_path(demo_root, task), task)])
    assert states.shape[1] == 100
    assert (states.std(axis=0) < 1e-9).sum() <= 20


@simulator
def test_events_are_those_of_the_simulator(task, demo_root):
    demo = load_demonstrations(demo_path(demo_root, task), task).demonstrations[0]
    env = make_env(task, control_mode="pd_joint_pos")
    env.reset(seed=demo.seed)
    base = env.unwrapped
    held, solved = [False], [False]
    for action in demo.actions:
        *_, info = env.step(action)
        moved = base.peg if task.name == "PegInsertion" else base.scene.actors[task.object]
        held.append(bool(base.agent.is_grasping(moved)))
        solved.append(bool(info["success"]))
    # The simulator decides a grasp by contact forces, which are not recorded; the two may differ by a step or two.
    assert (grasped(demo.states, task) == held).mean() > 0.95
    assert (success(demo.states, task) == solved).all()
    events = detect_events(demo.states, task)
    assert list(events) == list(task.events)
    times = [events[name] for name in task.events]
    assert None not in times
    assert times == sorted(times)
    env.close()


@simulator
def test_events_meet_the_stage_ends_of_the_planner(task, demo_root):
    demos = load_demonstrations(demo_path(demo_root, task), task).demonstrations
    assert all(demo.stage_ends for demo in demos)
    events = [detect_events(demo.states, task) for demo in demos]
    stages = np.array([demo.stage_ends[:3] for demo in demos])
    # The planner ends its reach, its descent and its grasp; the arm follows by a step or two, and the gripper is closed
    # for a few steps more than it needs.
    reached = np.array([happened["reached"] for happened in events]) - stages[:, 0]
    assert abs(np.median(reached)) <= 3
    grasped_after = np.array([happened["grasped"] for happened in events]) - stages[:, 1]
    assert (np.abs(grasped_after - 2) <= 1).all()
    last = np.array([happened[task.events[-1]] - demo.stage_ends[-1] for happened, demo in zip(events, demos, strict=True)])
    assert (last <= 0).all()
    assert (last > -20).all()


@simulator
def test_any_other_task_has_a_plain_state_and_no_events(tmp_path):
    lift = get_task("LiftPegUpright", "LiftPegUpright-v1")
    report = collect_demonstrations(lift, tmp_path, 1, processes=1)
    assert recorded_env(report.path) == "LiftPegUpright-v1"
    demo = load_demonstrations(report.path, lift).demonstrations[0]
    # Nine joints, the TCP, and pose and place in the gripper of the peg and the table.
    assert demo.states.shape[1] == 9 + 3 + (3 + 4 + 3) * len(demo.env_states["actors"])
    assert detect_events(demo.states, lift) == {}
    np.testing.assert_array_equal(positions(demo.states, lift), demo.states)
    env = make_env(lift, control_mode="pd_joint_pos")
    env.reset(seed=demo.seed)
    np.testing.assert_allclose(read_state(env, lift), demo.states[0], atol=1e-6)
    env.close()


@simulator
def test_a_task_without_a_solution_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no motion-planning solution for PokeCube-v1; it has: "):
        collect_demonstrations(get_task("PokeCube", "PokeCube-v1"), tmp_path, 1, processes=1)


def test_positions_leave_the_velocities_out():
    states = np.arange(100.0)[None]
    kept = positions(states, get_task("PickCube"))
    assert kept.shape == (1, 79)
    assert not set(kept[0]) & set(states[0, STATE_INDEX["qvel"]])


@simulator
def test_frames_without_a_renderer_show_robot_and_objects(demo_root, tmp_path):
    task = get_task("PickCube")
    demo = load_demonstrations(demo_path(demo_root, task), task).demonstrations[0]
    camera = pictures.DrawnFrames(task)
    first, last = camera.frame(demo, 0), camera.frame(demo, len(demo) - 1)
    assert first.shape == last.shape == (320, 320, 3)
    assert (first != last).any(axis=-1).mean() > 0.005
    pictures.animation(tmp_path / "a.gif", camera, demo, np.array([10, 30]), every=20)
    with Image.open(tmp_path / "a.gif") as film:
        durations = []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
    assert sorted(durations)[-2:] == [1000, 1000]  # pauses at the two key states
    camera.close()


@simulator
def test_a_finished_collection_is_reused_and_a_larger_one_goes_on(demo_root, tmp_path):
    task = get_task("StackCube")
    shutil.copytree(demo_root, tmp_path / "demos")
    first = load_demonstrations(demo_path(tmp_path / "demos", task), task)
    assert collect_demonstrations(task, tmp_path / "demos", 2).reused
    calls = []
    report = collect_demonstrations(task, tmp_path / "demos", 3, processes=1, progress=lambda *a: calls.append(a))
    assert not report.reused
    # The chunk with the third demonstration was finished before: no process had to work.
    assert calls[0][0] == 3
    assert report.attempts == report.successes + report.failures
    again = load_demonstrations(demo_path(tmp_path / "demos", task), task)
    np.testing.assert_array_equal(again.demonstrations[1].states, first.demonstrations[1].states)
    assert not list((tmp_path / "demos").rglob("*tmp*"))


@simulator
def test_converted_demonstrations_solve_the_task_with_other_actions(demo_root):
    task = get_task("PickCube")
    report = convert_demonstrations(task, demo_root, 2, "pd_ee_delta_pose", processes=1)
    converted = load_demonstrations(report.path, task)
    assert converted.control_mode == "pd_ee_delta_pose"
    demo = converted.demonstrations[0]
    assert demo.actions.shape[1] == 7
    env = make_env(task, control_mode="pd_ee_delta_pose")
    env.reset(seed=demo.seed)
    for action in demo.actions:
        *_, info = env.step(action)
    assert bool(info["success"])
    np.testing.assert_allclose(read_state(env, task), demo.states[-1], atol=1e-6)
    env.close()


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


@simulator
def test_other_controllers_joint_deltas_too(demo_root):
    report = convert_demonstrations(get_task("PickCube"), demo_root, 1, "pd_joint_delta_pos", processes=1)
    assert load_demonstrations(report.path, get_task("PickCube")).demonstrations[0].actions.shape[1] == 8


def test_files_of_others_are_never_overwritten(demo_root, tmp_path):
    task = get_task("StackCube")
    shutil.copytree(demo_root, tmp_path / "demos")
    with pytest.raises(ValueError, match=r"was not collected from first_seed=700.*paths\.demos="):
        collect_demonstrations(task, tmp_path / "demos", 2, first_seed=700)
    json_path = demo_path(tmp_path / "demos", task).with_suffix(".json")
    meta = json.loads(json_path.read_text())
    meta.pop("collection")
    json_path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"is there already.*demos\.path="):
        collect_demonstrations(task, tmp_path / "demos", 2)
    for suffix in (".h5", ".json"):
        shutil.copy(json_path.with_suffix(suffix), demo_path(tmp_path / "demos", task, "pd_ee_delta_pose").with_suffix(suffix))
    meta["collection"] = {"first_seed": 0}
    json_path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"pd_ee_delta_pose.*is there already"):
        convert_demonstrations(task, tmp_path / "demos", 1, "pd_ee_delta_pose")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        collect_demonstrations(task, tmp_path / "demos", 0)


def test_a_damaged_collection_is_mended_from_its_chunks(demo_root, tmp_path):
    task = get_task("StackCube")
    shutil.copytree(demo_root, tmp_path / "demos")
    path = demo_path(tmp_path / "demos", task)
    good = load_demonstrations(path, task)
    path.write_bytes(path.read_bytes()[:1000])
    report = collect_demonstrations(task, tmp_path / "demos", 2, processes=1)
    assert not report.reused
    np.testing.assert_array_equal(load_demonstrations(path, task).demonstrations[1].states, good.demonstrations[1].states)


class TestBadFiles:
    """Every fault names the file, what is wrong with it, and the command that makes a good one."""

    @pytest.fixture
    def path(self, tmp_path):
        states = {"actors": {"cube": 13, "goal_site": 13}, "articulations": {"panda": 31}}
        with h5py.File(tmp_path / "demo.h5", "w") as file:
            for kind, members in states.items():
                for name, size in members.items():
                    values = np.random.default_rng(0).normal(size=(5, size)).astype(np.float32)
                    file[f"traj_0/env_states/{kind}/{name}"] = values
            file["traj_0/actions"] = np.zeros((4, 8), np.float32)
        meta = {"env_info": {"env_id": "PickCube-v1"}, "episodes": [{"episode_id": 0, "episode_seed": 3, "success": True}]}
        (tmp_path / "demo.json").write_text(json.dumps(meta))
        return tmp_path / "demo.h5"

    def refused(self, path, message, task="PickCube", **options):
        with pytest.raises(DemonstrationFileError, match=message) as error:
            load_demonstrations(path, get_task(task), **options)
        assert "python tasks/collect_demos.py env=" in str(error.value)
        assert path.stem in str(error.value)

    def test_the_file_itself_is_good(self, path):
        assert load_demonstrations(path, get_task("PickCube")).demonstrations[0].states.shape == (5, 100)

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
