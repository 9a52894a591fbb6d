import math
import warnings

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlas, InfoAtlasConfig, InfoAtlasLoss, estimate_mi
from infoatlas_rl.estimator.bounds import donsker_varadhan, info_nce
from infoatlas_rl.estimator.estimate import _in_sample
from infoatlas_rl.estimator.inputs import OutsideTrainingRangeWarning
from infoatlas_rl.estimator.model import load_pretrained
from tests.conftest import correlated

RHO = [0.8, 0.5]
TRUTH = -0.5 * sum(math.log(1 - r * r) for r in RHO)


def test_estimate_of_a_gaussian_is_close_to_the_truth(model):
    # The released weights are within 0.03 nats at n = 4000 on this problem; 0.06 leaves room for retraining.
    x, y = correlated(4000, RHO)
    assert abs(model.estimate(x, y).mi - TRUTH) < 0.06


def test_estimate_does_not_change_under_monotone_maps(model):
    x, y = correlated(300, RHO)
    mapped = model.estimate(x.exp(), y**3)
    assert mapped.mi == pytest.approx(model.estimate(x, y).mi, abs=1e-6)


def test_estimate_hardly_changes_under_invertible_linear_maps(model, rng):
    # Exact for the canonical stage; the copula stage sees other coordinates, which for Gaussian data differ by noise only, and so
    # do radii of normal scores: 0.05 here, 0.03 at most in twelve other draws.
    x, y = correlated(3000, RHO)
    mixed = model.estimate(x @ torch.randn(2, 2, generator=rng), y @ torch.randn(2, 2, generator=rng))
    assert mixed.mi == pytest.approx(model.estimate(x, y).mi, abs=0.06)


def test_estimate_hardly_changes_under_permutation_of_the_samples(model, rng):
    # Only the choice of product samples depends on the order: a standard deviation of 0.01 on this problem.
    x, y = correlated(2000, RHO)
    order = torch.randperm(2000, generator=rng)
    assert model.estimate(x[order], y[order]).mi == pytest.approx(model.estimate(x, y).mi, abs=0.04)


def test_estimate_does_not_change_under_zero_padding(model):
    x, y = correlated(300, RHO)
    padded = model.estimate(torch.nn.functional.pad(x, (0, 4)), torch.nn.functional.pad(y, (0, 1)))
    # The calibrated head amplifies rounding.
    assert padded.bound == pytest.approx(model.estimate(x, y).bound, abs=1e-4)
    assert padded.mi == pytest.approx(model.estimate(x, y).mi, abs=2e-3)


def test_large_data_sets_are_read_in_parts(model, monkeypatch):
    x, y = correlated(3000, RHO)
    whole = model.estimate(x, y)
    monkeypatch.setattr("infoatlas_rl.estimator.estimate.FIT_SAMPLES", 1024)
    parts = model.estimate(x, y)
    # A critic of a third of the samples, on all of them: the bound moves by the noise of fitting and of product samples.
    assert parts.bound == pytest.approx(whole.bound, abs=0.08)
    assert parts.mi == pytest.approx(whole.mi, abs=0.12)


def test_the_interval_holds_the_estimate_and_says_so(model):
    result = model.estimate(*correlated(300, RHO))
    low, high = result.interval
    assert low < result.mi < high
    assert f"{result.mi:.3f} nats (90 %: {low:.3f} to {high:.3f})" in str(result)
    bits = result.in_bits()
    assert bits.interval[1] == pytest.approx(high / math.log(2))


def test_fewer_samples_give_wider_intervals(model):
    widths = []
    for n in (64, 300, 3000):
        low, high = model.estimate(*correlated(n, RHO)).interval
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_independent_data_give_almost_nothing(model):
    x, y = correlated(2000, [0.0, 0.0])
    assert model.estimate(x, y).mi < 0.05


def test_estimate_grows_with_the_dependence(model):
    values = [model.estimate(*correlated(500, [r, r])).mi for r in (0.0, 0.3, 0.6, 0.9)]
    assert values == sorted(values)


def test_cross_fitted_bound_is_below_the_truth_on_average(model):
    x, y = correlated(400, RHO, batch=20)
    # Twenty data sets: the standard error of the mean is about 0.02.
    assert 0.5 * TRUTH < model.estimate(x, y, cross_fit=True).bound.mean() < TRUTH + 0.02


def test_the_order_of_the_rows_hardly_matters(model):
    x, y = correlated(500, RHO, batch=20)
    order = x[..., :1].argsort(dim=1)
    sorted_x, sorted_y = x.take_along_dim(order, 1), y.take_along_dim(order, 1)
    for cross_fit in (False, True):
        given, by_size = (model.estimate(*rows, cross_fit=cross_fit) for rows in ((x, y), (sorted_x, sorted_y)))
        # Other halves, other pairs: of one data set some 0.05, of the mean of twenty a fifth of that. In halves of small and of
        # large x the cross-fitted bound would be 0.4 lower.
        assert given.bound.mean() == pytest.approx(by_size.bound.mean(), abs=0.05)
        assert given.mi.mean() == pytest.approx(by_size.mi.mean(), abs=0.03)


def test_estimates_do_not_depend_on_the_types_around_them(model):
    x, y = correlated(200, RHO)
    expected = model.estimate(x, y, slices=3, k=2, cross_fit=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.estimate(x, y, slices=3, k=2, cross_fit=True) == expected
    torch.set_default_dtype(torch.float64)
    try:
        double = InfoAtlas.from_pretrained().estimate(x, y, slices=3, k=2, cross_fit=True)
        assert (double.mi, double.bound) == pytest.approx((expected.mi, expected.bound), abs=1e-5)  # rounding
        wide = torch.randn(200, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        assert InfoAtlas.from_pretrained().estimate(wide, wide + 1).mi > 1  # by way of projections
        penalty = InfoAtlasLoss(direction="minimise")(x.requires_grad_(), y)
        assert penalty.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_tables_are_paired_by_position_and_say_so_if_that_is_wrong(model):
    pandas = pytest.importorskip("pandas")
    x, y = correlated(200, RHO)
    frames = pandas.DataFrame(x.numpy()), pandas.DataFrame(y.numpy())
    backwards = [frame[::-1] for frame in frames]
    # Single data set, see above.
    assert model.estimate(*backwards).mi == pytest.approx(model.estimate(x, y).mi, abs=0.1)
    assert model.estimate(*[frame.to_numpy() for frame in backwards]).mi == model.estimate(*backwards).mi
    with pytest.raises(ValueError, match="different indexes"):
        model.estimate(frames[0], backwards[1])
    with pytest.raises(ValueError, match="x has masked values"):
        model.estimate(np.ma.masked_greater(x.numpy(), 1.0), y)
    for samples in (x.numpy() + 1j, x + 1j):
        with pytest.raises(TypeError, match="x is complex"):
            model.estimate(samples, y)


def test_batches_are_the_same_as_single_data_sets(model):
    x, y = correlated(150, RHO, batch=3)
    together = model.estimate(x, y).mi
    one_by_one = [model.estimate(a, b).mi for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(together, one_by_one, atol=1e-4)


def test_arrays_tensors_and_single_variables_are_read(model):
    x, y = correlated(200, [0.7])
    values = [
        model.estimate(x, y).mi,
        model.estimate(x.numpy(), y.numpy()).mi,
        model.estimate(x[:, 0].double().numpy(), y[:, 0].tolist()).mi,
    ]
    assert values == pytest.approx([values[0]] * 3, abs=1e-3)  # double against single precision


def test_slices_make_high_dimensions_possible(model):
    x, y = correlated(300, [0.9] * 30)
    assert model.estimate(x, y, slices=5, k=3).mi > model.estimate(x, y.roll(1, 0), slices=5, k=3).mi + 0.05


def test_permutation_test_separates_dependence_from_independence(model):
    dependent = model.estimate(*correlated(200, [0.6]), permutations=19)
    independent = model.estimate(*correlated(200, [0.0], seed=4), permutations=19)
    assert dependent.p_value == 0.05  # exactly, for p <= 0.05 is asked
    assert independent.p_value > 0.05


def test_units_are_stated():
    x, y = correlated(200, [0.8])
    nats, bits = estimate_mi(x, y), estimate_mi(x, y, units="bits")
    assert bits.mi == pytest.approx(nats.mi / math.log(2))
    assert "nats" in str(nats)
    assert "bits" in str(bits)
    with pytest.raises(ValueError, match="nats or bits"):
        estimate_mi(x, y, units="bans")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.randn(50, 2), torch.randn(49, 2), r"x has shape \(50, 2\) and y has shape \(49, 2\)"),
        (torch.randn(7, 2), torch.randn(7, 2), "n = 7 samples; at least 8"),
        (torch.full((50, 2), math.nan), torch.randn(50, 2), "x contains NaN or infinity, first in row 1, column 1"),
        (torch.randn(50, 2), torch.full((50, 1), math.inf), "y contains NaN or infinity"),
        (torch.randn(50, 0), torch.randn(50, 2), "x has shape .* is empty"),
        (torch.randn(2, 2, 50, 2), torch.randn(50, 2), r"accepted are \(n,\), \(n, d\)"),
    ],
)
def test_bad_samples_are_named(model, x, y, message):
    with pytest.raises(ValueError, match=message):
        model.estimate(x, y)


def test_class_labels_may_be_words_and_agree_with_the_loss(model):
    x, _ = correlated(300, [0.5])
    labels = (x[:, 0] > -0.5).long() + (x[:, 0] > 0.5)
    words = np.array([("low", "middle", "high")[i] for i in labels])
    by_number, by_word = (model.estimate(x, y, classes="y") for y in (labels, words))
    assert by_word.mi == pytest.approx(by_number.mi, abs=0.05)  # the columns come in another order
    assert model.estimate(x, labels.numpy(), classes="y").mi == by_number.mi
    encoded = torch.nn.functional.one_hot(labels)
    assert model.estimate(x, encoded).mi == pytest.approx(by_number.mi, abs=0.05)
    # Without classes integers are the numbers they are.
    assert model.estimate(x, labels).mi == model.estimate(x, labels.double()).mi
    with pytest.raises(TypeError, match="class labels have to be integers or booleans"):
        model.estimate(x, x.numpy(), classes="y")


def test_times_are_numbers_and_missing_ones_are_refused(model):
    x, y = correlated(300, [0.9])
    days = np.round(1000 * y[:, 0].double().numpy())
    times = np.datetime64("2024-01-01") + days.astype("timedelta64[D]")
    for samples in (times, times.astype("datetime64[ns]"), days.astype("timedelta64[h]")):
        assert model.estimate(x, samples).mi == pytest.approx(model.estimate(x, days).mi, abs=1e-3)
    times[3] = np.datetime64("NaT")
    for missing in (times, times - times[0]):
        with pytest.raises(ValueError, match="y contains NaT, so samples without a time: drop those rows"):
            model.estimate(x, missing)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_unit_of_measurement_does_not_matter(model, scale, dtype):
    x, y = (t.to(dtype) for t in correlated(100, [0.9, 0.4]))
    for options in ({}, {"slices": 3, "k": 2}, {"cross_fit": True}):
        expected = model.estimate(x, y, **options)
        scaled = model.estimate(x * scale, y * scale, **options)
        assert scaled.mi == pytest.approx(expected.mi, abs=1e-3)
        assert scaled.bound == pytest.approx(expected.bound, abs=1e-3)


def test_words_are_not_samples(model):
    with pytest.raises(TypeError, match=r"y cannot be read as an array of numbers \(class labels: classes='y'\)"):
        model.estimate(np.zeros((50, 1)), ["a"] * 50)
    with pytest.raises(TypeError, match=r"y cannot be read as an array of numbers \(give its text columns as numbers"):
        model.estimate(np.zeros((50, 1)), np.array([["a", "b"]] * 50))
    with pytest.raises(TypeError, match="y cannot be read as an array of numbers"):
        model.estimate(np.zeros((4, 1)), [[1, 2], [3], [4], [5]])


def test_estimates_outside_the_training_range_warn(model):
    with pytest.warns(OutsideTrainingRangeWarning, match="n = 12"):
        model.estimate(*correlated(12, [0.5]))
    x, y = correlated(500, [0.5])
    with pytest.warns(OutsideTrainingRangeWarning, match="a column of y has the same value in more than 95%"):
        model.estimate(x, (y > 2.5).float())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.estimate(torch.ones(500, 1), y.round())  # rounded and constant columns were seen


def test_constant_columns_and_ties_are_finite(model):
    x, y = correlated(100, [0.5, 0.5])
    x[:, 1] = 3
    assert math.isfinite(model.estimate(x, y).mi)
    assert model.estimate(torch.ones(100, 2), y).mi == pytest.approx(0, abs=0.02)


def test_every_parameter_gets_a_gradient(tiny):
    from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_problems
    from infoatlas_rl.pretraining.trainer import regret

    torch.manual_seed(0)
    network = InfoAtlas(tiny).train()
    with torch.no_grad():
        for parameter in network.parameters():  # away from the zeros that some layers start with
            parameter += 0.01 * torch.randn_like(parameter)
    problem = sample_problems(4, 100, 3, 2, AtlasConfig(query=64), torch.Generator().manual_seed(1))
    regret(network, problem, autocast=False).loss().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    # The calibrated head is fitted by itself.
    assert {name.split(".")[0] for name in without} == {"calibrated_head"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 0}, "slices has to be at least 1"),
        ({"slices": 3, "k": 0}, "k has to be 1 to 20"),
        ({"permutations": -1}, "permutations has to be 0 or more"),
        ({"bound": "best"}, "bound has to be one of dv, nwj, smile, infonce"),
    ],
)
def test_bad_options_list_the_accepted_ones(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.estimate(*correlated(100, [0.5]), **options)


def test_half_precision_is_read(model):
    x, y = correlated(200, [0.7])
    # Rounding to eight bits makes ties and moves ranks.
    assert model.estimate(x.bfloat16(), y.bfloat16()).mi == pytest.approx(model.estimate(x, y).mi, abs=0.05)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="variates has to be positive"):
        InfoAtlasConfig(variates=0)
    with pytest.raises(ValueError, match="newton_steps"):
        InfoAtlasConfig(newton_steps=1)
    with pytest.raises(ValueError, match="padding has to be zero or noise, not 'ones'"):
        InfoAtlasConfig(padding="ones")


def test_noise_padding_fills_the_columns_that_are_missing(tiny, rng):
    from dataclasses import replace

    torch.manual_seed(0)
    network = replace(tiny, padding="noise").build().eval()
    x, y = correlated(200, RHO, batch=2)
    maps = network(x, y).maps
    assert maps.linear.rho.shape == (2, 20)
    assert maps.dims[0].tolist() == [[20], [20]]
    assert maps.linear.rho[0, 0] >= 0.75


def test_a_constant_hypernetwork_writes_the_same_for_all(tiny, rng):
    from dataclasses import replace

    torch.manual_seed(0)
    data = correlated(200, RHO, batch=1), correlated(200, [0.0, 0.0], batch=1)
    for kind, same in (("constant", True), ("generated", False)):
        network = replace(tiny, hypernetwork=kind).build().eval()
        first, second = (network(x, y).parameters.frequencies for x, y in data)
        assert torch.equal(first, second) == same


def test_constant_columns_do_not_count_as_dimensions(model):
    x, y = correlated(300, [0.8, 0.0])
    wide = torch.cat([x, torch.ones(300, 25)], 1)
    alone, with_them = model.estimate(x, y), model.estimate(wide, y)
    assert with_them.mi == alone.mi
    assert with_them.dims == (27, 2)
    assert with_them.projected is None
    assert model.estimate(torch.ones(300, 30), y).mi == 0


def test_large_integers_keep_their_order(model):
    t = np.arange(400)
    y = np.sin(t / 45)
    small = model.estimate(t, y).mi
    for offset in (1_700_000_000_000_000_000, 2**62):
        assert model.estimate(t + offset, y).mi == small
        assert model.estimate(torch.from_numpy(t + offset), torch.from_numpy(y)).mi == small
    for offset, step in ((2**62, 1), (2**63 + 5, 1), (0, 2**55)):  # beyond what signed integers hold
        assert model.estimate(np.uint64(offset) + t.astype(np.uint64) * np.uint64(step), y).mi == small
    times = np.datetime64("2026-01-01T00:00:00.000000000") + t.astype("timedelta64[ns]")
    assert model.estimate(times, y).mi == small


def test_estimates_leave_the_random_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_pretrained()
    assert torch.equal(torch.rand(1), expected)


def test_product_samples_beyond_those_that_write_a_critic_are_of_different_rows(model, monkeypatch):
    monkeypatch.setattr("infoatlas_rl.estimator.estimate.FIT_SAMPLES", 200)
    x, y = (side[None] for side in correlated(201, [0.99, 0.99]))
    critic, bound = _in_sample(model, x, y, "dv")
    side_x, side_y = critic.sides(x[:, 199:], y[:, 199:])
    first, second = torch.tensor([0]), torch.tensor([1])
    # Alone in its part, a row would be paired with itself: a joint sample among the product samples.
    joint = torch.cat([critic.joint, critic.values(side_x.at(second), side_y.at(second))[0]], -1)
    product = torch.cat([critic.product[:, :200], critic.values(side_x.at(second), side_y.at(first))[0]], -1)
    torch.testing.assert_close(bound, donsker_varadhan(joint, product))
    _, of_pairs = _in_sample(model, x, y, "infonce")
    torch.testing.assert_close(of_pairs, info_nce(critic.joint, critic.product))
