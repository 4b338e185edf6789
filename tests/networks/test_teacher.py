"""The EMA teacher against the recursion written out, and across a checkpoint."""

import math
import subprocess
import sys

import pytest
import torch

from ssl_mi.networks.encoders import ConvNet
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese


def towers(seed=0):
    torch.manual_seed(seed)
    return Siamese(ConvNet([4, 6]), lambda d: MLP(d, [8, 5]))


def weights(module):
    return [p.detach().clone() for p in module.parameters()]


def views():
    torch.manual_seed(2)
    return [torch.randn(6, 3, 8, 8) for _ in range(2)]


def test_a_teacher_starts_as_a_frozen_copy_with_memory_of_its_own():
    online, teacher = towers(), EMA()
    teacher.copy_from(online)
    before = weights(online)
    assert all(torch.equal(a, b) for a, b in zip(weights(teacher), before, strict=True))
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in online.parameters())
    with torch.no_grad():
        for p in online.parameters():
            p.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(weights(teacher), before, strict=True))


def test_an_update_is_m_of_the_old_and_the_rest_of_the_new():
    online, teacher = towers().double(), EMA(momentum=0.9, final_momentum=0.9)
    teacher.copy_from(online)
    expected = weights(teacher)
    for seed in (1, 2, 3):
        other = towers(seed).double()
        teacher.update(other, progress=seed / 10)
        expected = [0.9 * a + 0.1 * b for a, b in zip(expected, weights(other), strict=True)]
    for mine, twin in zip(weights(teacher), expected, strict=True):
        torch.testing.assert_close(mine, twin, rtol=1e-12, atol=1e-14)


def test_momentum_one_keeps_the_teacher_and_momentum_zero_makes_it_the_student():
    online, other = towers(0), towers(1)
    for momentum, expected in [(1.0, online), (0.0, other)]:
        teacher = EMA(momentum, momentum)
        teacher.copy_from(online)
        teacher.update(other, progress=0.5)
        assert all(torch.equal(a, b) for a, b in zip(weights(teacher), weights(expected), strict=True))


def test_momentum_rises_along_half_a_cosine_from_the_first_to_the_final():
    teacher = EMA(momentum=0.99, final_momentum=1.0)
    expected = {0.0: 0.99, 0.25: 1 - 0.01 * (1 + math.sqrt(0.5)) / 2, 0.5: 0.995, 1.0: 1.0}
    for progress, momentum in expected.items():
        assert teacher.momentum_at(progress) == pytest.approx(momentum, abs=1e-15)


def test_buffers_are_copied_with_the_count_of_batches():
    online, teacher = towers(), EMA()
    teacher.copy_from(online)
    online(views())
    teacher.update(online, progress=0.0)
    pairs = dict(zip(dict(online.named_buffers()), teacher.buffers(), strict=True))
    assert any(name.endswith("num_batches_tracked") and int(b) == 1 for name, b in pairs.items())
    for name, buffer in online.named_buffers():
        assert torch.equal(pairs[name], buffer)


def test_targets_carry_no_gradient():
    teacher = EMA()
    teacher.copy_from(towers())
    seen = teacher(views())
    assert not any(t.requires_grad for t in [*seen.h, *seen.z])


def test_a_teacher_may_see_the_first_views_only():
    teacher = EMA(views=1)
    teacher.copy_from(towers())
    teacher.eval()
    everything = EMA()
    everything.copy_from(towers())
    everything.eval()
    assert len(teacher(views()).z) == 1
    # A batch of another size may be multiplied by another kernel, in another order: equal up to float32's rounding.
    torch.testing.assert_close(teacher(views()).z[0], everything(views()).z[0])
    with pytest.raises(ValueError, match="but got 0"):
        EMA(views=0)


def test_batch_statistics_follow_training_and_running_statistics_never_do():
    online = towers()
    batch, running = EMA(batch_norm="batch"), EMA(batch_norm="running")
    for teacher in (batch, running):
        teacher.copy_from(online)
    in_training, in_evaluation = online(views()).z[0], towers().eval()(views()).z[0]
    torch.testing.assert_close(batch.train()(views()).z[0], in_training)
    torch.testing.assert_close(running.train()(views()).z[0], in_evaluation)
    assert not torch.allclose(in_training, in_evaluation)
    assert not any(m.training for m in running.modules())
    assert not any(m.training for m in batch.eval().modules())


def test_a_teacher_adopted_in_evaluation_trains_when_its_owner_does():
    teacher = EMA().eval()
    teacher.copy_from(towers().train())
    assert not teacher.towers.training
    assert teacher.train().towers.training


RESUME = """
import sys, torch
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
torch.manual_seed(5)
saved = torch.load(sys.argv[1], weights_only=True)
teacher = EMA()
teacher.copy_from(Siamese(MLP(7, [6, 4]), lambda d: MLP(d, [5])))
teacher.load_state_dict(saved["teacher"])
torch.testing.assert_close(teacher.eval()([saved["x"]]).z, saved["z"], rtol=0, atol=1e-6)
assert not any(p.requires_grad for p in teacher.parameters())
"""


def test_a_teacher_survives_a_checkpoint_read_in_a_fresh_process(tmp_path):
    torch.manual_seed(0)
    first, second = (Siamese(MLP(7, [6, 4]), lambda d: MLP(d, [5])) for _ in range(2))
    teacher, x = EMA(), torch.randn(9, 7)
    teacher.copy_from(first)
    second([x])  # moves the running statistics, which are state too
    teacher.update(second, progress=0.0)
    saved = {"teacher": teacher.state_dict(), "x": x, "z": teacher.eval()([x]).z}
    torch.save(saved, tmp_path / "teacher.pt")
    fresh = [sys.executable, "-c", RESUME, str(tmp_path / "teacher.pt")]
    done = subprocess.run(fresh, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_teacher_without_towers_says_what_to_call():
    with pytest.raises(RuntimeError, match=r"call copy_from\(towers\) first"):
        EMA()(views())
    with pytest.raises(RuntimeError, match=r"call copy_from\(towers\) first"):
        EMA().update(towers(), progress=0.0)


def test_towers_of_another_shape_are_refused():
    teacher = EMA()
    teacher.copy_from(towers())
    with pytest.raises(ValueError, match="another shape"):
        teacher.update(Siamese(ConvNet([4, 7]), lambda d: MLP(d, [8, 5])), progress=0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.1}, "momentum must be in .* but got 1.1"),
        ({"final_momentum": -0.1}, "final_momentum must be in .* but got -0.1"),
        ({"batch_norm": "train"}, "'batch' or 'running', but got 'train'"),
    ],
)
def test_impossible_teachers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EMA(**arguments)


def test_progress_is_a_share_of_training_and_not_a_step():
    with pytest.raises(ValueError, match="but got 12"):
        EMA().momentum_at(12)
