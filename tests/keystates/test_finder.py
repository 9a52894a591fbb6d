"""Key-state discovery on trajectories whose stages are known, without any simulator."""

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.keystates import Alignment, KeyStateConfig, KeyStateFinder, NothingFoundError, TrajectorySet
from infoatlas_rl.keystates.chance import turned
from infoatlas_rl.keystates.metrics import agreement
from tests.conftest import staged


def finder(trajectories, estimator="infoatlas", **options) -> KeyStateFinder:
    config = KeyStateConfig(**{"concepts": 3, "epochs": 4, "samples": 150, **options})
    estimator = InfoAtlasLoss(slices=2, k=4, sides="y") if estimator == "infoatlas" else estimator
    return KeyStateFinder(TrajectorySet(trajectories), estimator, config)


def test_the_clock_shows_the_same_at_the_same_stage():
    trajectories, corners = staged()
    run = finder(trajectories, estimator=None)
    shown = np.stack([run.clock.show(column) for column in corners.T], axis=1)
    own = corners / (np.array([len(t) for t in trajectories])[:, None] - 1)
    # Corners lie at times of their own, and at one time of the clock, up to about a step, which is 0.025.
    assert own.std(0).min() > 0.045
    assert shown.std(0).max() < 0.03


def test_alignment_is_monotone_and_reaches_the_ends(trajectories):
    alignment = Alignment(TrajectorySet(trajectories).states)
    clock = alignment.clock.numpy()
    assert (np.diff(clock, axis=1) >= 0).all()
    assert (clock[:, 0] == 0).all()
    assert (clock[:, -1] == clock.shape[1] - 1).all()


def test_key_states_are_the_ends_of_the_stages():
    trajectories, corners = staged()
    run = finder(trajectories)
    figures = list(run.fit())
    assert [row["epoch"] for row in figures] == [1, 2, 3, 4]
    found = run.key_states()
    assert found.steps.shape == (60, 3)
    assert found.information.shape == (2,)
    # A tick is a step; motions are smeared over two of them and alignment is off by one now and then.
    assert (np.abs(found.steps[:, :2] - corners) <= 3).mean() > 0.9
    # Where the final place is reached, which the noise at the end makes a step or two early.
    left = np.array([len(t) - 1 for t in trajectories]) - found.steps[:, 2]
    assert left.min() >= 0
    assert left.max() <= 4
    assert (np.diff(found.steps) > 0).all()


def test_they_are_found_in_other_trajectories_too():
    run = finder(staged()[0])
    list(run.fit())
    others, corners = staged(30, seed=5)
    located = run.locate(others)
    assert (np.abs(located.steps[:, :2] - corners) <= 3).mean() > 0.9
    same = run.locate(staged()[0])
    assert agreement(same.steps, run.key_states().steps, window=1)[0] > 0.95


def test_without_information_key_states_are_where_demonstrations_rest():
    trajectories, corners = staged()
    halting = [
        np.insert(path, [corner[1]] * 9, path[corner[1]], axis=0) for path, corner in zip(trajectories, corners, strict=True)
    ]
    run = finder(halting, estimator=None, concepts=2)
    list(run.fit())
    found = run.key_states()
    assert (np.abs(found.steps[:, 0] - corners[:, 1] - 4) <= 5).mean() > 0.9
    assert np.isnan(found.information).all()
    with pytest.raises(ValueError, match="nothing tells how many key states there are: say concepts=K"):
        finder(halting, estimator=None, concepts=None)


def test_where_nothing_rests_and_nothing_is_asked_key_states_divide_the_way():
    way = np.linspace(0, 1, 61)[:, None] * np.array([1.0, 0.5])
    run = finder([way], estimator=None, concepts=4)
    list(run.fit())
    np.testing.assert_allclose(np.diff(run.cuts) / run.ticks, 0.25, atol=0.03)


def test_more_key_states_than_turns_divide_what_is_long():
    trajectories, corners = staged()
    run = finder(trajectories, concepts=6, samples=400)
    list(run.fit())
    steps = run.key_states().steps
    assert (np.diff(steps) >= 0).all()
    for corner in corners.T:
        assert (np.abs(steps - corner[:, None]).min(1) <= 3).mean() > 0.9


def test_a_resumed_run_is_the_uninterrupted_one(trajectories, tmp_path):
    whole = finder(trajectories)
    list(whole.fit())
    checkpoint = tmp_path / "checkpoint.pt"
    interrupted = finder(trajectories).fit(checkpoint)
    for _ in range(3):
        next(interrupted)
    resumed = finder(trajectories)
    resumed.load(checkpoint)
    assert [row["epoch"] for row in resumed.fit()] == [4]
    np.testing.assert_array_equal(resumed.key_states().steps, whole.key_states().steps)
    np.testing.assert_array_equal(resumed.key_states().information, whole.key_states().information)


def test_a_checkpoint_of_other_trajectories_or_settings_is_refused(trajectories, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    run = finder(trajectories)
    run.save(checkpoint)
    with pytest.raises(ValueError, match="concepts: 3 there, 2 here"):
        finder(trajectories, concepts=2).load(checkpoint)
    with pytest.raises(ValueError, match=r"states_sha256: .* there, .* here.*resume=false"):
        finder([t + np.linspace(0, 1, len(t))[:, None] for t in trajectories]).load(checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        run.load(checkpoint)


def test_profile_has_one_value_per_tick_and_trajectory(trajectories):
    run = finder(trajectories)
    mi_loss = InfoAtlasLoss(slices=3, k=2)
    steps, scores = run.profile(mi_loss, every=5, most=40)
    assert steps.shape == scores.shape == (40, len(range(2, run.ticks, 5)))
    # States close in time say much about each other.
    assert scores.mean() > 0.3
    with pytest.raises(ValueError, match=r"ticks have to be from 0 to \d+, not 500 to 500"):
        run.profile(mi_loss, ticks=[500])
    again, _ = run.profile(mi_loss, ticks=[7], most=40)
    np.testing.assert_array_equal(again[:, 0], steps[:, 1])
    assert mi_loss.training  # the caller's loss is as it was


def test_key_states_before_fit_are_refused(trajectories):
    with pytest.raises(RuntimeError, match=r"go through fit\(\) first"):
        finder(trajectories).key_states()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="concepts has to be at least 1"):
        KeyStateConfig(concepts=0)
    with pytest.raises(ValueError, match="do not fit"):
        KeyStateConfig(concepts=21, gap=0.05)
    with pytest.raises(ValueError, match="gap is a share of the path, below 1, not 2"):
        KeyStateConfig(gap=2.0)
    with pytest.raises(ValueError, match="samples has to be at least 50"):
        KeyStateConfig(samples=10)
    way = np.linspace(0, 1, 61)[:, None]
    with pytest.raises(ValueError, match="ask for fewer concepts"):
        list(finder([way], estimator=None, concepts=5, gap=0.199).fit())


def test_one_concept_is_the_final_state(trajectories):
    run = finder(trajectories, concepts=1)
    list(run.fit())
    assert run.key_states().steps.shape == (60, 1)


def test_discovery_does_not_touch_the_global_random_state(trajectories):
    run = finder(trajectories, epochs=1)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(run.fit())
    assert torch.equal(torch.rand(1), expected)


def test_one_trajectory_has_key_states_and_no_profile():
    (one,), corners = staged(1)
    finder = KeyStateFinder(TrajectorySet([one]), InfoAtlasLoss(slices=1, k=4, sides="y"), KeyStateConfig(concepts=3))
    for _ in finder.fit():
        pass
    found = finder.key_states().steps
    assert (np.abs(found[0, :2] - corners[0]) <= 2).all()
    with pytest.raises(ValueError, match="1 trajectories; MI between their states needs at least 20"):
        finder.profile(InfoAtlasLoss())


def test_as_many_key_states_are_placed_as_tell_enough():
    trajectories, corners = staged()
    run = finder(trajectories, concepts=None, samples=400)
    assert run.concepts is None
    list(run.fit())
    assert run.concepts == 3
    assert (np.abs(run.key_states().steps[:, :2] - corners) <= 3).mean() > 0.9


def nothing(kind: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = 60 + rng.integers(-6, 7, size=40)
    match kind:
        case "noise":
            return [rng.standard_normal((length, 6)) for length in lengths]
        case "walks":
            return [rng.standard_normal((length, 6)).cumsum(0) for length in lengths]
    a, b = rng.standard_normal((2, 6))
    return [a + (b - a) * np.linspace(0, 1, length)[:, None] + 0.02 * rng.standard_normal(6) for length in lengths]


@pytest.mark.parametrize("kind", ["noise", "walks", "one straight way"])
def test_where_there_is_nothing_nothing_is_found(kind):
    with pytest.raises(NothingFoundError, match="nothing divides the motion of these 40 trajectories"):
        list(finder(nothing(kind), concepts=None, samples=400).fit())


def test_a_glitch_of_a_sensor_moves_no_key_state():
    trajectories, corners = staged()
    trajectories = [trajectory.copy() for trajectory in trajectories]
    trajectories[7][4, 1] = 500.0
    trajectories[9][20:22, 2] = -80.0
    run = finder(trajectories)
    list(run.fit())
    assert (np.abs(run.key_states().steps[:, :2] - corners) <= 3).mean() > 0.9


def test_a_step_takes_time_where_something_is_measured(trajectories):
    assert finder(trajectories).measure_steps(2) > 0
    assert finder(trajectories, estimator=None).measure_steps(2) == 0


def test_double_precision_as_the_default_type_is_fine(trajectories):
    torch.set_default_dtype(torch.float64)
    try:
        finder = KeyStateFinder(TrajectorySet(trajectories), None, KeyStateConfig(concepts=2))
        list(finder.fit())
    finally:
        torch.set_default_dtype(torch.float32)
    assert finder.concepts == 2


def test_a_checkpoint_knows_the_weights_of_an_estimator(trajectories, tmp_path):
    class Constant(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(value))

        def mi(self, x, y):
            return self.value.detach().expand(x.shape[0])

        def reseed(self, seed):
            pass

    def finder(value):
        return KeyStateFinder(TrajectorySet(trajectories), Constant(value), KeyStateConfig(concepts=2, epochs=2))

    first = finder(0.5)
    next(first.fit())
    first.save(tmp_path / "checkpoint.pt")
    finder(0.5).load(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="estimator"):
        finder(0.1).load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("steps", [60, 200])
def test_what_chance_aligns_is_not_a_stage(steps):
    rng = np.random.default_rng(3)
    walks = [np.cumsum(rng.normal(size=(steps, 10)), axis=0) for _ in range(30)]
    run = finder(walks, InfoAtlasLoss(slices=1, k=20, sides="y"), concepts=None, epochs=2, samples=400)
    with pytest.raises(
        NothingFoundError, match=r"nothing divides the motion of these 30 trajectories.*chance tells up to 0\.\d+"
    ):
        list(run.fit())
    # Without that some ten places tell what is asked for.
    assert run.information.max() > run.config.worth


def test_columns_that_never_change_do_not_matter():
    trajectories, _ = staged(30)
    wider = [np.hstack([np.full((len(t), 7), 3.0), t]) for t in trajectories]
    found = []
    for paths in (trajectories, wider):
        run = finder(paths, concepts=None)
        list(run.fit())
        found.append(run.key_states().steps)
    np.testing.assert_array_equal(*found)


def test_a_sharp_turn_of_two_columns_is_found_however_finely_it_is_sampled():
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]) + 0.1 * rng.normal(size=(30, 3, 2))
    for steps in (51, 201):
        turn = rng.uniform(0.4, 0.6, size=30)
        at = np.linspace(0, 1, steps)
        paths = [np.stack([np.interp(at, [0, t, 1], axis) for axis in c.T], 1) for c, t in zip(corners, turn, strict=True)]
        run = finder(paths, concepts=None)
        list(run.fit())
        found = run.key_states().steps
        assert found.shape == (30, 2)
        assert np.median(np.abs(found[:, 0] / (steps - 1) - turn)) < 0.03


def test_turned_demonstrations_keep_their_way_and_share_no_direction():
    states = TrajectorySet(staged(200)[0]).states
    apart = np.stack(turned(states, np.random.default_rng(0)))
    motions = [np.diff(s, axis=1) for s in (states, apart)]
    moments = [np.einsum("nti,ntj->ij", m, m) / m[..., 0].size for m in motions]
    variance = [np.sort(np.linalg.eigvalsh(moment))[::-1] for moment in moments]
    np.testing.assert_allclose(variance[1], variance[0][: apart.shape[2]], rtol=0.15)  # of 200 random rotations
    shared = [np.linalg.norm(m.mean(0), axis=-1).mean() / np.linalg.norm(m, axis=-1).mean() for m in motions]
    assert shared[1] < 0.15 < 0.5 < shared[0]


def test_few_ticks_have_no_peak_and_that_is_said():
    walks = [np.random.default_rng(number).normal(size=(4, 2)).cumsum(0) for number in range(24)]
    run = finder(walks, concepts=None)
    with pytest.raises(NothingFoundError, match="no place on 4 ticks tells more than those beside it; concepts=K places"):
        list(run.fit())


def test_another_delta_than_that_of_the_trajectories_is_refused():
    trajectories, _ = staged()
    with pytest.raises(ValueError, match="trajectories have delta=2, the configuration delta=9; give both the same"):
        KeyStateFinder(TrajectorySet(trajectories), None, KeyStateConfig(concepts=3, delta=9))


def test_what_a_finder_is_not_made_for_is_refused():
    trajectories, _ = staged()
    data = TrajectorySet(trajectories)
    with pytest.raises(TypeError, match=r"trajectories have to be a TrajectorySet, as TrajectorySet\(arrays\) makes it"):
        KeyStateFinder(trajectories, None, KeyStateConfig(concepts=3))
    with pytest.raises(TypeError, match=r"estimator has to be one like InfoAtlasLoss.* not 'infoatlas'"):
        KeyStateFinder(data, "infoatlas")
    with pytest.raises(ValueError, match=r"method='stages', the configuration of 'maxmi'; make the finder with make_finder"):
        KeyStateFinder(data, None, KeyStateConfig(concepts=3, method="maxmi"))
    with pytest.raises(ValueError, match="delta has to be at least 1, not 0"):
        TrajectorySet(trajectories, delta=0)


def test_of_few_trajectories_it_is_said_that_chance_is_not_measured():
    trajectories, _ = staged()
    with pytest.warns(UserWarning, match="of 8 trajectories it is not measured what chance tells.* say concepts=K"):
        list(finder(trajectories[:8], concepts=None, epochs=1).fit())
