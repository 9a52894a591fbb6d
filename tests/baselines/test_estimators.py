"""All estimators under one interface: what they say of correlated Gaussians and of independent ones, and held-out values."""

import math

import numpy as np
import pytest
import torch

from infoatlas_rl.baselines.classical import TooFewSamplesError, kde
from infoatlas_rl.baselines.critics import OBJECTIVES, CriticTraining, jensen_shannon, shifted, train_critic
from infoatlas_rl.baselines.estimators import KNIFE, MINDE, Estimator, SlicedInfoNet, TrainedCritic, peers
from infoatlas_rl.baselines.knife import KernelDensities, KNIFETraining
from infoatlas_rl.baselines.minde import Denoiser, MINDETraining, information
from infoatlas_rl.estimator.bounds import info_nce

TRUTH = -math.log(1 - 0.8**2)
"""Of two pairs of columns with correlation 0.8, in nats."""


def gaussians(n: int, rho: float = 0.8, seed: int = 0, d: int = 2):
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * z


@pytest.fixture(scope="module")
def found():
    x, y = gaussians(1000)
    return {estimator.name: estimator(x, y) for estimator in peers(300)}


@pytest.mark.parametrize(
    "name", ["InfoAtlas", "KSG", "Gaussian copula", "KDE", "MINE", "NWJ", "SMILE", "InfoNCE", "KNIFE", "MINDE"]
)
def test_estimators_agree_on_correlated_gaussians(found, name):
    # Of 1000 samples two correlations of 0.8 are known to 0.04 nats. Trained ones see 500 samples in 300 steps, and are bounds:
    # 0.8 to 1.0 of 1.02 nats; KDE smooths.
    exact = name in ("InfoAtlas", "KSG", "Gaussian copula")
    assert found[name] == pytest.approx(TRUTH, abs=0.08 if exact else 0.3)


def test_sliced_infonet_says_less_than_the_information(found):
    assert 0.02 < found["InfoNet"] < 0.5 * TRUTH
    x, y = gaussians(1000, d=1)
    assert SlicedInfoNet()(x, y) == pytest.approx(TRUTH / 2, abs=0.1)


@pytest.mark.parametrize("name", [*OBJECTIVES, "KNIFE", "MINDE"])
def test_trained_peers_are_held_out(name):
    """Sixty samples of ten columns can be learned by heart; on the other half nothing of it is left."""
    x, y = gaussians(120, 0.0, d=10)
    training = CriticTraining(200)
    others = {"KNIFE": lambda: KNIFE(KNIFETraining(200)), "MINDE": lambda: MINDE(MINDETraining(600))}
    value = others.get(name, lambda: TrainedCritic(name, training))()(x, y)
    # In sample the same say 1 nat and more, KNIFE 12; the best of ten looks is slightly above 0. MINDE squares the difference of
    # its two answers, which few samples make large: 1.2, where the last of the ten looks says 7, and 4 in sample.
    assert value < (2 if name == "MINDE" else 0.3)


def test_kde_leaves_a_sample_out_of_its_own_density():
    x, y = gaussians(300, 0.0, d=4)
    # With itself in it the density of eight dimensions says 1 nat and more.
    assert kde(x, y) < 0.2


def test_kde_of_as_many_columns_as_samples_is_refused():
    with pytest.raises(TooFewSamplesError, match="kernel densities of 20 columns need more than 20 samples, not 20"):
        kde(*gaussians(20, d=10))


def test_every_estimator_has_name_settings_and_a_count():
    found = peers(7, slices=3)
    names = [estimator.name for estimator in found]
    assert len(set(names)) == len(names) == 11
    counts = {estimator.name: estimator.parameters(2, 3) for estimator in found}
    assert counts["KSG"] == counts["KDE"] == counts["Gaussian copula"] == 0
    w = CriticTraining.width
    assert counts["MINE"] == counts["InfoNCE"] == 5 * w + w + w * w + w + w + 1
    assert counts["KNIFE"] == sum(
        p.numel() for p in KernelDensities(2, torch.zeros(4, 3), KNIFETraining(), torch.Generator()).parameters()
    )
    assert counts["MINDE"] == sum(p.numel() for p in Denoiser(2, 3, MINDETraining(), torch.Generator()).parameters())
    estimator: Estimator
    for estimator in found:
        if "steps" in estimator.settings:
            assert estimator.settings["steps"] == 7


def test_a_seed_gives_the_same_value():
    x, y = gaussians(60)
    for make in (lambda seed: TrainedCritic("NWJ", CriticTraining(20), seed), lambda seed: KNIFE(KNIFETraining(20), seed)):
        one, same, other = (make(seed)(x, y) for seed in (0, 0, 1))
        assert one == same != other


def test_minde_integrates_the_answers_of_perfect_denoisers():
    """Of Gaussians with correlation rho the noise that is expected is known, with x at hand and without."""
    rho = 0.8
    x, y = (torch.tensor(side, dtype=torch.float32) for side in gaussians(20_000, rho, d=1))

    def perfect(noisy, x, known, level):
        signal, noise = torch.sigmoid(level), torch.sigmoid(-level)
        mean, variance = known * rho * x, 1 - known * rho**2
        return noise.sqrt() * (noisy - signal.sqrt() * mean) / (signal * variance + noise)

    assert float(information(perfect, x, y, torch.Generator().manual_seed(0))) == pytest.approx(TRUTH / 2, abs=0.02)


def test_all_pairs_of_a_batch_are_negatives_of_infonce():
    rows, partners = shifted(4, 3)
    assert {(int(i), int(j)) for i, j in zip(rows, partners, strict=True)} == {
        (i, j) for i in range(4) for j in range(4) if i != j
    }
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    value = info_nce(scores.diagonal()[None], scores[rows, partners][None])
    expected = -torch.nn.functional.cross_entropy(scores, torch.arange(4)) + math.log(4)
    torch.testing.assert_close(value[0], expected)


def test_critics_of_a_batch_are_trained_on_their_own_data():
    x = torch.randn(2, 200, 1, generator=torch.Generator().manual_seed(0))
    y = torch.stack([x[0], -x[1]])
    weights = train_critic(x, y, OBJECTIVES["SMILE"], CriticTraining(150), torch.Generator().manual_seed(1))
    assert weights[0].shape == (2, 2, CriticTraining.width)
    assert not torch.allclose(weights[0][0], weights[0][1])


def test_jensen_shannon_is_largest_at_the_log_ratio():
    joint, product = torch.tensor([[2.0, 2.0]]), torch.tensor([[-2.0, -2.0]])
    assert (
        float(jensen_shannon(joint, product)) > float(jensen_shannon(0 * joint, 0 * product)) == pytest.approx(-2 * math.log(2))
    )


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="batch_size has to be at least 1"):
        CriticTraining(batch_size=0)
