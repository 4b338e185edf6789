import csv
import math

import numpy as np
import pytest
import torch

from ssl_mi.information import bounds, neural
from ssl_mi.information.distributions import gaussian_with_mi
from ssl_mi.information.staircase import ESTIMATORS, main, optimal_scores, staircase, theory_sd


def test_optimal_scores_of_true_pairs_are_the_pointwise_log_ratio():
    gaussian = gaussian_with_mi(4.0, 20)
    x, y = gaussian.sample(30, np.random.default_rng(0))
    rho = math.sqrt(-math.expm1(-0.4))
    scores = optimal_scores(rho, torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(scores.diagonal().numpy(), gaussian.pointwise(x, y), atol=1e-10)
    np.testing.assert_allclose(scores[3, 5].numpy(), gaussian.pointwise(x[3:4], y[5:6])[0], atol=1e-10)


def test_theory_gives_the_spread_of_nwj_while_the_information_is_small():
    mi, n = 0.5, 64
    gaussian, rng = gaussian_with_mi(mi, 20), np.random.default_rng(0)
    rho = math.sqrt(-math.expm1(-mi / 10))
    values = []
    for _ in range(800):
        x, y = (torch.from_numpy(side) for side in gaussian.sample(n, rng))
        values.append(float(bounds.NWJ()(*bounds.pairs(optimal_scores(rho, x, y) + 1))))
    assert np.mean(values) == pytest.approx(mi, abs=0.02)
    assert np.std(values) == pytest.approx(theory_sd(mi, n), rel=0.1)


def test_the_staircase_climbs_to_the_ceiling_and_upper_bounds_stay_above():
    rows = staircase(["infonce", "js", "club", "leave_one_out"], [2.0, 10.0], steps=2, batches=40)
    optimal = {(r.estimator, r.true): r for r in rows if r.critic == "optimal"}
    assert optimal["infonce", 10.0].mean < math.log(64)
    assert optimal["infonce", 2.0].mean == pytest.approx(2, abs=0.3)
    assert optimal["js", 2.0].mean == pytest.approx(2, abs=0.3)  # not 2 - 1/e
    assert 2 < optimal["leave_one_out", 2.0].mean < optimal["club", 2.0].mean
    # A saturated InfoNCE has next to no spread, and DV-like bounds at 10 nats a hidden one of hundreds.
    assert optimal["infonce", 10.0].sd < 0.1
    assert optimal["js", 10.0].theory_sd > 100
    assert all(r.bias == pytest.approx(r.mean - r.true) for r in rows)


def test_every_variational_estimator_is_on_the_staircase():
    assert set(neural.BOUNDS) | {"club", "leave_one_out", "difference_of_entropies"} == set(ESTIMATORS)


def test_the_command_writes_the_numbers_and_the_picture(tmp_path, capsys):
    out, picture = tmp_path / "stairs.csv", tmp_path / "stairs.png"
    arguments = ["--estimators", "smile,difference_of_entropies", "--steps", "1", "--batches", "3"]
    assert main([*arguments, "--out", str(out), "--picture", str(picture)]) == 0
    assert "log n = 4.16" in capsys.readouterr().out
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 5
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_estimator_is_refused_by_name():
    with pytest.raises(ValueError, match="no estimator is called nce"):
        staircase(["nce"])
