"""iBOT and DINOv2's objective: the equation an image at a time, centres, that a run resumes."""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
import transcriptions as slow

from ssl_mi import JointEmbedding
from ssl_mi.data.batch import Batch
from ssl_mi.masked_distillation import MaskedDistillation
from ssl_mi.networks.encoders import ConvNet
from ssl_mi.networks.heads import PrototypeHead
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
from ssl_mi.networks.vit import ViT
from ssl_mi.objectives import IBOT

N, SIZE, PATCH, K = 5, 16, 4, 6
KINDS = {"ibot": {"target_temperature": 0.05}, "dinov2": {"centring": "sinkhorn", "koleo": 0.1}}


def made(name, views=None):
    torch.manual_seed(0)
    encoder = ViT(SIZE, PATCH, width=12, depth=1, heads=3)
    towers = Siamese(encoder, PrototypeHead(dims=[8, 4], prototypes=K), joint_forward=False)
    module = MaskedDistillation(towers, partial(IBOT, **KINDS[name]), optimizer=None, teacher=EMA(views=views)).double()
    for parameter in module.teacher.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, dtype=torch.float64))
    module.objective.register_forward_pre_hook(
        lambda _m, parts: tuple([[p.double() for p in view] for view in side] for side in parts[:2]) + parts[2:]
    )
    return module


def batch(small=0):
    generator = torch.Generator().manual_seed(1)
    sides = [SIZE] * 2 + [8] * small
    views = [torch.randn(N, 3, s, s, generator=generator, dtype=torch.float64) for s in sides]
    return Batch(views, torch.arange(N), None)


def softmax(logits, t):
    e = [(x / t).exp() for x in logits]
    return torch.stack(e) / sum(e)


def balanced(rows, t):
    q = torch.stack([(row / t).exp() for row in rows])
    for _ in range(3):
        q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = q / q.sum(1, keepdim=True)
    return list(q)


def assigned(o, rows, centre):
    if o.centring == "sinkhorn":
        return balanced(rows, o.target_temperature)
    return [softmax(row - centre, o.target_temperature) for row in rows]


def transcription(module, views, large):
    """An image and a patch at a time."""
    o, student, teacher = module.objective, module.towers.tower, module.teacher.towers.tower
    hidden = o.hidden(N, large)
    tokens, wanted = {}, {}
    for v, x in enumerate(views):
        for i in range(N):
            gone = torch.zeros(1, (x.shape[2] // PATCH) ** 2, dtype=torch.bool)
            if v < large:
                whole = teacher.encoder.masked(x[i : i + 1], gone, o.mask_token)[0]
                wanted[v, i] = [teacher.projector(t[None])[0].float().double().detach() for t in whole]
                gone[0, hidden[v].places[i][hidden[v].weights[i] > 0]] = True
            tokens[v, i] = student.encoder.masked(x[i : i + 1], gone, o.mask_token)[0], gone[0]

    def log_q(token):
        return softmax(student.projector(token[None])[0].float().double(), o.online_temperature).log()

    images = [(v, i) for v in range(large) for i in range(N)]
    p = dict(zip(images, assigned(o, [wanted[at][0] for at in images], o.class_centre), strict=True))
    pairs = [(v, w) for v in range(len(views)) for w in range(large) if v != w]
    total = slow.mean(-(p[w, i] * log_q(tokens[v, i][0][0])).sum() for v, w in pairs for i in range(N))
    patches = [(at, j) for at in images for j in tokens[at][1].nonzero().flatten().tolist()]
    q = dict(zip(patches, assigned(o, [wanted[at][1 + j] for at, j in patches], o.patch_centre), strict=True))
    for at, j in patches:
        total = total - (q[at, j] * log_q(tokens[at][0][1 + j])).sum() / tokens[at][1].sum() / len(images)
    if o.koleo:
        for v in range(large):
            h = torch.stack([tokens[v, i][0][0] for i in range(N)]).float().double()
            total = total + o.koleo * slow.koleo(None, [h], [h], {})
    return total


@pytest.mark.parametrize("small", [0, 1])
@pytest.mark.parametrize("name", KINDS)
def test_value_and_gradients_are_those_of_the_papers_equation(name, small):
    fast, twin = made(name, views=2), made(name, views=2)
    for module in (fast, twin):  # centres that are not zero, and other patches
        module.objective.class_centre.copy_(torch.linspace(-0.1, 0.1, K))
        module.objective.patch_centre.copy_(torch.linspace(0.1, -0.2, K))
        module.objective.count_step()
    found, expected = fast.loss(batch(small)).total, transcription(twin, batch(small).views, 2)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    expected.backward()
    trained = [(key, p) for key, p in fast.named_parameters() if p.requires_grad]
    for (key, a), b in zip(trained, (p for p in twin.parameters() if p.requires_grad), strict=True):
        assert a.grad is not None, key
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=key)
    assert not any(p.grad is not None for p in fast.teacher.parameters())


def test_images_hide_the_shares_they_should_and_the_same_in_every_process():
    objective = IBOT(K, 12, patches=100, chance=0.5, shares=(0.1, 0.5))
    (drawn,) = objective.hidden(4000, 1)
    counts = drawn.hides(100).sum(1)
    assert torch.equal(counts, (drawn.weights > 0).sum(1))
    assert (counts > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)  # 4 standard deviations of 4000
    assert counts[counts > 0].min() >= 10
    assert counts.max() < 50
    assert counts[counts > 0].float().mean().item() == pytest.approx(29.5, abs=1.1)  # floor of U(10, 50): 29.5
    torch.manual_seed(3)
    assert torch.equal(IBOT(K, 12, patches=100).hidden(4000, 1)[0].places, drawn.places)


def test_the_centres_are_means_of_the_teachers_logits():
    module = made("ibot")
    o = module.objective
    o.momentum = 0.0
    teacher, hidden = module.teacher.towers.tower, o.hidden(N, 2)
    module.loss(batch())
    classes, patches = [], []
    for x, at in zip(batch().views, hidden, strict=True):
        tokens = teacher.encoder.masked(x, torch.zeros(N, 16, dtype=torch.bool), o.mask_token)
        logits = teacher.projector(tokens.flatten(0, 1)).unflatten(0, (N, 17)).detach()
        classes.append(logits[:, 0])
        patches.append(logits[:, 1:][at.hides(16)])
    torch.testing.assert_close(o.class_centre, torch.cat(classes).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(o.patch_centre, torch.cat(patches).mean(0), rtol=1e-5, atol=1e-6)


RUN = ["module=masked_distillation", "teacher=ema", "towers=prototypes", "encoder=vit_tiny", "encoder.patch_size=8"]
RUN += ["encoder.width=12", "encoder.depth=1", "towers.projector.dims=[16,8]", "towers.projector.prototypes=8"]


@pytest.mark.parametrize("name", KINDS)
def test_a_run_that_stopped_goes_on_as_if_it_had_not(run, tmp_path, name):
    words = [f"objective={name}", *RUN, "trainer.max_epochs=2"]
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
    head = partial(PrototypeHead, dims=[8, 4], prototypes=K)
    with pytest.raises(ValueError, match="ConvNet cannot see an image with hidden patches"):
        MaskedDistillation(Siamese(ConvNet([4]), head()), IBOT, None, teacher=EMA())
    with pytest.raises(ValueError, match=r"set encoder.pool=class"):
        MaskedDistillation(Siamese(ViT(16, 4, 12, 1, 3, pool="mean"), head()), IBOT, None, teacher=EMA())
    with pytest.raises(ValueError, match="'ibot' learns from a teacher and there is none"):
        MaskedDistillation(Siamese(ViT(16, 4, 12, 1, 3), head()), IBOT, None)
    with pytest.raises(ValueError, match="'ibot' learns from masked tokens and JointEmbedding gives embeddings"):
        JointEmbedding(Siamese(ViT(16, 4, 12, 1, 3), head()), partial(IBOT, koleo=0.1), None)
    with pytest.raises(ValueError, match="centring must be"):
        IBOT(8, 12, 16, centring="median")
    with pytest.raises(ValueError, match="raise the least share"):
        IBOT(8, 12, patches=4)
    assert "no estimate" in IBOT(8, 12, 16).facts(8)["mutual information"]
