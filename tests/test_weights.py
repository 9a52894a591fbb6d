import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoatlas_rl import InfoAtlas, InfoAtlasConfig, WeightsError
from infoatlas_rl import weights as weights_module
from infoatlas_rl.estimator.model import read_weights, shared_pretrained, write_weights
from infoatlas_rl.files import sha256
from infoatlas_rl.weights import hashes_of_critic, pretrained_folder, released, weights_hash
from tests.conftest import correlated


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A private copy of the released weights."""
    shutil.copytree(pretrained_folder(), tmp_path / "pretrained")
    monkeypatch.setattr(weights_module, "pretrained_folder", lambda: tmp_path / "pretrained")
    return tmp_path / "pretrained"


def test_released_weights_are_small_and_load_frozen(model):
    for name, entry in released().items():
        assert (pretrained_folder() / entry["file"]).stat().st_size < 30 * 2**20
        assert weights_hash(name) == entry["sha256"]
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_saved_and_loaded_models_agree(tiny, tmp_path):
    torch.manual_seed(0)
    model = InfoAtlas(tiny).eval()
    path = tmp_path / "tiny.safetensors"
    write_weights(path, model, {"steps": 3})
    again, record = read_weights(path)
    assert record == {"steps": 3}
    assert again.config == tiny
    x, y = correlated(60, [0.5])
    assert InfoAtlas.from_pretrained(str(path)).estimate(x, y).mi == pytest.approx(model.estimate(x, y).mi)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_damaged_weights_are_refused_with_both_hashes(folder):
    path = folder / released()["base"]["file"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"sha256 is [0-9a-f]{64}, the manifest says [0-9a-f]{64}"):
        InfoAtlas.from_pretrained()


def test_missing_weights_are_an_error_and_never_random(folder):
    (folder / released()["base"]["file"]).unlink()
    with pytest.raises(WeightsError, match=r"is missing.*reinstall"):
        InfoAtlas.from_pretrained()
    with pytest.raises(WeightsError, match="no released weights 'huge'; there are base"):
        InfoAtlas.from_pretrained("huge")


def test_weights_of_another_architecture_are_refused(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    write_weights(path, InfoAtlas(tiny), {})
    tensors = load_file(path)
    header = {"format": "infoatlas-4", "config": json.dumps({"pair_width": 24}), "record": "{}"}
    save_file(tensors, path, metadata=header)
    with pytest.raises(WeightsError, match="do not match"):
        InfoAtlas.from_pretrained(str(path))
    save_file(tensors, path, metadata={"format": "other"})
    with pytest.raises(WeightsError, match="format 'other'"):
        InfoAtlas.from_pretrained(str(path))
    path.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        InfoAtlas.from_pretrained(str(path))


def test_a_new_head_keeps_what_the_critic_found(tmp_path, monkeypatch):
    # Released again with another head, earlier hashes are those of the same critic; with another critic they are not.
    pytest.importorskip("hydra")
    from infoatlas_rl.tasks import release_weights

    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    for module in (weights_module, release_weights):
        monkeypatch.setattr(module, "pretrained_folder", lambda: folder)
    torch.manual_seed(0)
    model = InfoAtlas(InfoAtlasConfig(side_width=8, side_features=8, phases=4, pair_width=8, width=8, decoder_width=8))
    hashes = []
    for change in (None, model.calibrated_head.members, None, model.encoder.side):
        if change is not None:
            torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(change.parameters()) + 1, change.parameters())
        write_weights(tmp_path / "weights.safetensors", model, {"problems": 1, "hours": 1.0})
        release_weights.release(tmp_path, "base")
        hashes.append(weights_hash("base"))
        if change is not model.encoder.side:
            assert hashes_of_critic("base") == set(hashes)
    assert hashes_of_critic("base") == {hashes[-1]}


def test_the_same_model_is_the_same_file(tiny, tmp_path):
    model = tiny.build()
    # Safetensors writes its metadata in an order of its own; notes of evaluations and trainings go by the checksum.
    for number in range(6):
        write_weights(tmp_path / f"{number}.safetensors", model, {"note": "ü"})
    assert len({sha256(path) for path in tmp_path.iterdir()}) == 1
    assert read_weights(tmp_path / "0.safetensors")[1] == {"note": "ü"}


def test_weights_are_read_once_while_their_file_stays_as_it_is(tiny, tmp_path):
    path = tmp_path / "mine.safetensors"
    write_weights(path, tiny.build(), {})
    first = shared_pretrained(path)
    assert shared_pretrained(path) is first
    path.unlink()
    write_weights(path, tiny.build(), {"longer": "than before"})
    assert shared_pretrained(path) is not first
    path.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        shared_pretrained(path)
