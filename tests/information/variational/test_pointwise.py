"""What each pair contributes, by critics that never saw it."""

import numpy as np
import pytest

from ssl_mi.information import Split, Training, pointwise_neural_mi

SHORT = Training(max_steps=20, check_every=10)


def test_each_pair_has_about_the_log_ratio_of_its_densities():
    rho, rng = 0.8, np.random.default_rng(0)
    x = rng.standard_normal((800, 3))
    y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((800, 3))
    exact = (-0.5 * np.log(1 - rho**2) - (rho**2 * (x**2 + y**2) - 2 * rho * x * y) / (2 * (1 - rho**2))).sum(1)
    found = pointwise_neural_mi(x, y, training=SHORT)
    assert np.isfinite(found).all()
    assert np.corrcoef(found, exact)[0, 1] > 0.9
    assert found.mean() == pytest.approx(exact.mean(), abs=0.2)
    assert np.abs(pointwise_neural_mi(x, y, training=SHORT, seed=1) - found).mean() < 0.5  # row i stays row i


def test_rows_that_no_fold_tests_have_no_value():
    x = np.random.default_rng(0).standard_normal(100)
    with pytest.raises(ValueError, match=r"pass Split\(cross_fit=True\)"):
        pointwise_neural_mi(x, x, split=Split())
