"""SimMIM, I-JEPA and data2vec: equations an image at a time, what is hidden, resuming. (MAE: test_masked.py.)"""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from ssl_mi.data.batch import Batch
from ssl_mi.masked import MaskedAutoencoder
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
from ssl_mi.networks.vit import ViT
from ssl_mi.objectives import IJEPA, Data2Vec, SimMIM

N, SIZE, PATCH = 4, 16, 4  # 4 x 4 patches
OBJECTIVES = {
    "simmim": partial(SimMIM, masked=0.5),
    "ijepa": partial(IJEPA, blocks=2, width=8, depth=1, heads=2, min_context=3),
    "data2vec": partial(Data2Vec, last=2, masked=0.5, beta=0.7),
}
TAUGHT = ("ijepa", "data2vec")


def made(name, depth=3):
    torch.manual_seed(0)
    encoder = ViT(SIZE, PATCH, width=12, depth=depth if name == "data2vec" else 1, heads=3, pool="mean")
    teacher = EMA() if name in TAUGHT else None
    module = MaskedAutoencoder(Siamese(encoder), OBJECTIVES[name], optimizer=None, teacher=teacher).double()
    if teacher is not None:  # another network than the trained one, as after some steps
        for parameter in module.teacher.parameters():
            parameter.data.add_(0.05 * torch.randn(parameter.shape, dtype=torch.float64))
    return module


def batch():
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(N, 3, SIZE, SIZE, generator=generator, dtype=torch.float64) for _ in range(2)]
    return Batch(views, torch.arange(N), None)


def exact(module):
    """In float64 throughout: the module hands float32 to an objective."""

    def doubled(part):
        return part.double() if isinstance(part, torch.Tensor) and part.is_floating_point() else part

    module.objective.register_forward_pre_hook(lambda _m, parts: tuple(map(doubled, parts)))
    return module


def slow_simmim(module, views):
    o, encoder = module.objective, module.towers.tower.encoder
    draw, losses = torch.Generator().manual_seed(int(o.steps)), []
    for x in views:
        ranks = torch.rand(N, 16, generator=draw).argsort(1).tolist()
        for image, order in zip(x, ranks, strict=True):
            hidden = torch.zeros(1, 16, dtype=torch.bool)
            hidden[0, order[:8]] = True
            tokens = encoder.masked(image[None], hidden, o.mask_token).float().double()[0, 1:]
            for p in order[:8]:
                row, column = divmod(p, 4)
                pixels = image.float().double()[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten()
                losses += list((o.leave(tokens[p]) - pixels).abs())
    return sum(losses) / len(losses)


def slow_ijepa(module, views):
    o, means = module.objective, []
    for x, order in zip(views, o.orders(N, len(views)), strict=True):
        losses = []  # blocks of another view have another size
        for i in range(N):
            image, context = x[i : i + 1], order.context[i : i + 1]
            tokens = module.towers.tower.encoder.visible(image, context).float().double()[0, 1:]
            everything = module.teacher.towers.tower.encoder.visible(image, torch.arange(16)[None]).float().double()
            for target in order.targets[i]:
                asked = torch.stack([o.mask_token[0, 0] + o.pos_embedding[0, p] for p in target])
                given = o.enter(tokens) + o.pos_embedding[0, context[0]]
                found = o.leave(o.layers(torch.cat([given, asked])[None])[0, -len(target) :])
                for p, y in zip(target, found, strict=True):
                    h = everything[0, 1 + p].detach()
                    h = (h - h.mean()) / (h.var(correction=0) + 1e-5).sqrt()
                    losses += [torch.where(a.abs() < 1, a**2 / 2, a.abs() - 0.5) for a in y - h]
        means.append(sum(losses) / len(losses))
    return sum(means) / len(means)


def standardised(h):
    return (h - h.mean()) / (h.var(correction=0) + 1e-5).sqrt()


def slow_data2vec(module, views):
    o, student, teacher = module.objective, module.towers.tower.encoder, module.teacher.towers.tower.encoder
    losses = []
    for x, hidden in zip(views, o.orders(N, len(views)), strict=True):
        for i in range(N):
            image, gone = x[i : i + 1], hidden[i : i + 1]
            tokens = student.masked(image, gone, o.mask_token).float().double()[0, 1:]
            net, after = teacher.net, []
            patches = net.conv_proj(image).flatten(2).transpose(1, 2)
            state = torch.cat([net.class_token, patches], 1) + net.encoder.pos_embedding
            for block in net.encoder.layers:
                state = block(state)
                after.append(state[0, 1:].float().double().detach())
            for p in gone[0].nonzero().flatten().tolist():
                target = standardised((standardised(after[1][p]) + standardised(after[2][p])) / 2)
                for e in (o.leave(tokens[p]) - target).abs():
                    losses.append(e**2 / 1.4 if e <= 0.7 else e - 0.35)
    return sum(losses) / len(losses)


SLOW = {"simmim": slow_simmim, "ijepa": slow_ijepa, "data2vec": slow_data2vec}


@pytest.mark.parametrize(("name", "slow"), SLOW.items())
def test_value_and_gradients_are_those_of_the_papers_equation(name, slow):
    fast, twin = exact(made(name)), made(name)
    found, expected = fast.loss(batch()).total, slow(twin, batch().views)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    expected.backward()
    trained = [(key, p) for key, p in fast.named_parameters() if p.requires_grad]
    for (key, a), b in zip(trained, (p for p in twin.parameters() if p.requires_grad), strict=True):
        assert a.grad is not None, key  # every weight learns
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7, msg=key)


def test_a_context_holds_no_target_and_targets_are_blocks_of_one_size():
    objective = IJEPA(12, 32, 4, width=8, depth=1, heads=2)
    for _ in range(20):
        for context, targets in ((drawn.context, drawn.targets) for drawn in objective.orders(16, 2)):
            sides = {(t[-1] // 8 - t[0] // 8 + 1, t[-1] % 8 - t[0] % 8 + 1) for rows in targets for t in rows.tolist()}
            (height, width), *others = sides
            assert not others
            assert height * width == targets.shape[2]
            assert 0.1 * 64 < height * width < 0.25 * 64
            for shown, hidden in zip(context.tolist(), targets.flatten(1).tolist(), strict=True):
                assert len(set(shown)) == len(shown) >= 4
                # Only where the targets leave too little does one of them come back.
                assert not set(shown) & set(hidden) or len(set(range(64)) - set(hidden)) < 64 - 4
        objective.count_step()
    first, again = (
        IJEPA(12, 32, 4, width=8, heads=2).orders(3, 1)[0],
        IJEPA(12, 32, 4, width=8, heads=2).orders(3, 1)[0],
    )
    assert torch.equal(first.context, again.context)


def test_as_many_patches_are_hidden_in_every_image_and_in_blocks():
    objective = Data2Vec(12, 64, 4, masked=0.5)  # 16 x 16 patches
    (hidden,) = objective.orders(200, 1)
    assert set(hidden.sum(1).tolist()) == {128}
    grid = hidden.view(-1, 16, 16)
    alike = (grid[:, 1:] == grid[:, :-1]).float().mean()
    assert alike > 0.8  # of neighbours; .5 where patches are hidden one by one
    share = hidden.float().mean(0)
    assert (share > 0).all()  # every place, the corners too
    torch.manual_seed(3)
    assert torch.equal(Data2Vec(12, 64, 4, masked=0.5).orders(200, 1)[0], hidden)
    objective.count_step()
    assert not torch.equal(objective.orders(200, 1)[0], hidden)


def test_what_is_hidden_is_not_seen():
    for name in OBJECTIVES:
        module = made(name)
        encoder, x = module.towers.tower.encoder, batch().views[0]
        order = module.objective.orders(N, 1)[0]
        hidden = order if name != "ijepa" else torch.ones(N, 16, dtype=torch.bool).scatter(1, order.context, False)
        pixels = hidden.view(N, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        seen = module.objective.encode(encoder, x, order)
        assert torch.equal(module.objective.encode(encoder, torch.where(pixels, x + 1, x), order), seen), name
        assert not torch.equal(module.objective.encode(encoder, torch.where(pixels, x, x + 1), order), seen), name


RUN = ["module=masked_autoencoder", "towers.projector=null", "encoder=vit_tiny", "encoder.patch_size=8"]
RUN += ["encoder.width=12", "encoder.depth=1", "encoder.pool=mean"]
MORE = {
    "simmim": [],
    "data2vec": ["teacher=ema", "objective.last=1"],
    "ijepa": ["teacher=ema", "objective.width=16", "objective.depth=1", "objective.heads=2", "objective.min_context=2"],
}


@pytest.mark.parametrize("name", ["simmim", "ijepa", pytest.param("data2vec", marks=pytest.mark.slow)])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(run, tmp_path, name):
    words = [f"objective={name}", *RUN, *MORE[name], "trainer.max_epochs=2"]
    whole = copy.deepcopy(run(*words, f"run_dir={tmp_path / 'whole'}").module.state_dict())

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(*words, before=lambda r: r.trainer.callbacks.append(Stop()))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = run(*words, f"run_dir={tmp_path / 'resumed'}", f"ckpt_path={last}")
    for key, value in resumed.module.state_dict().items():
        assert torch.equal(value, whole[key]), key


def test_parts_that_do_not_go_together_are_refused_with_what_to_set():
    encoder = ViT(SIZE, PATCH, width=12, depth=1, heads=3)
    with pytest.raises(ValueError, match="'ijepa' learns from a teacher and there is none: set teacher=ema"):
        MaskedAutoencoder(Siamese(encoder), OBJECTIVES["ijepa"], None)
    with pytest.raises(ValueError, match="'simmim' has no use for a teacher"):
        MaskedAutoencoder(Siamese(encoder), OBJECTIVES["simmim"], None, teacher=EMA())
    with pytest.raises(ValueError, match="hides 16 of 16"):
        SimMIM(12, SIZE, PATCH, masked=1.0)
    with pytest.raises(ValueError, match=r"target_scale=\[0.5, 0.2\]"):
        IJEPA(12, SIZE, PATCH, target_scale=(0.5, 0.2))
    with pytest.raises(ValueError, match="'data2vec' learns from a teacher and there is none: set teacher=ema"):
        MaskedAutoencoder(Siamese(encoder), OBJECTIVES["data2vec"], None)
    with pytest.raises(ValueError, match=r"the last 2 blocks of 1: set objective.last or encoder.depth"):
        made("data2vec", depth=1).check_views(batch().views)
    with pytest.raises(ValueError, match=r"least_block=0.7, masked=0.6"):
        Data2Vec(12, SIZE, PATCH, least_block=0.7)
    for objective in (SimMIM(12), IJEPA(12), Data2Vec(12)):
        assert "no estimate" in objective.facts(8)["mutual information"]
