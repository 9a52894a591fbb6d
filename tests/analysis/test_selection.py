"""Scores of features for a target."""

import numpy as np
import pytest
import torch

from infoatlas_rl import estimate_mi, feature_information, independence_test


def test_features_that_tell_something_have_the_largest_scores():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6))
    y = np.sin(2 * x[:, 1]) + 0.5 * x[:, 4] + 0.1 * rng.normal(size=500)
    scores = feature_information(x, y)
    assert scores.shape == (6,)
    assert set(np.argsort(-scores)[:2]) == {1, 4}
    labels = np.where(x[:, 2] > 0, "yes", "no")
    scores = feature_information(x, labels)
    assert scores.argmax() == 2
    assert scores[2] <= np.log(2) + 0.005  # the entropy, corrected for its bias
    np.testing.assert_allclose(feature_information(x, labels == "yes"), scores, atol=1e-6)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"y has shape \(9,\); accepted is \(10,\)"):
        feature_information(np.zeros((10, 2)), np.zeros(9))
    with pytest.raises(ValueError, match="X has shape"):
        feature_information(np.array([["a", "b"]] * 10), np.zeros(10))


def test_tensors_are_read_as_arrays_are_and_sparse_matrices_are_named():
    sparse = pytest.importorskip("scipy.sparse")
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = (x[:, 0] > 0).numpy()
    scores = feature_information(x.float().numpy(), labels)
    np.testing.assert_array_equal(feature_information(x.requires_grad_(), labels), scores)
    with pytest.raises(TypeError, match=r"X is a sparse matrix; give X.toarray\(\)"):
        feature_information(sparse.eye(100).tocsr(), labels)


def test_scikit_learn_selects_with_it():
    selection = pytest.importorskip("sklearn.feature_selection")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 5))
    chosen = selection.SelectKBest(feature_information, k=1).fit(x, (x[:, 3] > 0).astype(int))
    assert chosen.get_support().tolist() == [False, False, False, True, False]


def test_frames_in_other_orders_and_missing_labels_are_named():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.random.default_rng(0).normal(size=100)})
    mixed = frame.sample(frac=1, random_state=0)
    with pytest.raises(ValueError, match="X and y have different indexes"):
        feature_information(frame, mixed["a"])
    with pytest.raises(ValueError, match="x and y have different indexes"):
        independence_test(frame, mixed)
    labels = pandas.Series(["u", None, *["v"] * 98])
    with pytest.raises(ValueError, match="y has no label in row 2"):
        feature_information(frame, labels)
    with pytest.raises(ValueError, match="y has no label in row 2"):
        estimate_mi(frame, labels, classes="y")


def test_many_integers_are_taken_as_classes_with_a_warning_and_objects_of_numbers_as_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    target = 0.5 * x[:, 1] + rng.normal(size=200)
    with pytest.warns(UserWarning, match="different integers, which are taken as classes"):
        feature_information(x, np.round(10 * target).astype(int))
    np.testing.assert_array_equal(feature_information(x, target.astype(object)), feature_information(x, target))
    labels = rng.integers(0, 5, size=200)
    np.testing.assert_array_equal(feature_information(x, labels.astype(object)), feature_information(x, labels))


def test_masked_and_empty_features_are_refused():
    x = np.zeros((100, 2))
    with pytest.raises(ValueError, match="X has masked values"):
        feature_information(np.ma.array(x, mask=np.eye(100, 2)), x[:, 0])
    with pytest.raises(ValueError, match=r"X has shape \(100, 0\)"):
        feature_information(x[:, :0], x[:, 0])


def test_times_are_a_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = X[:, 0] + rng.normal(size=200)
    times = np.array((1e6 * y).astype(np.int64), dtype="timedelta64[s]")
    np.testing.assert_allclose(feature_information(X, times), feature_information(X, y), atol=1e-3)
