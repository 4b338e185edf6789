"""How far an estimate can be trusted: intervals, permutation tests, cross-fitting, and the laws it should obey."""

from ssl_mi.information.inference.axioms import all_checks
from ssl_mi.information.inference.cross_fitting import CrossFitted, Folds, cross_fit, difference
from ssl_mi.information.inference.multiple_testing import benjamini_hochberg, holm
from ssl_mi.information.inference.permutation import derangement, p_value, permutation_test, with_permutation_test
from ssl_mi.information.inference.subsampling import subsample_se, with_interval
from ssl_mi.information.inference.uncertainty import with_uncertainty

__all__ = [
    "CrossFitted",
    "Folds",
    "all_checks",
    "benjamini_hochberg",
    "cross_fit",
    "derangement",
    "difference",
    "holm",
    "p_value",
    "permutation_test",
    "subsample_se",
    "with_interval",
    "with_permutation_test",
    "with_uncertainty",
]
