"""All pretrainings keep other runs out of their folder, and check where they write before they train."""

from __future__ import annotations

import pytest

pytest.importorskip("hydra")

import hydra

from infoatlas_rl.files import lock_folder
from infoatlas_rl.tasks import pretrain, pretrain_infonet, pretrain_mist
from infoatlas_rl.tasks.shell.options import CONFIGS


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        return hydra.compose(name, list(overrides))


def test_a_second_pretraining_in_a_folder_is_refused_and_leaves_it_as_it_was(tmp_path):
    critic = compose("pretrain", "size=tiny", "name=a", f"out={tmp_path}", "pretrain.steps=1")
    infonet = compose("pretrain_infonet", f"run={tmp_path}", "training.steps=1")
    mist = compose("pretrain_mist", f"run={tmp_path}", "training.steps=1")
    runs = (pretrain.pretrain, critic), (pretrain_infonet.pretrain, infonet), (pretrain_mist.pretrain, mist)
    with lock_folder(tmp_path):
        for run, cfg in runs:
            with pytest.raises(ValueError, match=f"another run is at work in {tmp_path}"):
                run(cfg)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_as_the_file_of_weights_is_refused_before_the_training(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path} is a folder; name a file"):
        pretrain_infonet.pretrain(compose("pretrain_infonet", f"run={tmp_path / 'run'}", f"out={tmp_path}"))
    assert list(tmp_path.iterdir()) == []
