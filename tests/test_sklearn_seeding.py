"""Seeds of the estimators: scikit-learn's random numbers, and its errors."""

import copy

import numpy as np
import pytest
from backprop.sklearn import MLPClassifier, MLPEnsembleClassifier
from backprop.sklearn.seeding import random_numbers
from sklearn.utils import check_random_state


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, np.int64(3), np.random.RandomState(4)])
def test_the_numbers_are_those_of_scikit_learn(seed):
    own, theirs = random_numbers(copy.deepcopy(seed)), check_random_state(copy.deepcopy(seed))
    np.testing.assert_array_equal(own.uniform(size=1000), theirs.uniform(size=1000))
    np.testing.assert_array_equal(own.normal(size=3), theirs.normal(size=3))
    np.testing.assert_array_equal(own.permutation(50), theirs.permutation(50))


def test_each_has_its_own():
    one, other = random_numbers(0), random_numbers(0)
    one.uniform(size=10)
    assert other.uniform() == np.random.RandomState(0).uniform()
    assert random_numbers(None) is check_random_state(None)  # NumPy's global one


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "seed"])
def test_what_scikit_learn_refuses(seed):
    with pytest.raises(ValueError, match=r"^random_state: .*[Ss]eed"):
        random_numbers(seed)
    for Estimator in (MLPClassifier, MLPEnsembleClassifier):
        with pytest.raises(ValueError, match=r"^random_state: .*[Ss]eed"):
            Estimator(3, random_state=seed).fit([[0.0], [1.0]], [0, 1])


def test_an_array_after_a_table_leaves_no_names():
    pandas = pytest.importorskip("pandas")
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    model = MLPClassifier(3, solver="lbfgs", max_iter=5000, random_state=0)
    assert list(model.fit(pandas.DataFrame(X, columns=["a", "b"]), y).feature_names_in_) == ["a", "b"]
    model.fit(X, y)
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 2
