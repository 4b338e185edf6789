"""The masked autoencoder: its equation, what it hides, that it resumes. (W processes: test_distributed.py.)"""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from ssl_mi.data.batch import Batch
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.masked import MaskedAutoencoder
from ssl_mi.networks.encoders import ConvNet
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.towers import Siamese
from ssl_mi.networks.vit import ViT
from ssl_mi.objectives.masked import MaskedPixels
from ssl_mi.objectives.redundancy import BarlowTwins

N, SIZE, PATCH = 4, 8, 4  # four patches of 16 pixels


def made(**settings):
    torch.manual_seed(0)
    encoder = ViT(SIZE, PATCH, width=12, depth=1, heads=3, pool="mean")
    settings = {"masked": 0.5, "width": 8, "depth": 1, "heads": 2, **settings}

    return MaskedAutoencoder(Siamese(encoder), partial(MaskedPixels, **settings), optimizer=None).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(N, 3, SIZE, SIZE, generator=generator, dtype=torch.float64) for _ in range(2)]
    return Batch(views, torch.arange(N), None)


def exact(module):
    """In float64 throughout: the module hands float32 to an objective."""
    module.objective.register_forward_pre_hook(
        lambda _m, parts: tuple(p.double() if p.is_floating_point() else p for p in parts)
    )
    return module


def slow(module, views):
    """A patch and a pixel at a time, through the decoder one image at a time."""
    o, encoder = module.objective, module.towers.tower.encoder
    draw = torch.Generator().manual_seed(int(o.steps))
    squares = []
    for x in views:
        orders = torch.rand(N, 4, generator=draw).argsort(1).tolist()
        for image, order in zip(x, orders, strict=True):
            hidden, shown = order[:2], order[2:]
            tokens = encoder.visible(image[None], torch.tensor([shown])).float().double()[0]
            places = [o.enter(tokens[0])] + [
                o.enter(tokens[1 + shown.index(p)]) if p in shown else o.mask_token[0, 0] for p in range(4)
            ]
            said = o.leave(o.blocks((torch.stack(places) + o.pos_embedding[0])[None])[0])
            for p in hidden:
                row, column = divmod(p, 2)
                patch = image.float().double()[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten()
                mean = sum(patch) / 48
                variance = sum((v - mean) ** 2 for v in patch) / 47
                squares += [(said[1 + p][i] - (patch[i] - mean) / (variance + 1e-6) ** 0.5) ** 2 for i in range(48)]
    return sum(squares) / len(squares)


def test_value_and_gradients_are_the_mean_square_over_the_masked_patches():
    fast, twin = exact(made()), made()
    found, expected = fast.loss(batch()).total, slow(twin, batch().views)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    expected.backward()
    for (name, a), b in zip(fast.named_parameters(), twin.parameters(), strict=True):
        assert a.grad is not None, name  # every weight learns
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_what_is_hidden_is_not_seen_and_what_is_seen_costs_nothing():
    module = exact(made())
    module.objective.normalised = False
    o, encoder = module.objective, module.towers.tower.encoder
    (x,), (order,) = batch().views[:1], o.orders(N, 1)
    before = o(encoder.visible(x, o.seen(order)), x, order)
    hidden, seen = (torch.zeros(N, 4, dtype=torch.bool) for _ in range(2))
    hidden.scatter_(1, order[:, :2], True)
    seen.scatter_(1, order[:, 2:], True)

    def at(mask):  # [n, 4] patches -> pixels
        return mask.view(N, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)

    tokens = encoder.visible(x, o.seen(order))
    assert torch.equal(encoder.visible(torch.where(at(hidden), x + 1, x), o.seen(order)), tokens)
    assert torch.equal(o(tokens, torch.where(at(seen), x + 1, x), order), before)
    assert (o(tokens, torch.where(at(hidden), x + 1, x), order) != before).all()


def test_tokens_of_every_patch_in_any_order_are_those_of_the_whole_image():
    encoder = made().towers.tower.encoder
    x = batch().views[0]
    order = torch.rand(N, 4, generator=torch.Generator().manual_seed(0)).argsort(1)
    tokens = encoder.visible(x, order)[:, 1:]
    torch.testing.assert_close(tokens.mean(1), encoder(x))
    whole = encoder.with_maps(x)[1][0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, whole.gather(1, order[:, :, None].expand(-1, -1, 12)))


def test_each_image_and_step_hides_other_patches_whatever_the_random_state():
    module, again = exact(made()), made()
    first = module.objective.orders(64, 2)
    assert len({tuple(order[:2].sort().values.tolist()) for order in first[0]}) == 6  # all pairs of four
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(5)
    assert torch.equal(again.objective.orders(64, 2)[0], first[0])
    module.loss(batch())
    assert not torch.equal(module.objective.orders(64, 2)[0], first[0])


RUN = ["objective=mae", "module=masked_autoencoder", "towers.projector=null", "encoder=vit_tiny"]
RUN += ["encoder.patch_size=8", "objective.width=16", "objective.depth=1", "objective.heads=2"]
RUN += ["encoder.width=12", "encoder.depth=1"]


def test_a_run_that_stopped_goes_on_as_if_it_had_not(run, tmp_path):
    whole = copy.deepcopy(run(*RUN, "trainer.max_epochs=2", f"run_dir={tmp_path / 'whole'}").module.state_dict())

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(*RUN, "trainer.max_epochs=2", before=lambda r: r.trainer.callbacks.append(Stop()))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = run(*RUN, "trainer.max_epochs=2", f"run_dir={tmp_path / 'resumed'}", f"ckpt_path={last}")
    for name, value in resumed.module.state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_parts_that_do_not_go_together_are_refused_with_what_to_set():
    objective = partial(MaskedPixels, width=8, depth=1, heads=2)
    vit = ViT(SIZE, PATCH, width=12, depth=1, heads=3)
    with pytest.raises(ValueError, match="ConvNet cannot be shown a part of an image"):
        MaskedAutoencoder(Siamese(ConvNet([4])), objective, None)
    with pytest.raises(ValueError, match=r"set towers.projector=null"):
        MaskedAutoencoder(Siamese(vit, lambda d: MLP(d, [4])), objective, None)
    with pytest.raises(ValueError, match=r"'barlow_twins' learns from embeddings .* set module=joint_embedding"):
        MaskedAutoencoder(Siamese(vit), partial(BarlowTwins), optimizer=None)
    module = MaskedAutoencoder(Siamese(vit), objective, None)
    assert not isinstance(module, JointEmbedding)
    with pytest.raises(ValueError, match="view 1 is 4x4 pixels but 'mae' takes 8x8"):
        module.check_views([torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, 3, 4, 4)])
    with pytest.raises(ValueError, match="hides 4 of 4 patches"):
        MaskedPixels(12, SIZE, PATCH, masked=1.0)
    with pytest.raises(ValueError, match="multiple of patch_size=3"):
        MaskedPixels(12, SIZE, 3)


def test_the_loss_is_read_as_no_information():
    objective = made().objective
    assert objective.estimate(torch.zeros(4, 12), torch.zeros(4, 12), rows=4) is None
    assert objective.facts(8)["masked"] == "2 of 4 patches"
    assert "no estimate" in objective.facts(8)["mutual information"]
