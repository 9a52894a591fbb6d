import pytest
import torch

pytest.importorskip("hydra")

from omegaconf import OmegaConf

from infoatlas_rl.baselines.paper import PaperConfig, PaperInfoAtlas
from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_problems
from infoatlas_rl.pretraining.trainer import regret
from tests.conftest import compose

SMALL = PaperConfig(width=16, latents=4, heads=4, joint_layers=1, marginal_layers=1, decoder_layers=2, decoder_width=32)


def test_the_published_sizes_have_a_billion_parameters():
    config = OmegaConf.to_object(compose("pretrain", "size=paper").model)
    assert (config.width, config.joint_layers, config.marginal_layers) == (1536, 16, 8)
    assert (config.decoder_layers, config.decoder_width, config.max_dim) == (7, 8196, 20)
    with torch.device("meta"):  # counted, not allocated
        network = config.build()
    assert 0.9e9 < sum(p.numel() for p in network.parameters()) < 1.3e9


def test_the_published_architecture_takes_a_training_step():
    torch.manual_seed(0)
    network = SMALL.build()
    problem = sample_problems(1, 64, 2, 3, AtlasConfig(query=32, truth=32), torch.Generator().manual_seed(0))
    loss = regret(network, problem, autocast=False).loss()
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())
    assert float(network.decoder[-1].weight.grad.abs().sum()) > 0


def test_a_small_one_fits_one_batch_of_problems():
    torch.manual_seed(0)
    network = PaperInfoAtlas(SMALL).train()
    atlas = AtlasConfig(query=256, truth=64, max_components=2)
    problem = sample_problems(4, 200, 1, 1, atlas, torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = regret(network, problem, autocast=False).loss()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_the_critic_of_a_batch_is_written_for_each_data_set(rng):
    torch.manual_seed(0)
    network = PaperInfoAtlas(SMALL)
    critic = network(torch.randn(3, 50, 2, generator=rng), torch.randn(3, 50, 1, generator=rng))
    assert [tuple(w.shape) for w, _ in critic.layers] == [(3, 40, 64), (3, 64, 64), (3, 64, 1)]
    joint, product = critic.joint_and_product(torch.randn(3, 20, 2, generator=rng), torch.randn(3, 20, 1, generator=rng))
    assert joint.shape == product.shape == (3, 20)
    torch.testing.assert_close(product.exp().mean(-1), torch.ones(3), atol=1e-4, rtol=0)
