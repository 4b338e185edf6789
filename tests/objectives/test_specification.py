"""What holds for every objective, whatever its paper: one specification over the rows of specs.py."""

import copy
import io
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from specs import DIM, MAPS, OBJECTIVES, REGULARISERS, SIBLINGS, beside

from ssl_mi.app.train import compose
from ssl_mi.objectives.objective import HeldOutBound

CONF = Path(__file__).parents[2] / "conf" / "objective"
every = pytest.mark.parametrize("name", OBJECTIVES)


def batch(name, n=12, seed=0, noise=None, dtype=torch.float64):
    """(online, target, keywords) for an objective; noise: how far views of an image lie apart, None: unrelated."""
    row, generator = OBJECTIVES[name], torch.Generator().manual_seed(seed)
    image = torch.randn(n, DIM, dtype=torch.float64, generator=generator)

    def view(*locations):
        other = torch.randn(n, *locations, DIM, dtype=torch.float64, generator=generator)
        there = image if not locations else image[:, None]
        return (other if noise is None else there + noise * other).to(dtype)

    online = [view() for _ in range(row.views)]
    target = [view() for _ in range(row.targets or row.views)] if row.teacher else online
    return online, target, {**beside(row.make().requires, n), **row.maps(view)}


def on_maps(function, others):
    """What an objective takes beside embeddings, with another value for each of its maps."""
    return {k: [[function(m) for m in scales] for scales in v] if k in MAPS else v for k, v in others.items()}


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    return OBJECTIVES[name].make().to(dtype)


def after_a_step(name):
    """An objective whose queues are full and whose centres and averages are those of a step."""
    objective = made(name)
    total(objective, batch(name, n=40, seed=5))
    return objective


def ready(name, parts, dtype=None):
    """After a step; and where an objective compares images with their past, the past is of these very embeddings."""
    if OBJECTIVES[name].past:
        objective = made(name, dtype or torch.float64)
        total(objective, parts)
        return objective
    return after_a_step(name) if dtype is None else made(name, dtype)


def needing_gradient(tensor):
    return tensor.clone().requires_grad_()


def needing_gradients(views):
    return [needing_gradient(z) for z in views]


def total(objective, parts):
    online, target, others = parts
    return objective(online, target, **others).total


def test_every_configuration_has_a_row_and_builds_what_the_row_builds():
    rows = {row.yaml or name: type(row.make()) for name, row in OBJECTIVES.items()}
    assert set(rows) | SIBLINGS | REGULARISERS == {path.stem for path in CONF.glob("*.yaml")}
    for stem, kind in rows.items():
        config = OmegaConf.load(CONF / f"{stem}.yaml")
        if "defaults" in config:
            config = compose([f"objective={stem}"], run_dir="runs/never").objective
        assert type(instantiate(config)(dim=8)) is kind


@every
def test_value_and_gradients_are_those_of_the_papers_equation(name):
    objective = after_a_step(name)
    twin = copy.deepcopy(objective)
    online, target, others = batch(name, n=8)
    found, expected = [], []
    for o, results in ((objective, found), (twin, expected)):
        mine = needing_gradients(online)
        held = mine if target is online else target
        local = on_maps(needing_gradient, others)
        loss = OBJECTIVES[name].twin(o, mine, held, local) if o is twin else total(o, (mine, held, local))
        loss.backward()
        results += [loss.detach(), *(t.grad for t in (*mine, *OBJECTIVES[name].learning(local), *o.parameters()))]
    for a, b in zip(found, expected, strict=True):
        a, b = (torch.zeros(()) if g is None else g for g in (a, b))
        torch.testing.assert_close(a, b.expand_as(a).to(a.dtype), rtol=1e-8, atol=1e-10)


@every
def test_extreme_embeddings_have_finite_losses_and_gradients(name):
    for scale in (0.0, 1e-20, OBJECTIVES[name].largest):
        online, target, others = batch(name, dtype=torch.float32)
        mine = needing_gradients([z * scale for z in online])
        held = mine if target is online else [z * scale for z in target]
        local = on_maps(lambda m, s=scale: needing_gradient(m * s), others)
        objective = ready(name, (mine, held, local), torch.float32)
        loss = total(objective, (mine, held, local))
        loss.backward()
        assert torch.isfinite(loss), scale
        for tensor in [*mine, *OBJECTIVES[name].learning(local), *objective.parameters()]:
            assert tensor.grad is None or torch.isfinite(tensor.grad).all(), scale


@every
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_embeddings_from_half_precision_lose_only_float32_rounding(name, half):
    # As the module hands them over: numbers that a half-precision network made, in float32.
    online, target, others = batch(name, dtype=half)
    losses = {}
    for dtype in (torch.float32, torch.float64):
        mine = [z.to(dtype) for z in online]
        held = mine if target is online else [z.to(dtype) for z in target]
        parts = (mine, held, on_maps(lambda m, d=dtype: m.to(d), others))
        losses[dtype] = total(ready(name, parts, dtype), parts).item()
    assert losses[torch.float32] == pytest.approx(losses[torch.float64], rel=2e-5, abs=1e-5)


@every
def test_a_gradient_reaches_every_embedding_and_parameter_that_learns_and_no_target(name):
    row, objective = OBJECTIVES[name], after_a_step(name)
    online, target, others = batch(name)
    mine = needing_gradients(online)
    held = mine if target is online else needing_gradients(target)
    local = on_maps(needing_gradient, others)
    total(objective, (mine, held, local)).backward()
    assert all(m.grad.abs().sum() > 0 for m in row.learning(local))
    assert all(z.grad.abs().sum() > 0 for z in mine[1 if row.targets == 1 else 0 :])
    if row.teacher:
        assert all(z.grad is None for z in held)
    assert {k for k, p in objective.named_parameters() if p.grad is None or p.grad.abs().sum() < 1e-12} == set()


@every
def test_the_order_of_the_batch_does_not_matter(name):
    first, other = after_a_step(name), after_a_step(name)
    online, target, others = batch(name)
    order = torch.randperm(len(online[0]), generator=torch.Generator().manual_seed(1))
    shuffled = [z[order] for z in online]
    held = shuffled if target is online else [z[order] for z in target]
    moved = on_maps(lambda m: m[order], others)
    moved = {k: v if k in MAPS else v[order] for k, v in moved.items()}
    there = total(other, (shuffled, held, moved))
    assert there.item() == pytest.approx(total(first, (online, target, others)).item(), rel=1e-9, abs=1e-10)


@every
def test_views_that_agree_have_a_lower_loss(name):
    apart, near = (total(ready(name, b), b) for b in (batch(name, n=32, noise=noise) for noise in (None, 0.1)))
    assert near < apart - 0.02 * apart.abs()


@pytest.mark.parametrize("name", [name for name, row in OBJECTIVES.items() if row.collapse])
def test_collapse_does_to_the_loss_what_the_method_claims(name):
    online, target, others = batch(name, n=32, noise=0.01)
    aligned = total(ready(name, (online, target, others)), (online, target, others))
    constant = [online[0][:1].expand(32, -1)] * len(online)
    flat = on_maps(lambda m: m[:1, :1].expand_as(m), others)
    parts = (constant, constant if target is online else constant[: len(target)], flat)
    objective = ready(name, parts)
    if OBJECTIVES[name].collapse == "lowers":
        objective.predictor[-1].bias.data.copy_(constant[0][0])  # a predictor of the constant, soon learned
    collapsed = total(objective, parts)
    assert collapsed > aligned if OBJECTIVES[name].collapse == "raises" else collapsed < aligned


@every
def test_state_survives_a_checkpoint(name):
    whole = after_a_step(name)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    torch.manual_seed(9)
    resumed = OBJECTIVES[name].make().double()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in (1, 2):
        assert total(resumed, batch(name, seed=seed)).item() == total(whole, batch(name, seed=seed)).item()
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@every
def test_state_moves_in_training_only(name):
    objective = after_a_step(name).eval()
    before = copy.deepcopy(objective.state_dict())
    total(objective, batch(name))
    assert all(torch.equal(before[key], value) for key, value in objective.state_dict().items())


@every
def test_the_loss_is_read_as_mutual_information_only_where_it_bounds_it(name):
    row, objective = OBJECTIVES[name], made(name, torch.float32)
    x = torch.randn(64, DIM, generator=torch.Generator().manual_seed(0))
    reading = objective.eval().estimate(x, x + 0.1 * x.flip(0), rows=16)
    facts = objective.facts(16)
    assert all(isinstance(value, str) for value in facts.values())
    if row.reads:
        assert isinstance(reading, HeldOutBound)
        assert reading.value <= reading.ceiling
        assert "bound's ceiling" in facts
    else:
        assert reading is None
        assert "no estimate" in facts["mutual information"] or "not bounded" in facts["mutual information"]
        online, target, others = batch(name, dtype=torch.float32)
        loss = objective.train()(online, target, **others)
        assert "bound_nats" not in loss.metrics


@every
def test_terms_and_metrics_are_scalars_and_metrics_hold_no_graph(name):
    online, target, others = batch(name)
    mine = needing_gradients(online)
    loss = made(name)(mine, mine if target is online else target, **others)
    assert all(v.shape == () for v in [*loss.terms.values(), *loss.metrics.values()])
    assert not any(v.requires_grad for v in loss.metrics.values())
    assert loss.total.requires_grad


def changed(parts, change):
    """The parts of a batch with `change(views)` of the online views, and of the targets where they are others."""
    online, target, others = parts
    mine = change(list(online))
    return mine, mine if target is online else change(list(target)), others


BAD = {
    "1 image, ": lambda views: [z[:1] for z in views],
    "is the same image|of the same images": lambda views: [z[: len(z) - 2 * (z is views[0])] for z in views],
    "hold NaN or infinity": lambda views: [views[0].index_fill(0, torch.tensor([3]), float("nan")), *views[1:]],
    "3 of 12 images hold NaN": lambda views: [views[0].index_fill(0, torch.arange(3), float("inf")), *views[1:]],
    "embeddings are floats": lambda views: [(10 * z).long() for z in views],
    r"embeddings are floats \[n, d\]": lambda views: [z[0] for z in views],
    "all have one width|of the same width": lambda views: [z[:, : DIM - 2 * (z is views[0])] for z in views],
    "list of views": lambda views: views[0],
}


@every
def test_embeddings_that_no_loss_is_defined_for_are_refused_by_name_and_change_no_state(name):
    objective = made(name)
    before = copy.deepcopy(objective.state_dict())
    for message, change in BAD.items():
        online, target, others = changed(batch(name), change)
        others = {k: v if k in MAPS else v[: len(online[0])] for k, v in others.items()}
        with pytest.raises(ValueError, match=message) as error:
            objective(online, target, **others)
        assert objective.name in str(error.value)
    if objective.dim is not None:
        online, target, others = changed(batch(name), lambda views: [torch.cat([z, z], 1) for z in views])
        with pytest.raises(ValueError, match=f"width {DIM}"):
            objective(online, target, **others)
    assert all(torch.equal(before[key], value) for key, value in objective.state_dict().items())


@every
def test_embeddings_that_are_not_finite_have_a_loss_that_is_not(name):
    # What `JointEmbedding` relies on, which looks at the loss only.
    for value in (float("nan"), float("inf")):
        online, target, others = batch(name)
        objective = ready(name, (online, target, others))
        objective.checks_finite = False
        online[-1][3] = value
        try:
            loss = total(objective, (online, target, others))
        except torch.linalg.LinAlgError:  # which the module turns into the same message
            continue
        assert not torch.isfinite(loss), value


@every
def test_one_view_is_too_few(name):
    online, target, others = batch(name)
    objective, one = made(name), online[:1]
    with pytest.raises(ValueError, match=f"{objective.min_views} views"):
        objective(one, one if target is online else target[:1], **others)
