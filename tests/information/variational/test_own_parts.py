"""A bound and a critic of a user's own, defined here and nowhere else: one class each trains and estimates."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssl_mi.information.apps.catalogue import find_entry, find_estimator
from ssl_mi.information.distributions import families as d
from ssl_mi.information.variational.bounds import Bound, log_mean_exp, pairs
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.neural import neural_mi
from ssl_mi.information.variational.splits import Split
from ssl_mi.information.variational.training import Training
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples, OtherSamplesAndViews

RAW, ONE_STEP = Split(margins="raw"), Training(max_steps=1)


class AtTwo(Bound):
    """E[T] - 1 - E[e^(T - 2)]: tight at log r + 2, with a heavy tail."""

    name = "at_two"
    offset = 2.0
    heavy_tailed = True
    estimates = "lower bound, tight two above the log ratio"
    use_when = "in this test"

    def forward(self, joint, marginal):
        return joint.mean() - 1 - (log_mean_exp(marginal) - 2).exp()


class Capped(Bound):
    """A small share of the difference of mean scores, with a ceiling and no tail; chosen by its negative."""

    kind = "point estimate"

    def forward(self, joint, marginal):
        return torch.tanh(joint.mean() - marginal.mean())

    def criterion(self, joint, marginal):
        return -self(joint, marginal)

    def ceiling(self, k, score_range=math.inf):
        return 1.0


class Product(Critic):
    """scale <x, y>, a new one for each pair of dimensions."""

    name = "product"
    separable = True
    batch_size = 32
    eval_batch_size = 50

    def __init__(self, dim_x, dim_y):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.1))
        self.begun = None

    def begin(self, fit, validation, offset=0.0):
        self.begun = (len(fit[0]), len(validation[0]), offset)

    def forward(self, x, y):
        return self.scale * x @ y.T


@pytest.fixture
def my_parts(monkeypatch):
    """The module of a user, as `import my_parts` finds it."""
    monkeypatch.setitem(sys.modules, "my_parts", SimpleNamespace(AtTwo=AtTwo, Capped=Capped, Product=Product, none=3))


def gaussian(mi, n, dim=2):
    return d.gaussian_with_mi(mi, dim).sample(n, np.random.default_rng(0))


@pytest.mark.parametrize("bound", [AtTwo, AtTwo(), "my_parts:AtTwo"], ids=["class", "object", "path"])
def test_a_critic_that_begins_from_data_begins_at_the_offset_of_the_bound(my_parts, bound):
    # Without the offset T = log r would give I - 1 - e^-2, which is 1.14 nats too little.
    x, y = gaussian(1.0, 2400)
    estimate = neural_mi(x, y, bound, split=RAW, training=ONE_STEP)
    assert estimate.value == pytest.approx(1.0, abs=4 * estimate.se)
    assert estimate.se < 0.15
    assert estimate.kind == "lower bound"
    assert estimate.ceiling is None


def test_a_heavy_tail_is_reported_for_the_bounds_that_have_one():
    x, y = gaussian(10.0, 2000, dim=20)
    heavy, light = (neural_mi(x, y, bound, split=RAW, training=ONE_STEP) for bound in (AtTwo, Capped))
    assert "heavy-tail" in [warning.code for warning in heavy.warnings]
    assert [warning.code for warning in light.warnings if "heavy" in warning.code] == []
    assert light.ceiling == 1.0
    assert "bound-near-ceiling" in [warning.code for warning in light.warnings]


def test_a_fit_is_chosen_by_the_criterion_of_its_bound():
    # Training raises the value of `Capped`, its criterion prefers the start: nothing may be kept of the training.
    x, y = gaussian(1.0, 400)
    estimate = neural_mi(x, y, Capped, Product, training=Training(max_steps=20, check_every=5, learning_rate=0.1))
    assert estimate.settings["best_step"] == 0


def test_a_critic_brings_its_own_batches_and_is_shown_the_rows():
    built = []

    def make(dim_x, dim_y):
        built.append(Product(dim_x, dim_y))
        return built[-1]

    x, y = gaussian(1.0, 400)
    estimate = neural_mi(x, y, AtTwo, make, training=ONE_STEP)
    assert built[0].begun == (240, 60, 2.0)
    assert estimate.settings["batch_size"] == 32
    assert estimate.settings["critic"] == "Product"
    by_class = neural_mi(x, y, "infonce", Product, training=ONE_STEP)
    assert by_class.ceiling == pytest.approx(math.log(50))  # rows scored together


def test_a_plain_module_is_a_critic_too():
    class Plain(torch.nn.Module):
        def forward(self, x, y):
            return x @ y.T

    x, y = gaussian(1.0, 200)
    estimate = neural_mi(x, y, "infonce", lambda _dx, _dy: Plain(), training=ONE_STEP)
    assert (estimate.settings["critic"], estimate.settings["batch_size"]) == ("Plain", 120)


def test_they_are_estimators_of_the_command_line_by_import_path(my_parts):
    x, y = gaussian(1.0, 400)
    entry = find_entry("my_parts:AtTwo")
    assert (entry.number, entry.when, entry.fits) == (AtTwo.estimates, AtTwo.use_when, True)
    expected = neural_mi(x, y, AtTwo, Product, split=Split(cross_fit=True), training=Training(max_steps=4), seed=1)
    settings = "critic=my_parts:Product,cross_fit=True,max_steps=4,seed=1"
    for spec in (f"my_parts:AtTwo:{settings}", f"neural_mi:bound=my_parts:AtTwo,{settings}"):
        assert find_estimator(spec)(x, y).value == expected.value
    with pytest.raises(ValueError, match="my_parts:AtTwo takes no 'max_step'"):
        find_estimator("my_parts:AtTwo:max_step=4")
    with pytest.raises(ValueError, match=r"bound must be .* a Bound, got 3"):
        find_estimator("neural_mi:bound=my_parts:none")(x, y)
    with pytest.raises(ValueError, match="no critic my_parts:Missing"):
        find_estimator("infonce:critic=my_parts:Missing")(x, y)


@pytest.mark.parametrize("negatives", [OtherSamples, OtherSamplesAndViews])
def test_an_objective_trains_with_them(negatives):
    torch.manual_seed(0)
    objective, tower = Infomax(2, Product, AtTwo(), negatives(), name="own"), torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam([*objective.parameters(), *tower.parameters()], lr=0.05)
    x, y = (torch.from_numpy(side).float() for side in gaussian(2.0, 128))
    values = []
    for _ in range(60):
        z = [tower(x), tower(y)]
        loss = objective(z, z)
        assert loss.terms["own"].item() == pytest.approx(-loss.metrics["bound_nats"].item())
        values.append(loss.metrics["bound_nats"].item())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert values[-1] > values[0] + 0.3
    with torch.no_grad():
        read = objective.estimate(tower(x), tower(y), rows=128)
    assert read.value == pytest.approx(values[-1], abs=0.1)
    assert read.kind == "lower bound"
    assert "no" in objective.facts(128)["bound's ceiling"]


def test_an_objective_follows_the_logits_of_a_bound_that_has_a_form_for_them():
    asked = []

    class FromLogits(AtTwo):
        def from_logits(self, scores, partner, k):
            asked.append((scores.shape, k))
            return super().from_logits(scores, partner, k)

    z = [torch.randn(5, 2), torch.randn(5, 2)]
    with_form, without = (Infomax(2, Product, bound(), OtherSamples()) for bound in (FromLogits, AtTwo))
    assert with_form(z, z).total.item() == without(z, z).total.item()
    assert asked == [((10, 5), 4)]
    scores = without.critic(*z)
    expected = AtTwo()(*(torch.cat(part) for part in zip(pairs(scores), pairs(scores.T), strict=True)))
    assert without(z, z).total.item() == pytest.approx(-expected.item(), rel=1e-5)
