"""The same scores as scikit-learn's, and a selector that behaves as scikit-learn's estimators do."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn import feature_selection as theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

from ssl_mi.information import MutualInformationSelector, mutual_info_classif, mutual_info_regression

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 5))
X[:, 3] = np.round(X[:, 3])
X[:, 4] = RNG.poisson(2.0, 300)
NUMBERS = X[:, 0] + X[:, 3] + 0.5 * RNG.standard_normal(300)
LABELS = (X[:, 1] > 0) * 1 + (X[:, 4] > 2)
LABELS[0] = 77  # a label that occurs once


@pytest.mark.parametrize("discrete", ["auto", [3, 4], np.arange(5) == 4, True])
def test_the_scores_are_those_of_scikit_learn(discrete):
    how = {"discrete_features": discrete, "random_state": 3, "n_neighbors": 4}
    of_numbers = X if discrete is not True else X.round()
    for ours, of_theirs, y in (
        (mutual_info_regression, theirs.mutual_info_regression, NUMBERS),
        (mutual_info_classif, theirs.mutual_info_classif, LABELS),
    ):
        found, expected = ours(of_numbers, y, **how), of_theirs(of_numbers, y, **how)
        labels = np.isin(np.arange(5), np.arange(5)[discrete]) if not isinstance(discrete, str) else np.zeros(5, bool)
        mixed = labels ^ (ours is mutual_info_classif)
        np.testing.assert_allclose(found[~mixed], expected[~mixed], atol=1e-12)
        # There its distances are roots of squares, which may be off by one rounding: some counts are off by one.
        np.testing.assert_allclose(found[mixed], expected[mixed], atol=2e-3)
        np.testing.assert_array_equal(ours(of_numbers, y, n_jobs=2, **how), ours(of_numbers, y, **how))


def test_sparse_features_are_labels():
    counts = csr_matrix(RNG.poisson(0.5, (200, 3)))
    y = counts.toarray()[:, 1] > 0
    np.testing.assert_allclose(mutual_info_classif(counts, y), theirs.mutual_info_classif(counts, y), atol=1e-12)
    with pytest.raises(ValueError, match="X is sparse and has continuous features"):
        mutual_info_classif(counts, y, discrete_features=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be a whole number of neighbours, at least 1, got 0"),
        ({"n_neighbors": 300}, "X has n_samples=300: 300 neighbours need at least 301 rows"),
        ({"discrete_features": "some"}, "discrete_features must be 'auto'"),
        ({"discrete_features": [9]}, "discrete_features does not index 5 features"),
        ({"discrete_features": [True, False]}, "mask of shape"),
        ({"n_jobs": 0}, "n_jobs must be"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        mutual_info_regression(X, NUMBERS, **settings)


@pytest.mark.filterwarnings("ignore:n_features=")
@parametrize_with_checks([MutualInformationSelector()])
def test_the_selector_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_selector_keeps_what_shares_most():
    kept = MutualInformationSelector(2).fit(X, NUMBERS)
    assert kept.get_support(indices=True).tolist() == [0, 3]
    assert kept.transform(X).shape == (300, 2)
    assert MutualInformationSelector(0.2).fit(X, LABELS).get_support().sum() == 1
    by_number = MutualInformationSelector(target="continuous").fit
    with pytest.warns(UserWarning, match="n_features=10 is more than the 5"):
        assert by_number(X, LABELS).get_support().all()
    for wrong, message in (({"n_features": 0}, "n_features must be"), ({"target": "label"}, "target must be")):
        with pytest.raises(ValueError, match=message):
            MutualInformationSelector(**wrong).fit(X, NUMBERS)
