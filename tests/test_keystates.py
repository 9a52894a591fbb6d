"""Key-state discovery on trajectories whose stages are known, without any simulator."""

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.keystates import (
    Alignment,
    KeyStateConfig,
    KeyStateFinder,
    TrajectorySet,
    evenly_spaced,
    score_key_states,
    velocity_minima,
)
from infoatlas_rl.keystates.files import load_trajectories
from infoatlas_rl.keystates.metrics import agreement, consistency
from infoatlas_rl.keystates.retiming import retime
from infoatlas_rl.keystates.rules import gripper_changes, last_state
from infoatlas_rl.keystates.trajectories import interpolate


def staged(count=60, seed=0):
    """Trajectories of three straight stages with corners of their own, at times of their own; and those times."""
    rng = np.random.default_rng(seed)
    out, corners = [], []
    for _ in range(count):
        # To an object, straight up, to a goal: three directions that are alike in all demonstrations.
        places = np.cumsum([[0, 0, 0, 0], [1, 0.3, 0, 0], [0, 0, 1, 0.3], [-0.6, 0.8, 0, 0]], axis=0)
        places = places + 0.1 * rng.normal(size=places.shape)
        steps = rng.integers(10, 20, size=3)
        path = [
            places[k] + (places[k + 1] - places[k]) * np.linspace(0, 1, n, endpoint=False)[:, None] for k, n in enumerate(steps)
        ]
        path = np.concatenate([*path, places[-1:]])
        out.append(path + 0.005 * rng.normal(size=path.shape))
        corners.append(np.cumsum(steps)[:2])
    return out, np.array(corners)


@pytest.fixture(scope="module")
def trajectories() -> list[np.ndarray]:
    return staged()[0]


def finder(trajectories, estimator="infoatlas", **options) -> KeyStateFinder:
    config = KeyStateConfig(**{"concepts": 3, "epochs": 4, "samples": 150, "candidates": 8, **options})
    estimator = InfoAtlasLoss(slices=2, k=4, sides="y") if estimator == "infoatlas" else estimator
    return KeyStateFinder(TrajectorySet(trajectories), estimator, config)


def test_ticks_are_even_in_distance_not_in_time():
    # Half of the steps at a fifth of the speed: they get far less than half of the ticks.
    slow, fast = np.linspace(0, 1, 40, endpoint=False), np.linspace(1, 6, 40)
    trajectory = np.concatenate([slow, fast])[:, None]
    data = TrajectorySet([trajectory] * 20)
    assert data.states.shape == (20, 80, 1)
    assert data.step_of_tick[0, 0] == 0
    assert data.step_of_tick[0, -1] == 79
    assert (np.diff(data.step_of_tick[0]) > 0).all()
    assert (data.step_of_tick[0] < 40).mean() < 0.35


def test_resampling_keeps_the_ends_and_standardises(trajectories):
    data = TrajectorySet(trajectories)
    everything = np.concatenate(trajectories)
    first = (np.stack([t[0] for t in trajectories]) - everything.mean(0)) / everything.std(0)
    np.testing.assert_allclose(data.states[:, 0], first, atol=1e-5)
    last = (np.stack([t[-1] for t in trajectories]) - everything.mean(0)) / everything.std(0)
    np.testing.assert_allclose(data.states[:, -1], last, atol=1e-5)


def test_constant_columns_become_zero_and_small_ones_stay_small(trajectories):
    rng = np.random.default_rng(0)
    widened = [np.hstack([t, np.full((len(t), 1), 7.0), 1e-4 * rng.normal(size=(len(t), 1))]) for t in trajectories]
    states = TrajectorySet(widened).states
    assert (states[..., 4] == 0).all()
    assert states[..., 5].std() < 0.02  # not blown up to 1


def test_interpolation_is_linear():
    states = np.arange(10.0).reshape(5, 2)
    np.testing.assert_allclose(interpolate(states, np.array([1.25, 4.0])), [[2.5, 3.5], [8.0, 9.0]])


def test_the_clock_shows_the_same_at_the_same_stage():
    trajectories, corners = staged()
    run = finder(trajectories, estimator=None)
    shown = np.stack([run.clock(column) for column in corners.T], axis=1)
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


def test_without_information_key_states_are_even_on_the_clock(trajectories):
    run = finder(trajectories, estimator=None, spread_weight=0.0, concepts=4)
    list(run.fit())
    np.testing.assert_allclose(run.phase[run.cuts], [0, 0.25, 0.5, 0.75, 1], atol=0.05)


def test_a_badly_placed_key_state_goes_where_it_tells_more():
    trajectories, _corners = staged()
    run = finder(trajectories, epochs=2)
    list(run.fit())
    good = list(run.cuts)
    run.cuts = [0, 4, good[1], good[3]]  # the second corner is missed
    run._curves.clear()
    for number in (1, 2):
        run._improve(number)
    run._exchange()
    assert np.abs(np.array(run.cuts) - good).max() <= 3


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
    again, _ = run.profile(mi_loss, ticks=[7], most=40)
    np.testing.assert_array_equal(again[:, 0], steps[:, 1])
    assert mi_loss.training  # the caller's loss is as it was


def test_key_states_before_fit_are_refused(trajectories):
    with pytest.raises(RuntimeError, match="run fit"):
        finder(trajectories).key_states()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t[:10], "10 trajectories; MI between their states needs at least 20"),
        (lambda t: [*t[:-1], t[-1][:3]], "trajectory 59 has 3 steps; with delta = 2 at least 4"),
        (lambda t: [*t[:-1], t[-1][:1]], "trajectory 59 has 1 steps; with delta = 2 at least 4"),
        (lambda t: [*t[:-1], t[-1][:, :3]], r"trajectory 59 has shape \(\d+, 3\); all have to be \(steps, 4\)"),
        (lambda t: [np.full_like(t[0], np.nan), *t[1:]], "trajectory 0 contains NaN"),
        (lambda t: [np.ones_like(x) for x in t], "the states never change"),
        (lambda t: [x * 0 + i for i, x in enumerate(t)], "the states never change"),
        (lambda t: [], "no trajectories"),
    ],
)
def test_bad_trajectories_are_named(trajectories, spoil, message):
    with pytest.raises(ValueError, match=message):
        TrajectorySet(spoil(trajectories))


def test_a_trajectory_at_rest_among_others_is_no_fault(trajectories):
    data = TrajectorySet([*trajectories, np.repeat(trajectories[0][:1], 30, axis=0)])
    assert np.isfinite(data.states).all()
    assert Alignment(data.states).positions.shape == (61, data.ticks)


def test_settings_that_make_no_sense_are_refused(trajectories):
    with pytest.raises(ValueError, match="concepts has to be at least 1"):
        KeyStateConfig(concepts=0)
    with pytest.raises(ValueError, match="do not fit"):
        KeyStateConfig(concepts=21, gap=0.05)
    with pytest.raises(ValueError, match="samples has to be at least 50"):
        KeyStateConfig(samples=10)
    with pytest.raises(ValueError, match="ask for fewer concepts"):
        list(finder(trajectories, concepts=5, gap=0.199).fit())


def test_one_concept_is_the_final_state(trajectories):
    run = finder(trajectories, concepts=1)
    list(run.fit())
    assert run.key_states().steps.shape == (60, 1)


# --- metrics, rules, re-timing ------------------------------------------------------------------------------------------


def test_score_counts_hits_and_errors():
    steps = [np.array([10, 50]), np.array([12, 70])]
    events = [{"a": 12, "b": 80}, {"a": 20, "b": None}]
    score = score_key_states(steps, events)
    assert score.by_event["a"] == {"median_step_error": 5.0, "recall": 0.5, "precision": pytest.approx(1 / 3)}
    assert score.by_event["b"] == {"median_step_error": 30.0, "recall": 0.0, "precision": 0.0}
    assert score.median_step_error == 8.0
    assert score.recall == pytest.approx(1 / 3)
    assert score.precision == pytest.approx(1 / 4)
    assert score.f1 == pytest.approx(2 / 7)
    assert score.f1_interval[0] <= score.f1 <= score.f1_interval[1]
    with pytest.raises(ValueError, match="1 rows of key states for 2"):
        score_key_states(steps[:1], events)
    with pytest.raises(ValueError, match="none of the demonstrations"):
        score_key_states(steps, [{"a": None}, {}])


def test_consistency_is_the_spread_over_demonstrations():
    trajectories = [np.linspace(0, 1, 11)[:, None] + [[0.0, 0.0]] for _ in range(4)]
    steps = np.array([[2, 10], [2, 10], [4, 10], [4, 10]])
    spread = consistency(steps, trajectories, [{"a": 2, "b": 10}] * 4)
    assert spread.phase_std == pytest.approx([0.1, 0.0])
    assert spread.state_spread[1] == 0
    assert spread.same_event == [1.0, 1.0]


def test_agreement_counts_demonstrations_and_key_states():
    assert agreement(np.array([[1, 20], [1, 20]]), np.array([[3, 24], [3, 30]])) == (0.5, 0.75)


def test_evenly_spaced_key_states_end_with_the_last_step():
    np.testing.assert_array_equal(evenly_spaced([101, 11], 4), [[25, 50, 75, 100], [2, 5, 8, 10]])
    np.testing.assert_array_equal(last_state([101, 11]), [[100], [10]])


def test_velocity_minima_are_the_pauses():
    pieces = [np.linspace(0, 1, 20), np.ones(7), np.linspace(1, 3, 20), np.full(5, 3.0), np.linspace(3, 4, 20)]
    trajectory = np.concatenate(pieces)[:, None]
    (found,) = velocity_minima([trajectory], 3)
    assert np.abs(found - [23, 49, 71]).max() <= 2
    (found,) = velocity_minima([trajectory], 2)
    assert len(found) == 2


def test_gripper_changes_are_the_ends_of_its_movements():
    width = np.concatenate([np.full(10, 0.08), np.linspace(0.08, 0.04, 5), np.full(10, 0.04), np.linspace(0.04, 0.08, 5)])
    (found,) = gripper_changes([width])
    np.testing.assert_array_equal(found, [14, 29])


def test_retiming_keeps_the_path_and_moves_the_events_along():
    trajectories, corners = staged(20)
    events = [{"a": int(a), "b": None} for a in corners[:, 0]]
    new, moved = retime(trajectories, events, seed=1)
    for old, path, before, after in zip(trajectories, new, events, moved, strict=True):
        assert len(path) == len(old)
        np.testing.assert_allclose(path[[0, -1]], old[[0, -1]], atol=1e-6)
        assert np.linalg.norm(path[after["a"]] - old[before["a"]]) < 0.15  # about a step
        assert after["b"] is None
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).min() > 0
    assert any(a["a"] != b["a"] for a, b in zip(events, moved, strict=True))


def test_retiming_removes_stops():
    stop = np.concatenate([np.linspace(0, 1, 30), np.ones(15), np.linspace(1, 2, 30)])[:, None]
    (new,), _ = retime([stop], [{}], variation=0.0)
    speed = np.abs(np.diff(new[:, 0]))
    assert speed.min() > 0.8 * speed.max()


def test_trajectories_are_read_from_npz(tmp_path):
    arrays = [np.random.default_rng(0).random((n, 3)) for n in (5, 7)]
    np.savez(tmp_path / "ragged.npz", first=arrays[0], second=arrays[1])
    names, read = load_trajectories(tmp_path / "ragged.npz")
    assert names == ["first", "second"]
    np.testing.assert_array_equal(read[1], arrays[1])
    np.savez(tmp_path / "stacked.npz", states=np.zeros((4, 6, 2)))
    assert len(load_trajectories(tmp_path / "stacked.npz")[1]) == 4
    np.savez(tmp_path / "bad.npz", first=arrays[0], second=np.zeros(3))
    with pytest.raises(ValueError, match=r"second has shape \(3,\)"):
        load_trajectories(tmp_path / "bad.npz")
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        load_trajectories(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="no such file"):
        load_trajectories(tmp_path / "none.npz")


def test_discovery_does_not_touch_the_global_random_state(trajectories):
    run = finder(trajectories, epochs=1)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(run.fit())
    assert torch.equal(torch.rand(1), expected)
