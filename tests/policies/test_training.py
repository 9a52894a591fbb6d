"""The training of a policy in a folder: candidates, the choice among them, and key states that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from infoatlas_rl.policies import training
from infoatlas_rl.policies.cloning import CloningConfig
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.rollout import Episode
from infoatlas_rl.policies.training import PolicyTraining, ValidationConfig, key_steps
from tests.conftest import SMALL_POLICY, fake_demos, keys_of


def run(out, validation=None, **options):
    demos = fake_demos()
    config = CloningConfig(steps=4, batch_size=8, **options)
    validation = validation or ValidationConfig(rounds=[0.25, 0.5], episodes=2)
    return PolicyTraining(demos, keys_of(demos), PolicyConfig(**SMALL_POLICY), config, validation, out, {"task": "PickCube"})


@pytest.mark.parametrize(("solved", "chosen"), [({1: 2, 2: 1, 4: 1}, 1), ({1: 1, 2: 2, 4: 2}, 4)])
def test_the_candidate_that_solves_most_scenes_is_chosen_and_of_equals_the_last(solved, chosen, tmp_path, monkeypatch):
    def evaluate(path, seeds, **options):
        assert (path.is_file(), list(seeds)) == (True, [30000, 30001])
        step = int(path.stem.removeprefix("step_"))
        return [Episode(seed, index < solved[step], False, 9, {}) for index, seed in enumerate(seeds)]

    monkeypatch.setattr(training, "evaluate", evaluate)
    job = run(tmp_path)
    assert job.due == [1, 2, 4]
    assert not job.resume()
    list(job.fit())
    assert [job.validate(step)["k"] for step in job.due] == list(solved.values())
    path, record = job.finish()
    assert (record["chosen_step"], record["demonstrations"]["count"]) == (chosen, 6)
    policy, kept = KeyStatePolicy.load_with_record(path)
    assert kept["validation"] == record["validation"]
    candidate = KeyStatePolicy.load(tmp_path / f"step_{chosen:06d}.safetensors").state_dict()
    assert all((candidate[name] == value).all() for name, value in policy.state_dict().items())

    again = run(tmp_path)
    assert again.resume()
    assert (again.cloning.step, list(again.fit())) == (4, [])
    (tmp_path / "step_000001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"step_000001.safetensors is missing: validation.rounds have changed"):
        again.validate(1)


def test_scenes_of_demonstrations_do_not_choose_the_policy(tmp_path):
    with pytest.raises(ValueError, match=r"2 of the validation scenes are among the demonstrations \(seed 4, for one\)"):
        run(tmp_path, ValidationConfig(first_seed=4))


def test_key_states_that_do_not_fit_the_demonstrations_are_refused(tmp_path):
    class Demo:
        def __init__(self, seed):
            self.seed = seed

            self.states = np.tile(np.arange(30.0)[:, None], 100)

        def __len__(self):
            return 30

    class Demos(list):
        path = "few.h5"
        demonstrations = property(list)

    demos = Demos([Demo(0), Demo(1)])
    steps, about = key_steps(demos, 3, "even", None)
    assert (steps.shape, about) == ((2, 3), {"arm": "even"})
    assert (np.diff(steps) > 0).all()
    path = tmp_path / "keystates.npz"

    def written(step):
        states = np.tile(np.array(step, dtype=float)[..., None], 100)
        np.savez(path, seed=np.arange(2), step=np.array(step), states=states, weights_sha256="abc")
        return path

    steps, about = key_steps(demos, 2, "infoatlas", written([[3, 29], [4, 29]]))
    assert steps.tolist() == [[3, 29], [4, 29]]
    assert (about["arm"], about["weights_sha256"]) == ("infoatlas", "abc")
    with pytest.raises(ValueError, match="holds 2 key states a demonstration, the policy needs 4"):
        key_steps(demos, 4, "infoatlas", path)
    with pytest.raises(ValueError, match=r"key states after the end of demonstrations \[1\]"):
        key_steps(demos, 2, "infoatlas", written([[3, 29], [4, 30]]))
    slower = Demos([Demo(0), Demo(1)])
    slower[1].states = slower[1].states / 2
    with pytest.raises(ValueError, match=r"keystates.npz is of other demonstrations than few.h5: with seed 1 these are in"):
        key_steps(slower, 2, "infoatlas", written([[3, 29], [4, 29]]))
    with pytest.raises(ValueError, match="no key states at"):
        key_steps(demos, 2, "infoatlas", tmp_path / "nowhere.npz")
