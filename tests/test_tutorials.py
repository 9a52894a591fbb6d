"""Tutorials run as they are, here with few steps."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT, run

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.py"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_are_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", ["two_views", "remove_nuisance"])
def test_tutorials_print_figures_before_and_after(name):
    if name == "two_views":
        pytest.importorskip("sklearn")
    answer = run(f"docs/tutorials/{name}.py", "5")
    assert answer.returncode == 0, answer.stderr
    first, *_, last = answer.stdout.splitlines()
    assert first.startswith(("before: ", "weight 0.0: "))
    assert last.startswith(("after: ", "weight 1.0: "))
