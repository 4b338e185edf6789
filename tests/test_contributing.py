"""What CONTRIBUTING.md shows is so: its Python runs and meets the contracts, its YAML parses, its paths exist."""

import re
from pathlib import Path

import numpy as np
import pytest
import standins
import torch
from omegaconf import OmegaConf

from ssl_mi.information import ksg

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def shown():
    """Every name that the Python blocks define."""
    names = {"__name__": "contributing"}
    for block in blocks("python"):
        exec(block, names)
    return names


def test_paths_that_are_named_exist():
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", TEXT) if not path.startswith("runs/")}
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_yaml_parses_and_names_a_class_or_an_entry():
    found = [OmegaConf.create(block) for block in blocks("yaml")]
    assert len(found) >= 4
    assert all("_target_" in page or "_target_" in page["norm"] for page in found)


def test_the_objective_is_the_mean_distance_of_views(shown):
    x, y = torch.zeros(5, 3), torch.ones(5, 3)
    assert shown["Alignment"](3)([x, y], [x, y]).total.item() == pytest.approx(3.0)


def test_the_bound_has_its_largest_value_at_twice_the_density_ratio_less_two(shown):
    # chi^2 = E_q[(r - 1)^2] = 1/4 for r = 3/2 and 1/2 on two outcomes that are equally likely under q.
    def value(critic):
        joint, marginal = torch.tensor([critic[0]] * 3 + [critic[1]]), torch.tensor([[critic[0], critic[1]]] * 4)
        return shown["ChiSquare"]()(joint, marginal).item()

    assert value((1.0, -1.0)) == pytest.approx(0.25)
    assert value((1.0, -1.0)) > max(value((1.1, -1.0)), value((0.9, -1.0)), value((1.0, -1.2)))


def test_the_critic_scores_every_pair(shown):
    scores = shown["NegativeDistance"](2.0)(torch.zeros(4, 3), torch.ones(5, 3))
    torch.testing.assert_close(scores, torch.full((4, 5), -1.5))


def test_the_encoder_gives_rows_of_its_width_and_refuses_grey(shown):
    encoder = shown["MeanColour"]()
    assert encoder(torch.zeros(2, 3, 8, 8)).shape == (2, encoder.out_dim)
    with pytest.raises(ValueError, match="MeanColour takes images"):
        encoder(torch.zeros(2, 1, 8, 8))


def test_the_estimator_and_the_projection_work_together(shown):
    x = np.random.default_rng(0).standard_normal((2000, 3))
    y = 0.8 * x + 0.6 * np.random.default_rng(1).standard_normal((2000, 3))
    px, py = shown["FirstColumns"](1).fit(x, y)(x, y)
    estimate = shown["linear_mi"](px, py)
    assert estimate.value == pytest.approx(-0.5 * np.log(0.36), abs=0.05)
    assert estimate.value == pytest.approx(ksg(px, py).value, abs=0.1)


def test_the_data_set_trains_and_the_evaluation_measures_it(shown):
    noise = shown["Noise"](64, 32).load()
    assert len(noise.train) == 64
    assert noise.test.class_names == ("dark", "light")
    data = standins.GaussianViews(n=50, clean={"test": torch.ones(50, 4)})
    rows = standins.rows_of(shown["Norm"](), standins.bench(data))
    assert rows["norm_h"].n == 50
    assert rows["norm_h"].value == pytest.approx(2.0)
