"""How far an estimate can be trusted: intervals, permutation tests, cross-fitting, and the laws it should obey."""

from ssl_mi.information.inference.axioms import all_checks
from ssl_mi.information.inference.cross_fitting import difference, read_folds
from ssl_mi.information.inference.uncertainty import assess, with_interval, with_null

__all__ = ["all_checks", "assess", "difference", "read_folds", "with_interval", "with_null"]
