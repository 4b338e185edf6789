"""What VICRegL and All4One promise beyond the specification."""

import pytest
import torch

from ssl_mi.objectives import VICReg
from ssl_mi.objectives.all4one import All4One
from ssl_mi.objectives.matched import LocalVICReg

WHOLE = torch.tensor([0.0, 0.0, 32.0, 32.0])
MIRRORED = torch.tensor([0.0, 32.0, 32.0, -32.0])


def columns_of(grid):
    """[n, rows, columns, d] -> a map [n, L, d]."""
    return grid.flatten(1, 2)


def test_a_mirrored_view_is_matched_with_the_same_places_of_the_image():
    grid = torch.randn(8, 3, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = [[columns_of(grid)], [columns_of(grid.flip(2))]]
    z = [torch.randn(8, 4), torch.randn(8, 4)]
    objective = LocalVICReg(matches=9, variance=0.0, covariance=0.0)
    right = objective(z, maps=maps, boxes=torch.stack([WHOLE, MIRRORED]).expand(8, 2, 4))
    wrong = objective(z, maps=maps, boxes=torch.stack([WHOLE, WHOLE]).expand(8, 2, 4))
    assert right.total.item() == pytest.approx(0.0, abs=1e-12)
    assert wrong.total > 1.0  # by embedding all pairs are still found; by place two columns of three are not


def test_a_small_view_keeps_the_share_of_its_locations_that_the_paper_keeps():
    made = LocalVICReg(matches=20)
    large, small = torch.randn(4, 49, 3), torch.randn(4, 9, 3)
    places = [torch.rand(4, 49, 2), torch.rand(4, 9, 2)]
    kept = made._matched((small, places[1]), (large, places[0]), 49)
    assert [pair[0].shape[1] for pair in kept] == [4, 4]


def test_of_one_location_the_local_loss_is_twice_that_of_vicreg():
    x, y = (torch.randn(16, 1, 5, dtype=torch.float64) for _ in range(2))
    boxes = torch.stack([WHOLE, WHOLE]).expand(16, 2, 4)
    local = LocalVICReg(matches=1)([x[:, 0], y[:, 0]], maps=[[x], [y]], boxes=boxes)
    whole = VICReg()([x[:, 0], y[:, 0]])
    for name, term in whole.terms.items():
        assert local.terms[name].item() == pytest.approx(2 * term.item(), rel=1e-12)


def test_more_matches_than_locations_and_maps_that_are_no_squares_are_refused():
    z, boxes = [torch.randn(6, 4), torch.randn(6, 4)], WHOLE.expand(6, 2, 4)
    with pytest.raises(ValueError, match=r"=20 of maps of 16 locations: set objective\.parts\.local\.matches to 16"):
        LocalVICReg()(z, maps=[[torch.randn(6, 16, 4)]] * 2, boxes=boxes)
    with pytest.raises(ValueError, match="a map of 12 locations is not square"):
        LocalVICReg(matches=4)(z, maps=[[torch.randn(6, 12, 4)]] * 2, boxes=boxes)
    with pytest.raises(ValueError, match="matches must be positive"):
        LocalVICReg(matches=0)


def test_the_summary_of_neighbours_depends_on_their_rank():
    torch.manual_seed(0)
    made = All4One(dim=8, queue=16, neighbours=3, heads=2)
    tokens = torch.randn(1, 3, 8)
    swapped = tokens[:, [0, 2, 1]]
    first, other = (made.attention(t + made.ranks)[:, 0] for t in (tokens, swapped))
    assert (first - other).abs().max() > 1e-3


def test_settings_that_all4one_cannot_have_are_refused_by_name():
    with pytest.raises(ValueError, match="heads=8 does not divide embeddings of width 12"):
        All4One(dim=12)
    with pytest.raises(ValueError, match="neighbours=5 must be from 2 to the rows of the support set, 4"):
        All4One(queue=4)
    z = [torch.randn(6, 8), torch.randn(6, 8)]
    with pytest.raises(ValueError, match=r"two views of the teacher, got 1: set teacher\.views=null"):
        All4One(dim=8, queue=16)(z, z[:1])
