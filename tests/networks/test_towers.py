"""Towers: which tower sees which view, in which pass."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from ssl_mi.networks.encoders import ConvNet, MLPEncoder
from ssl_mi.networks.heads import MLP, LocalHeads
from ssl_mi.networks.towers import Independent, Siamese, Tower

CONF = Path(__file__).parents[2] / "conf"


def convnet():
    return ConvNet([4, 6])


def projector(in_dim):
    return MLP(in_dim, [8, 5])


def views(*sizes, n=6):
    torch.manual_seed(1)
    return [torch.randn(n, 3, size, size) for size in sizes]


def batch_norms(module):
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_a_tower_is_the_encoder_then_the_projector_made_to_its_width():
    tower = Tower(convnet(), projector).eval()
    (x,) = views(8)
    h, z = tower(x)
    assert (tower.h_dim, tower.out_dim) == (6, 5)
    torch.testing.assert_close(h, tower.encoder(x))
    torch.testing.assert_close(z, tower.projector(h))


def test_without_a_projector_z_is_h():
    h, z = Tower(convnet())(views(8)[0])
    assert torch.equal(h, z)


def test_a_part_that_does_not_say_its_width_is_refused():
    with pytest.raises(ValueError, match=r"Conv2d must have an int attribute `out_dim`"):
        Tower(nn.Conv2d(3, 4, 3), projector)
    with pytest.raises(ValueError, match=r"Linear must have an int attribute `out_dim`"):
        Tower(convnet(), partial(nn.Linear, out_features=4))


def test_together_is_one_pass_over_all_views_and_apart_one_pass_each():
    for joint, expected in [(True, 1), (False, 2)]:
        siamese = Siamese(convnet(), projector, joint_forward=joint)
        siamese(views(8, 8))
        assert {int(bn.num_batches_tracked) for bn in batch_norms(siamese)} == {expected}


def test_together_normalises_by_the_statistics_of_all_views():
    torch.manual_seed(0)
    siamese = Siamese(convnet(), projector)
    a, b = views(8, 8)
    h, z, _ = siamese([a, b])
    twin_h, twin_z = siamese.tower(torch.cat([a, b]))
    torch.testing.assert_close(torch.cat(h), twin_h)
    torch.testing.assert_close(torch.cat(z), twin_z)


def test_apart_normalises_each_view_by_its_own():
    torch.manual_seed(0)
    siamese = Siamese(convnet(), projector, joint_forward=False)
    a, b = views(8, 8)
    _, z, _ = siamese([a, b])
    torch.testing.assert_close(z[1], siamese.tower(b)[1])
    assert not torch.allclose(z[1], siamese.tower(torch.cat([a, b]))[1][6:])


def test_in_evaluation_together_and_apart_are_the_same_function():
    torch.manual_seed(0)
    one = Siamese(convnet(), projector).eval()
    other = Siamese(convnet(), projector, joint_forward=False).eval()
    other.load_state_dict(one.state_dict())
    batch = views(8, 8, 4)
    for mine, theirs in zip(one(batch).z, other(batch).z, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_views_of_other_sizes_go_in_passes_of_their_own_and_come_back_in_order():
    torch.manual_seed(0)
    siamese = Siamese(convnet(), projector)
    batch = views(8, 4, 8, 4, 4)
    h, z, _ = siamese(batch)
    assert {int(bn.num_batches_tracked) for bn in batch_norms(siamese)} == {2}
    assert len(h) == len(z) == 5
    siamese.eval()
    h, z, _ = siamese(batch)
    for v, x in enumerate(batch):
        torch.testing.assert_close(z[v], siamese.tower(x)[1])
        torch.testing.assert_close(h[v], siamese.tower(x)[0])


def test_views_of_different_numbers_of_images_are_kept_apart_in_order():
    siamese = Siamese(convnet(), projector).eval()
    a, b = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 8, 8)
    _, z, _ = siamese([a, b])
    torch.testing.assert_close(z[0], siamese.tower(a)[1])
    torch.testing.assert_close(z[1], siamese.tower(b)[1])


def local(scales=(0, 1)):
    return partial(LocalHeads, scales=scales, hidden=[7])


def test_a_tower_with_local_heads_embeds_every_location_of_its_maps_by_itself():
    tower = Tower(convnet(), projector, local()).eval()
    (x,) = views(8)
    h, z, coarse, fine = tower(x)
    torch.testing.assert_close((h, z), Tower.forward(_without_local(tower), x))
    assert (coarse.shape, fine.shape) == ((6, 4 * 4, 5), (6, 8 * 8, 5))
    _, maps = tower.encoder.with_maps(x)
    for embedded, head, grid in zip((coarse, fine), tower.local.heads, maps, strict=True):
        columns = grid.shape[3]
        torch.testing.assert_close(embedded[2, 1 * columns + 3], head(grid[2, :, 1, 3][None])[0])


def _without_local(tower):
    other = Tower(tower.encoder, lambda d: tower.projector)
    return other.eval()


def test_maps_come_back_in_the_order_of_the_views_and_only_from_towers_with_local_heads():
    batch = views(8, 4, 8)
    siamese = Siamese(convnet(), projector, local=local()).eval()
    seen = siamese(batch)
    for v, x in enumerate(batch):
        expected = siamese.tower(x)[2:]
        torch.testing.assert_close(tuple(seen.maps[v]), expected)
    independent = Independent([Tower(convnet(), projector, local()) for _ in range(2)]).eval()
    assert [len(scales) for scales in independent(views(8, 8)).maps] == [2, 2]
    assert Siamese(convnet(), projector)(batch).maps == ()
    assert siamese.returns_feature_maps
    assert independent.returns_feature_maps
    assert not Siamese(convnet(), projector).returns_feature_maps


def test_local_heads_need_an_encoder_with_maps_and_the_scales_it_has():
    with pytest.raises(ValueError, match=r"MLPEncoder gives no feature maps.*encoder=convnet"):
        Tower(MLPEncoder([3, 8, 8], [7]), projector, local())
    with pytest.raises(ValueError, match=r"scales=\[2\], and the encoder has maps 0 to 1"):
        Tower(convnet(), projector, local([2]))
    with pytest.raises(ValueError, match=r"scales=\[\]"):
        Tower(convnet(), projector, local([]))


def test_one_tensor_is_not_taken_for_a_list_of_views():
    with pytest.raises(ValueError, match="put it in a list"):
        Siamese(convnet())(torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="empty"):
        Siamese(convnet())([])


def test_independent_tower_v_sees_view_v():
    torch.manual_seed(0)
    both = Independent([Tower(convnet(), projector), Tower(MLPEncoder([3, 8, 8], [7]), projector)]).eval()
    batch = views(8, 8)
    h, z, _ = both(batch)
    for v in range(2):
        expected = both.tower_of(v)(batch[v])
        torch.testing.assert_close((h[v], z[v]), expected)
    assert both.out_dim == 5
    with pytest.raises(ValueError, match=r"h_dim differ: \[6, 7\]"):
        _ = both.h_dim


def test_an_image_is_represented_by_one_shared_encoder_or_by_all_of_them_side_by_side():
    torch.manual_seed(0)
    a, b = views(8, 8)
    siamese = Siamese(convnet(), projector).eval()
    torch.testing.assert_close(siamese.encode([a, b]), siamese([a]).h[0])
    both = Independent([Tower(convnet()), Tower(MLPEncoder([3, 8, 8], [7]))]).eval()
    torch.testing.assert_close(both.encode([a, b]), torch.cat(both([a, b]).h, dim=1))
    torch.testing.assert_close(both.encode([a]), both([a, b]).h[0])  # the other tower sees no images


@pytest.mark.parametrize("n_views", [1, 3])
def test_independent_towers_need_as_many_views(n_views):
    both = Independent([Tower(convnet()), Tower(convnet())])
    with pytest.raises(ValueError, match=f"has 2 towers, one per view, but got {n_views} views"):
        both(views(*[8] * n_views))


def test_towers_that_share_weights_are_not_independent():
    shared = convnet()
    with pytest.raises(ValueError, match="share parameters"):
        Independent([Tower(shared, projector), Tower(shared, projector)])
    with pytest.raises(ValueError, match="one tower per view, but got none"):
        Independent([])


def configured(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=["+encoder=convnet", *overrides])
    return instantiate(config.towers)


def test_towers_of_the_configuration_are_siamese_with_simclrs_projector():
    towers = configured("+towers=siamese", "encoder.widths=[4,6]")
    assert isinstance(towers, Siamese)
    assert (towers.h_dim, towers.out_dim) == (6, 128)


def test_configured_independent_towers_have_weights_of_their_own_that_start_apart():
    torch.manual_seed(0)
    towers = configured("+towers=independent", "encoder.widths=[4,6]")
    first, second = (dict(towers.tower_of(v).named_parameters()) for v in range(2))
    assert first.keys() == second.keys()
    assert not {id(p) for p in first.values()} & {id(p) for p in second.values()}
    matrices = [name for name, p in first.items() if p.ndim > 1]
    assert len(matrices) == 4  # two convolutions, two linear layers
    assert not any(torch.equal(first[name], second[name]) for name in matrices)
