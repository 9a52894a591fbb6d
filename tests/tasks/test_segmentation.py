"""The suite of segmentation on tracks whose bodies are known."""

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl import InfoAtlas
from infoatlas_rl.tasks.suites import segmentation


def test_points_of_one_body_are_told_from_another(monkeypatch, tmp_path):
    monkeypatch.setattr(segmentation, "POINTS", 4)
    monkeypatch.setattr(segmentation, "MINE_EVERY", 1)
    rng = np.random.default_rng(0)
    tracks = {}
    for body in ("one", "other"):
        path = rng.standard_normal((80, 1, 3)).cumsum(0)
        tracks[body] = path + rng.standard_normal((1, 4, 3)) + 0.3 * rng.standard_normal((80, 4, 3))
    scores = segmentation._scores(InfoAtlas.from_pretrained())
    cells, maps = segmentation._cells(scores, tracks, ("one",))
    assert {cell["estimator"] for cell in cells} >= {"InfoAtlas", "its bound", "KSG", "Gaussian copula", segmentation.MINE}
    for cell in cells:
        if cell["estimator"] != segmentation.MINE:
            assert cell["roc_auc"] == cell["auc_pr"] == 1
    assert np.isnan(maps["one"]).tolist() == [True] + [False] * 7
    segmentation.draw({"Task": (tracks, maps)}, tmp_path / "points.png")
    assert (tmp_path / "points.png").is_file()
    both = [{"env": "Task", "noise": noise, "n": 80, **cell} for noise in segmentation.NOISE for cell in cells]
    table = segmentation.table({"cells": both, "points": 4, "mine_steps": 100, "mine_every": 1})
    assert table.rows[0][:3] == ["InfoAtlas", "1.000", "1.000"]
