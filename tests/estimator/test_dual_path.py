import torch

from infoatlas_rl.estimator.dual_path import DualPathEncoder


def encoder() -> DualPathEncoder:
    torch.manual_seed(0)
    return DualPathEncoder(3, width=16, latents=4, joint_layers=1, marginal_layers=1)


def test_encoding_does_not_depend_on_the_order_of_the_samples(rng):
    x, y = torch.randn(2, 50, 3, generator=rng), torch.randn(2, 50, 3, generator=rng)
    order = torch.randperm(50, generator=rng)
    torch.testing.assert_close(encoder()(x[:, order], y[:, order]), encoder()(x, y), atol=1e-5, rtol=1e-5)


def test_encoding_depends_on_the_pairing(rng):
    x = torch.randn(1, 50, 3, generator=rng)
    y = x + 0.1 * torch.randn(1, 50, 3, generator=rng)
    broken = y[:, torch.randperm(50, generator=rng)]
    assert (encoder()(x, broken) - encoder()(x, y)).norm() > 1e-3


def test_one_encoder_reads_any_number_of_samples(rng):
    for n in (16, 500):
        code = encoder()(torch.randn(3, n, 3, generator=rng), torch.randn(3, n, 3, generator=rng))
        assert code.shape == (3, 16)


def test_data_sets_of_a_batch_do_not_mix(rng):
    x, y = torch.randn(3, 40, 3, generator=rng), torch.randn(3, 40, 3, generator=rng)
    torch.testing.assert_close(encoder()(x, y)[1:2], encoder()(x[1:2], y[1:2]), atol=1e-5, rtol=1e-5)
