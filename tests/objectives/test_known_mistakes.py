"""What public code of these methods got wrong, and closed forms that would show it."""

import math
from functools import partial

import pytest
import torch
from specs import copying
from torch.nn.functional import normalize

from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.objectives.clustering import DINO, SwAV, sinkhorn
from ssl_mi.objectives.contrastive import SupCon
from ssl_mi.objectives.covariance import MMCR
from ssl_mi.objectives.distillation import BYOL, SimSiam
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples, OtherSamplesAndViews, OtherTargets, PastTargets
from ssl_mi.objectives.neighbours import ReSSL
from ssl_mi.objectives.predictor import Predictor
from ssl_mi.objectives.redundancy import BarlowTwins, VICReg
from ssl_mi.objectives.sigmoid import SigLIP
from ssl_mi.objectives.sigreg import LeJEPA
from ssl_mi.objectives.whitening import WMSE


def rows(n=8, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moco(size=32):
    return Infomax(6, Cosine(0.1), InfoNCE(), partial(PastTargets, size=size), name="moco").double()


def test_no_query_of_symmetric_moco_finds_its_own_key_among_the_negatives():
    x, y = rows(seed=1), rows(seed=2)
    objective, seen = moco(), []
    objective.critic.register_forward_pre_hook(lambda critic, pair: seen.append(pair[1].clone()))
    objective([x, y], [x.clone(), y.clone()])
    against = [keys for keys in seen if len(keys) == 32]
    assert len(against) == 2  # both directions
    for keys in against:
        assert not any((keys == row).all(1).any() for row in (*x, *y))
    # After the step, and only then, both views' keys are there.
    for row in (*x, *y):
        assert (objective.negatives.queue.rows == row).all(1).any()


def test_the_partner_of_a_moco_query_is_the_key_of_the_other_view():
    x, y = torch.eye(6).double(), torch.eye(6).double().roll(1, 0)
    objective = moco()
    same = objective([x, y], [y, x]).total  # query i of view 0 has key i of view 1 equal to it
    assert same < 0.5
    assert objective([x, y], [x, y]).total > same + 5


def test_byol_is_the_sum_of_two_minus_two_cosines_over_both_directions():
    x = rows(16)
    objective = BYOL(6, lambda dim: torch.nn.Identity())
    assert objective([x, x], [x.clone(), x.clone()]).total.item() == pytest.approx(0, abs=1e-12)
    assert objective([x, x], [-x, -x]).total.item() == pytest.approx(8, abs=1e-12)
    # Towards the sphere 2 - 2 cos is the squared distance, for each direction.
    y = rows(16, seed=1)
    both = 2 * (normalize(x, dim=1) - normalize(y, dim=1)).square().sum(1).mean()
    assert objective([x, x], [y, y]).total.item() == pytest.approx(both.item(), abs=1e-12)


def test_simsiam_is_the_mean_of_minus_cosines():
    x = rows(16)
    objective = SimSiam(6, lambda dim: torch.nn.Identity())
    assert objective([x, x], [x, x]).total.item() == pytest.approx(-1, abs=1e-12)


def test_without_the_stop_gradient_simsiam_would_follow_another_slope():
    x, y = rows(seed=1).requires_grad_(), rows(seed=2).requires_grad_()
    objective = SimSiam(6, lambda dim: torch.nn.Identity())
    both = [x, y]
    objective(both, both).total.backward()
    stopped = x.grad.clone()
    free = torch.autograd.grad(-torch.cosine_similarity(x, y).mean(), x)[0]
    # With q = 1 the two halves have one value; the stop takes half of the slope.
    torch.testing.assert_close(stopped, free / 2)


def test_the_variance_term_of_vicreg_is_the_mean_of_the_two_views():
    # Constant views: each hinge is 1 - sqrt(1e-4) = 0.99 in every coordinate.
    x = torch.ones(8, 6).double()
    terms = VICReg(6)([x, x], [x, x]).terms
    assert terms["variance"].item() == pytest.approx(25 * 0.99, abs=1e-9)
    assert terms["invariance"] == terms["covariance"] == 0


def test_vicreg_is_at_rest_for_equal_views_of_unit_variance_without_correlation():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()  # variance 4/3, no covariance
    assert VICReg(2)([x, x.clone()], [x, x]).total.item() == pytest.approx(0, abs=1e-12)


def test_barlow_twins_by_hand():
    # Orthogonal columns of unit variance: C = 1; swapped columns: C = [[0, 1], [1, 0]].
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    objective = BarlowTwins(2, redundancy=0.5, scale=1.0)
    assert objective([x, x.clone()], [x, x]).total.item() == pytest.approx(0, abs=1e-9)
    both = [x, x.flip(1)]
    assert objective(both, both).total.item() == pytest.approx(2 + 0.5 * 2, abs=1e-4)


def test_supcon_with_a_class_for_each_image_is_nt_xent():
    both = [rows(seed=1), rows(seed=2)]
    nt_xent = Infomax(6, Cosine(0.2).double(), InfoNCE(), OtherSamplesAndViews())
    expected = nt_xent(both, both).total.item()
    assert SupCon(6, 0.2)(both, both, torch.arange(8)).total.item() == pytest.approx(expected, abs=1e-6)


def test_supcon_averages_over_partners_outside_the_logarithm():
    # Four equal embeddings of one class: each partner has a third of the mass, and L_out = log 3.
    one = [torch.ones(2, 3).double()] * 2
    assert SupCon(3, 0.5)(one, one, torch.zeros(2)).total.item() == pytest.approx(math.log(3), abs=1e-12)


def test_supcon_without_labels_says_so():
    both = [rows(), rows()]
    with pytest.raises(ValueError, match="images have no labels"):
        SupCon(6)(both, both, None)


def test_sinkhorn_uses_every_prototype_alike_and_makes_rows_of_one():
    scores = normalize(rows(40, 5), dim=1) @ normalize(rows(7, 5, seed=1), dim=1).T
    codes = sinkhorn(scores, 0.5, 200)
    torch.testing.assert_close(codes.sum(1), torch.ones(40).double())
    torch.testing.assert_close(codes.sum(0), torch.full((7,), 40 / 7).double())
    few = sinkhorn(scores.float() * 1e3, 0.05, 3)  # e^20000: sums of exponentials would be infinite
    assert torch.isfinite(few).all()


def test_codes_of_a_batch_in_halves_are_not_those_of_the_batch():
    # What codes made per process would be: balanced within each share.
    scores = normalize(rows(40, 5), dim=1) @ normalize(rows(7, 5, seed=1), dim=1).T
    whole = sinkhorn(scores, 0.05, 3)
    halves = torch.cat([sinkhorn(part, 0.05, 3) for part in scores.chunk(2)])
    assert (whole - halves).abs().max() > 0.05


def test_the_queue_of_swav_is_in_the_state_from_the_first_step_and_joins_when_full_and_due():
    torch.manual_seed(0)
    objective = SwAV(6, prototypes=5, queue=16, queue_from=3).double()
    assert {"queues.0.rows", "queues.0.pushed", "queues.1.rows", "steps"} <= set(objective.state_dict())
    without = SwAV(6, prototypes=5).double()
    without.prototypes.data.copy_(objective.prototypes.data)
    joins = []
    for step in range(4):
        both = [rows(seed=2 * step), rows(seed=2 * step + 1)]
        joins.append(objective(both, both).total.item() != without(both, both).total.item())
    # Full after two steps of 8 rows, and too early until three are done.
    assert joins == [False, False, False, True]


def test_prototypes_held_still_get_a_gradient_of_zero_and_then_learn():
    torch.manual_seed(0)
    objective = SwAV(6, prototypes=5, frozen_steps=1).double()
    both = [rows(seed=1), rows(seed=2)]
    slopes = []
    for _ in range(2):
        objective.zero_grad()
        objective(both, both).total.backward()
        slopes.append(objective.prototypes.grad.abs().sum().item())
    assert slopes[0] == 0
    assert slopes[1] > 0


def test_the_centre_of_dino_moves_after_the_loss_over_all_views_of_the_teacher():
    objective = DINO(6, momentum=0.75).double()
    online, target = [rows(seed=s) for s in (1, 2, 3)], [rows(seed=s) for s in (4, 5)]
    objective(online, target)
    expected = 0.25 * torch.cat(target).mean(0)
    torch.testing.assert_close(objective.centre, expected)
    objective(online, target)
    torch.testing.assert_close(objective.centre, 1.75 * expected)


def test_whitened_parts_are_those_of_the_step_and_not_of_the_random_state():
    both = [rows(32, seed=1), rows(32, seed=2)]
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        objective = WMSE(6, size=16)
        losses.append([objective(both, both).total.item() for _ in range(2)])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]  # cut anew each step
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    WMSE(6, size=16)(both, both)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_directions_of_lejepa_are_drawn_anew_each_step_and_alike_in_every_process():
    both = [rows(32, seed=1), rows(32, seed=2)]
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        objective = LeJEPA(6, slices=4)
        losses.append([objective(both, both).terms["sigreg"].item() for _ in range(2)])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


def test_mmcr_reaches_its_best_for_equal_views_of_orthogonal_images():
    both = [torch.eye(6).double()] * 2
    assert MMCR(6)(both, both).total.item() == pytest.approx(-6, abs=1e-9)  # sqrt(n min(n, d)), n = d = 6


def test_siglip_is_read_by_nwj_with_the_share_of_true_pairs_taken_out():
    n = 8
    x, y = rows(n, seed=1).float(), rows(n, seed=2).float()
    objective = SigLIP(6, temperature=0.5, bias=-2.0)
    logits = torch.cosine_similarity(x[:, None], y[None], dim=2) / 0.5 - 2
    # r = p(x, y) / (p(x) p(y)) = (n - 1) e^logit;  E[log r] + 1 - E[r] is NWJ at 1 + log r.
    true, false = logits.diagonal() + math.log(n - 1), [logits[i, j] for i in range(n) for j in range(n) if i != j]
    expected = true.mean() + 1 - (n - 1) * torch.stack(false).exp().mean()
    reading = objective.estimate(x, y, rows=n)
    assert reading.value == pytest.approx(expected.item(), abs=1e-5)
    assert math.isinf(reading.ceiling)
    # Logits that say "one pair in n is true" for all alike read no information.
    blind = SigLIP(6, temperature=1e6, bias=-math.log(n - 1))
    assert blind.estimate(x, y, rows=n).value == pytest.approx(0, abs=1e-5)


def test_moco_v3_scores_one_direction_and_is_read_with_its_predictor():
    x, y = rows(32, seed=1).float(), rows(32, seed=2).float()
    objective = Infomax(6, Cosine(0.2), InfoNCE(), OtherTargets(), predictor=copying).eval()
    plain = Infomax(6, Cosine(0.2), InfoNCE(), OtherTargets())
    assert objective.estimate(x, x, rows=32).value != plain.estimate(x, x, rows=32).value
    expected = plain.estimate(objective.predictor(x).detach(), x, rows=32).value
    assert objective.estimate(x, x, rows=32).value == pytest.approx(expected, abs=1e-6)
    assert objective.estimate(x, y, rows=32).value < objective.estimate(x, x, rows=32).value


@pytest.mark.parametrize(
    "make",
    [
        moco,
        lambda: Infomax(6, Cosine(0.2), InfoNCE(), OtherTargets(), name="moco_v3"),
        lambda: Infomax(6, Cosine(0.2), InfoNCE(), OtherSamples(), predictor=copying),
        lambda: BYOL(6, copying),
        lambda: ReSSL(6, 32),
        lambda: DINO(6),
    ],
)
def test_a_method_that_needs_a_teacher_says_which_part_is_missing(make):
    both = [rows().float(), rows().float()]
    with pytest.raises(ValueError, match="teacher=ema"):
        make().float()(both, both)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Predictor(6, 0), "hidden must be positive, got 0"),
        (lambda: ReSSL(6, 32, online_temperature=0.04, target_temperature=0.1), "below the online one"),
        (lambda: DINO(6, target_temperature=0.2), "0 < target_temperature < online_temperature"),
        (lambda: WMSE(6, size=1), "size >= 2"),
        (lambda: SwAV(6, prototypes=1), "prototypes=1"),
        (lambda: SupCon(6, 0.0), "temperature must be positive"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
