"""FeatureSelector in scikit-learn: its own checks, pipelines, and the attributes after fitting."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import rsunfold
from rsunfold.errors import DeviceError
from rsunfold.estimator import FeatureSelector

# Skipped by scikit-learn itself unless SCIPY_ARRAY_API is set: the methods compute with NumPy, not with array-API
# namespaces, and take such arrays by converting them.
SKIPPED = {"check_array_api_input"}
QUICK = FeatureSelector(options={"stages": 2, "epochs": 2})


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 7)) + 0.1 * rng.normal(size=(80, 7))
    x[:, 2] = 4
    return x


@pytest.mark.parametrize("selector", [QUICK, FeatureSelector(1, model="css")], ids=["spca-net", "css"])
def test_the_checks_of_scikit_learn(selector):
    results = check_estimator(selector, on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert not failed and len(results) > 40
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= SKIPPED


def test_attributes(X):
    fitted = FeatureSelector(3, model="css").fit(X)
    expected = rsunfold.select_features(X, k=3, model="css")
    assert fitted.order_.tolist() == expected.ranking
    assert fitted.get_support(indices=True).tolist() == expected.indices
    np.testing.assert_array_equal(fitted.transform(X), expected.data)
    np.testing.assert_array_equal(fitted.scores_, expected.scores)
    np.testing.assert_allclose(fitted.explained_variance_, expected.explained)
    assert fitted.ranking_[fitted.order_].tolist() == [1, 2, 3, 4, 5, 6]
    assert fitted.ranking_[2] == 7 and np.isnan(fitted.scores_[2]) and not fitted.get_support()[2]
    back = fitted.inverse_transform(fitted.transform(X))
    np.testing.assert_array_equal(back[:, fitted.get_support()], X[:, fitted.get_support()])


def test_a_share_of_the_variance(X):
    few, many = (FeatureSelector(variance=v, model="css").fit(X) for v in (0.5, 0.999999))
    assert 1 <= few.get_support().sum() < many.get_support().sum() == 6


def test_in_a_pipeline(X):
    pipeline = make_pipeline(StandardScaler(), FeatureSelector(2, model="css")).fit(X)
    names = pipeline.get_feature_names_out([f"f{i}" for i in range(7)])
    assert names.tolist() == [f"f{i}" for i in pipeline[-1].get_support(indices=True)]


def test_what_is_refused(X):
    with pytest.raises(ValueError, match="n_features=8 is more than the 7 features of X"):
        FeatureSelector(8, model="css").fit(X)
    with pytest.raises(ValueError, match="every feature of X is constant"):
        FeatureSelector(1, model="css").fit(np.ones((5, 3)))
    few = X.copy()
    few[:, 2] = 1  # as happens in a fold
    with pytest.raises(ValueError, match=r"^n_features 7 is more than the 6 usable features; ask for fewer"):
        FeatureSelector(7, model="css").fit(few)
    with pytest.raises(ValueError, match=r"^n_features must be a whole number of at least 1"):
        FeatureSelector(2.5, model="css").fit(X)
    with pytest.raises(ValueError, match="unknown model 'cs'"):
        FeatureSelector(1, model="cs").fit(X)
    with pytest.raises(NotFittedError):
        FeatureSelector(1).get_support()


def test_memory_and_numbers_that_stand_for_none_are_refused():
    X = np.random.default_rng(0).normal(size=(20, 700))
    with pytest.raises(DeviceError, match="the covariance of 700 features need"):
        FeatureSelector(3, memory="1MB").fit(X)
    X[3, 4] = -3.4e38
    with pytest.raises(ValueError, match="X has values of 1e30 or more"):
        FeatureSelector(3).fit(X)


def test_numbers_that_stand_for_no_data_are_refused(X):
    X = X.copy()
    X[2, 1] = -9999
    with pytest.raises(
        ValueError, match="X: feature 2 holds -9999 in 1 sample, far from all others, which stands for no"
    ):
        FeatureSelector(2, model="css").fit(X)


def test_masked_values_are_refused():
    X = np.random.default_rng(0).normal(size=(20, 6))
    hidden = np.ma.array(X, mask=np.zeros_like(X, bool))
    assert FeatureSelector(2).fit(hidden).get_support().sum() == 2
    hidden[3, 4] = np.ma.masked
    with pytest.raises(ValueError, match="X has masked values"):
        FeatureSelector(2).fit(hidden)


def test_a_generator_as_random_state_draws_the_seed():
    X = np.random.default_rng(0).random((30, 12))
    drawn = [FeatureSelector(3, model="random", random_state=np.random.RandomState(n)).fit(X).order_ for n in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
