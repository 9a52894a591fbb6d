"""Re-timing keeps the path of a demonstration and takes its stops away."""

import numpy as np

from infoatlas_rl.keystates.retiming import retime
from infoatlas_rl.keystates.trajectories import interpolate
from tests.conftest import staged


def test_retiming_keeps_the_path_and_moves_the_events_along():
    trajectories, corners = staged(20)
    events = [{"a": int(a), "b": None} for a in corners[:, 0]]
    new, moved, shown = retime(trajectories, events, seed=1)
    for old, path, before, after, steps in zip(trajectories, new, events, moved, shown, strict=True):
        np.testing.assert_array_equal(path, interpolate(old, steps))
        assert len(path) == len(old)
        np.testing.assert_allclose(path[[0, -1]], old[[0, -1]], atol=1e-6)
        assert np.linalg.norm(path[after["a"]] - old[before["a"]]) < 0.15  # about a step
        assert after["b"] is None
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).min() > 0
    assert any(a["a"] != b["a"] for a, b in zip(events, moved, strict=True))


def test_retiming_removes_stops():
    stop = np.concatenate([np.linspace(0, 1, 30), np.ones(15), np.linspace(1, 2, 30)])[:, None]
    (new,), *_ = retime([stop], [{}], variation=0.0)
    speed = np.abs(np.diff(new[:, 0]))
    assert speed.min() > 0.8 * speed.max()
