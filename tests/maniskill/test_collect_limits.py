"""A collection that hardly ever succeeds ends with its reasons."""

import json

import pytest

pytest.importorskip("mani_skill")

import h5py

from infoatlas_rl.maniskill.collect import Job, _run_chunks


def chunks(folder, count, successes):
    """Chunks of ten attempts that are there already, with so many successes each."""
    for number in range(count):
        part = folder / f"{number:03d}.h5"
        solved = successes(number)
        with h5py.File(part, "w") as file:
            for index in range(solved):
                file.create_group(f"traj_{index}")
        failures = [{"seed": index, "reason": "too far away"} for index in range(10 - solved)]
        notes = {
            "episodes": [{"episode_id": index} for index in range(solved)],
            "collection": {"attempts": 10, "failures": failures},
        }
        part.with_suffix(".json").write_text(json.dumps(notes))
        yield Job(part, {}, (print,))


@pytest.mark.parametrize(
    ("count", "successes", "said"),
    [
        (5, lambda number: 0, "none of 50 attempts succeeded; reasons: too far away"),
        (6, lambda number: int(number == 2), "only 1 of 60 attempts succeeded; reasons: too far away"),
    ],
)
def test_hardly_any_success_is_not_worth_going_on(tmp_path, count, successes, said):
    with pytest.raises(RuntimeError, match=said):
        _run_chunks(chunks(tmp_path, count, successes), 100, 1, None)


def test_few_successes_are(tmp_path):
    parts = _run_chunks(chunks(tmp_path, 30, lambda number: int(number % 3 == 0)), 8, 1, None)
    assert len(parts) == 22  # the eighth success is in chunk 21
