import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.keystates import (
    KeyStateConfig,
    KeyStateFinder,
    Localiser,
    TrajectorySet,
    evenly_spaced,
    score_key_states,
)
from infoatlas_rl.keystates.trajectories import interpolate

CONFIG = KeyStateConfig(concepts=2, epochs=4, batch_size=30, width=16)


@pytest.fixture(scope="module")
def trajectories() -> list[np.ndarray]:
    """Sixty trajectories of 30 to 40 steps that pause at a place of their own in the middle third."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(60):
        length = rng.integers(30, 41)
        start, place, end = rng.normal(size=(3, 6))
        t = np.linspace(0, 1, length)[:, None]
        path = np.where(t < 0.4, start + (place - start) * t / 0.4, place)
        path = np.where(t > 0.6, place + (end - place) * (t - 0.6) / 0.4, path)
        out.append(path + 0.05 * rng.normal(size=path.shape))
    return out


def finder(trajectories, **options) -> KeyStateFinder:
    config = KeyStateConfig(**{**vars(CONFIG), **options})
    return KeyStateFinder(TrajectorySet(trajectories), InfoAtlasLoss(slices=3, k=2), config)


def test_phases_convert_to_steps_of_the_original_trajectories(trajectories):
    data = TrajectorySet(trajectories)
    steps = data.steps(np.tile([0.0, 0.5, 1.0], (60, 1)))
    assert (steps[:, 0] == 0).all()
    assert (steps[:, 2] == np.array([len(t) - 1 for t in trajectories])).all()
    assert (np.abs(steps[:, 1] - (data.lengths - 1) / 2) <= 0.5).all()


def test_resampling_keeps_the_ends_and_standardises(trajectories):
    data = TrajectorySet(trajectories)
    assert data.states.shape == (60, data.length, 6)
    torch.testing.assert_close(data.states.mean((0, 1)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.states.std((0, 1)), torch.ones(6), atol=1e-2, rtol=0)
    last = np.array([t[-1] for t in trajectories])
    assert np.corrcoef(last[:, 0], data.states[:, -1, 0].numpy())[0, 1] > 0.9999


def test_constant_columns_become_zero(trajectories):
    data = TrajectorySet([np.hstack([t, np.full((len(t), 1), 7.0)]) for t in trajectories])
    assert torch.equal(data.states[..., -1], torch.zeros(60, data.length))


def test_interpolation_is_linear_and_has_the_slope_as_gradient():
    states = torch.arange(10.0).reshape(1, 5, 2)
    position = torch.tensor([[1.25, 4.0]], requires_grad=True)
    out = interpolate(states, position)
    torch.testing.assert_close(out[0], torch.tensor([[2.5, 3.5], [8.0, 9.0]]))
    out[..., 0].sum().backward()
    torch.testing.assert_close(position.grad, torch.full((1, 2), 2.0))


def test_concepts_start_evenly_spread_and_in_order():
    torch.manual_seed(0)
    phases = Localiser(6, 4)(torch.randn(5, 50, 6))
    assert phases.shape == (5, 4)
    assert bool((phases.diff(dim=-1) > 0.1).all())


def test_every_parameter_of_the_localiser_gets_a_gradient(trajectories):
    localiser = Localiser(6, 3, width=8)
    localiser(TrajectorySet(trajectories).states[:4]).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in localiser.parameters())


def test_training_raises_the_mutual_information():
    # Noise around a place of their own, smallest in the middle: the closer to it, the higher the MI.
    rng = np.random.default_rng(0)
    noisy = []
    for _ in range(100):
        distance = np.abs(np.linspace(-0.5, 0.5, rng.integers(30, 41)))[:, None]
        noisy.append(rng.normal(size=6) + (0.05 + 3 * distance) * rng.normal(size=(len(distance), 6)))
    config = KeyStateConfig(concepts=2, epochs=25, batch_size=100, learning_rate=3e-3, width=16)
    run = KeyStateFinder(TrajectorySet(noisy), InfoAtlasLoss(slices=8, k=3), config)
    before = run.key_states()
    assert len(list(run.fit())) == 25
    after = run.key_states()
    assert after.mi.mean() > before.mi.mean() + 0.1


def test_key_states_are_in_order_and_inside(trajectories):
    run = finder(trajectories)
    list(run.fit())
    found = run.key_states()
    assert found.steps.shape == found.scores.shape == (60, 2)
    assert (np.diff(found.steps) >= 0).all()
    assert (found.steps >= 0).all()
    assert (found.steps < run.trajectories.lengths[:, None]).all()
    np.testing.assert_allclose(found.mi, found.scores.mean(0))


def test_a_resumed_run_is_the_uninterrupted_one(trajectories, tmp_path):
    whole = finder(trajectories)
    losses = [figures["loss"] for figures in whole.fit()]

    checkpoint = tmp_path / "checkpoint.pt"
    interrupted = finder(trajectories).fit(checkpoint)
    first = [next(interrupted)["loss"] for _ in range(2)]
    resumed = finder(trajectories)
    resumed.load(checkpoint)
    rest = [figures["loss"] for figures in resumed.fit()]

    assert first + rest == pytest.approx(losses, rel=1e-4)
    np.testing.assert_array_equal(resumed.key_states().steps, whole.key_states().steps)


def test_a_checkpoint_of_other_trajectories_or_settings_is_refused(trajectories, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    finder(trajectories).save(checkpoint)
    with pytest.raises(ValueError, match=r"'concepts': 2.*'concepts': 3"):
        finder(trajectories, concepts=3).load(checkpoint)
    with pytest.raises(ValueError, match="resume=false"):
        finder([t + np.linspace(0, 1, len(t))[:, None] for t in trajectories]).load(checkpoint)


def test_profile_has_one_value_per_step_and_trajectory(trajectories):
    run = finder(trajectories)
    phases, scores = run.profile(every=5, most=40)
    assert scores.shape == (40, len(phases))
    assert 0 < phases[0] < phases[-1] <= 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t[:10], "10 trajectories; MI between their states needs at least 20"),
        (lambda t: [*t[:-1], t[-1][:3]], "trajectory 59 has 3 steps; with delta = 2 at least 4"),
        (lambda t: [*t[:-1], t[-1][:, :4]], r"trajectory 59 has shape \(\d+, 4\); all have to be \(steps, 6\)"),
        (lambda t: [np.full_like(t[0], np.nan), *t[1:]], "trajectory 0 contains NaN"),
    ],
)
def test_bad_trajectories_are_named(trajectories, spoil, message):
    with pytest.raises(ValueError, match=message):
        TrajectorySet(spoil(trajectories))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="concepts has to be at least 1"):
        KeyStateConfig(concepts=0)
    with pytest.raises(ValueError, match="do not fit"):
        KeyStateConfig(concepts=21, gap=0.05)


def test_score_counts_hits_and_errors():
    steps = np.array([[10, 50], [12, 70]])
    events = [{"a": 12, "b": 80}, {"a": 20, "b": None}]
    score = score_key_states(steps, events)
    assert score.by_event["a"] == {"median_step_error": 5.0, "hit_rate": 0.5}
    assert score.by_event["b"] == {"median_step_error": 30.0, "hit_rate": 0.0}
    assert score.median_step_error == 8.0
    assert score.hit_rate == pytest.approx(1 / 3)
    assert score.precision == pytest.approx(1 / 4)
    assert score.f1 == pytest.approx(2 / 7)


def test_evenly_spaced_key_states_end_with_the_last_step():
    np.testing.assert_array_equal(evenly_spaced([101, 11], 4), [[25, 50, 75, 100], [2, 5, 8, 10]])
