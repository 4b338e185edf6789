"""Sums of objectives, and what is larger than the data."""

import logging
import re
from functools import partial

import pytest
import torch
import transcriptions as slow

from ssl_mi.objectives import (
    DINO,
    NNCLR,
    Infomax,
    KoLeo,
    MaskedPixels,
    MoCo,
    PastTargets,
    ReSSL,
    SimCLR,
    Sum,
    SwAV,
    VICReg,
)


def views(n=10, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, dtype=torch.float64, generator=generator) for _ in range(2)]


def test_koleo_is_its_equation_and_alone_is_refused():
    mine, twin = views(), views()
    for z in (*mine, *twin):
        z.requires_grad_()
    found, expected = KoLeo()(mine).total, slow.koleo(None, twin, twin, {})
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    found.backward()
    expected.backward()
    for a, b in zip(mine, twin, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    with pytest.raises(ValueError, match="beside another objective"):
        KoLeo().check(100)
    with pytest.raises(ValueError, match="no part brings"):
        Sum(parts={"koleo": KoLeo})


def test_a_sum_is_its_parts_with_their_weights():
    z = views()
    parts = {"a": SimCLR(temperature=0.5), "b": VICReg(), "c": KoLeo}
    whole = Sum(6, parts, {"b": 2.0, "c": -0.5})(z)
    a, b, c = SimCLR(temperature=0.5)(z).total, VICReg()(z), KoLeo()(z).total
    assert whole.total.item() == pytest.approx((a + 2 * b.total - 0.5 * c).item(), rel=1e-12)
    assert set(whole.terms) == {"a", "b_invariance", "b_variance", "b_covariance", "c"}
    assert whole.terms["b_covariance"].item() == pytest.approx(2 * b.terms["covariance"].item())


def test_a_sum_needs_what_a_part_needs_and_refuses_what_cannot_be():
    assert Sum(parts={"a": SimCLR(), "b": DINO}).teacher == "required"
    assert Sum(parts={"a": SimCLR(), "b": KoLeo}).teacher == "optional"
    assert Sum(parts={"a": SwAV, "b": KoLeo}).teacher == "unused"
    with pytest.raises(ValueError, match="a weight for 'vicrge', and the parts are vicreg"):
        Sum(parts={"vicreg": VICReg}, weights={"vicrge": 2})
    with pytest.raises(ValueError, match="'mae' learns from masked patches"):
        Sum(parts={"mae": lambda: MaskedPixels(12)})


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (MoCo(4, queue=80), "moco: a queue of 80 rows over 77 training images .* 2 times.* set objective.queue to 77"),
        (NNCLR(4, queue=800), "nnclr: .* 11 times"),
        (ReSSL(4, queue=80), "ressl: a queue of 80"),
        (SwAV(4, prototypes=9, queue=80), "swav: .* set objective.queue"),
        (SwAV(4, prototypes=900), "swav: 900 prototypes for 77 training images"),
        (DINO(900), "dino: 900 prototypes .* towers.projector.prototypes"),
        (Sum(4, {"a": MoCo(queue=80), "b": KoLeo}), r"moco: a queue of 80 .* objective\.parts\.a\.queue to 77"),
        (Infomax(4, negatives=partial(PastTargets, size=80)), r"infomax: .* set objective\.negatives\.size to 77"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.name,
)
def test_a_queue_or_prototypes_that_outnumber_the_images_are_named(caplog, objective, words):
    with caplog.at_level(logging.WARNING):
        objective.check(900)
        assert not caplog.records
        objective.check(77)
    assert len(caplog.records) == 1
    assert re.search(words, caplog.text)
