"""MSN: the equation an image and a prototype at a time, what anchors are shown, that a run resumes."""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from ssl_mi import JointEmbedding
from ssl_mi.data.batch import Batch
from ssl_mi.masked_siamese import MaskedSiamese
from ssl_mi.networks.encoders import ConvNet
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
from ssl_mi.networks.vit import ViT
from ssl_mi.objectives import MSN

N, SIZE, PATCH, K, D = 5, 16, 4, 6, 4


def made(**settings):
    torch.manual_seed(0)
    towers = Siamese(ViT(SIZE, PATCH, width=12, depth=1, heads=3), MLP(dims=[8, D], batch_norm=False))
    objective = partial(MSN, prototypes=K, dropped=0.5, **settings)
    module = MaskedSiamese(towers, objective, optimizer=None, teacher=EMA()).double()
    for parameter in module.teacher.parameters():  # another network than the trained one, as after some steps
        parameter.data.add_(0.05 * torch.randn(parameter.shape, dtype=torch.float64))
    module.objective.register_forward_pre_hook(lambda _m, parts: ([z.double() for z in parts[0]], parts[1].double()))
    return module


def batch():
    generator = torch.Generator().manual_seed(1)
    sides = (SIZE, SIZE, 8)  # the target, an anchor that loses patches, one that is small
    return Batch([torch.randn(N, 3, s, s, generator=generator, dtype=torch.float64) for s in sides], None, None)


def shares(z, prototypes, t):
    scores = [(z @ q / z.norm() / q.norm() / t).exp() for q in prototypes]
    return torch.stack([s / sum(scores) for s in scores])


def transcription(module, views):
    o, student, teacher = module.objective, module.towers.tower, module.teacher.towers.tower
    (large, small), anchors, targets = o.kept(N, [16, 4], 16), [], []
    assert small is None
    for i in range(N):
        one = slice(i, i + 1)
        part = student.encoder.visible(views[1][one], large[one])[:, 0]
        anchors.append([student.projector(h)[0].float().double() for h in (part, student.encoder(views[2][one]))])
        targets.append(teacher.projector(teacher.encoder(views[0][one]))[0].float().double().detach())
    p = [[shares(z, o.prototypes, o.online_temperature) for z in each] for each in anchors]
    wanted = torch.stack([shares(z, o.prototypes.detach(), o.target_temperature) for z in targets])
    for _ in range(o.iterations):
        wanted = wanted / wanted.sum(0, keepdim=True)
        wanted = wanted / wanted.sum(1, keepdim=True)
    mean = sum(share for each in p for share in each) / (2 * N)
    cross = sum(-(wanted[i] * share.log()).sum() for i, each in enumerate(p) for share in each) / (2 * N)
    return cross + o.entropy * (mean * mean.log()).sum()


@pytest.mark.parametrize("settings", [{}, {"iterations": 3, "entropy": 0.5}])
def test_value_and_gradients_are_those_of_the_papers_equation(settings):
    fast, twin = made(**settings), made(**settings)
    for module in (fast, twin):
        module.objective.count_step()
    found, expected = fast.loss(batch()).total, transcription(twin, batch().views)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    expected.backward()
    trained = [(key, p) for key, p in fast.named_parameters() if p.requires_grad]
    for (key, a), b in zip(trained, (p for p in twin.parameters() if p.requires_grad), strict=True):
        assert a.grad is not None, key
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=key)
    assert not any(p.grad is not None for p in fast.teacher.parameters())


def test_an_anchor_of_full_size_is_shown_some_patches_and_a_small_one_all():
    objective = MSN(D, dropped=0.3)
    large, small = objective.kept(1000, [100, 36], 100)
    assert small is None
    assert large.shape == (1000, 70)
    assert (large.diff(dim=1) > 0).all()  # each once
    counts = torch.bincount(large.flatten(), minlength=100)
    assert (counts - 700).abs().max() < 80  # binomial, standard deviation 14.5
    torch.manual_seed(3)
    assert torch.equal(MSN(D, dropped=0.3).kept(1000, [100], 100)[0], large)
    assert MSN(D, dropped=0.0).kept(5, [100], 100) == [None]
    pixels = torch.ones(N, 16, dtype=torch.bool).scatter(1, made().objective.kept(N, [16], 16)[0], False)
    gone = pixels.view(N, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    target, anchor, little = batch().views
    losses = [
        made().loss(Batch([target, x, little], None, None)).total.item()
        for x in (anchor, torch.where(gone, anchor + 1, anchor), torch.where(gone, anchor, anchor + 1))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_a_run_that_stopped_goes_on_as_if_it_had_not(run, tmp_path):
    words = ["objective=msn", "module=masked_siamese", "teacher=ema", "encoder=vit_tiny", "encoder.patch_size=8"]
    words += ["encoder.width=12", "encoder.depth=1", "towers.projector.dims=[16,8]", "objective.prototypes=8"]
    words += ["trainer.max_epochs=2"]
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
    head = partial(MLP, dims=[8, D])
    with pytest.raises(ValueError, match="ConvNet cannot be shown a part of an image: use encoder=vit_tiny"):
        MaskedSiamese(Siamese(ConvNet([4]), head()), MSN, None, teacher=EMA())
    with pytest.raises(ValueError, match=r"set encoder.pool=class"):
        MaskedSiamese(Siamese(ViT(16, 4, 12, 1, 3, pool="mean"), head()), MSN, None, teacher=EMA())
    with pytest.raises(ValueError, match="'msn' learns from a teacher and there is none"):
        MaskedSiamese(Siamese(ViT(16, 4, 12, 1, 3), head()), MSN, None)
    with pytest.raises(ValueError, match=r"'msn' learns from masked views .* set module=masked_siamese"):
        JointEmbedding(Siamese(ViT(16, 4, 12, 1, 3), head()), MSN, None)
    with pytest.raises(ValueError, match=r"set objective.dropped=0"):
        made().check_views([torch.randn(2, 3, side, side).double() for side in (SIZE, 8)])
    with pytest.raises(ValueError, match="'msn' compares 2 views or more"):
        made().check_views([torch.randn(2, 3, SIZE, SIZE).double()])
    with pytest.raises(ValueError, match="target_temperature <= online_temperature"):
        MSN(D, target_temperature=0.2)
    with pytest.raises(ValueError, match="dropped in"):
        MSN(D, dropped=1.0)
    assert "no estimate" in MSN(D).facts(8)["mutual information"]
