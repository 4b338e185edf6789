"""On a GPU an augmentation never makes the host wait: nothing is copied there or asked of it.

Counted on the meta device, where a tensor has a shape and no values: whatever would wait for values fails there.
"""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_mi.data.batch import Source
from ssl_mi.data.images.augmentations import Rotation, View, WrapShift
from tests.data.images.test_augmentations import SIDES, from_yaml

WAITS = {"nonzero", "_local_scalar_dense", "item", "is_nonzero", "masked_select", "_unique2", "equal"}


class Waits(TorchDispatchMode):
    """Names of the operations that wait for the device, or copy to it or from it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        devices = {
            x.device.type for x in (*args, *(kwargs or {}).values(), out) if isinstance(x, torch.Tensor) and x.ndim
        }
        if func.overloadpacket.__name__ in WAITS or len(devices) > 1:
            self.names.append(str(func))
        return out


@pytest.fixture
def no_autocast(monkeypatch):
    """The meta device has none to turn off."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def on_meta(c=3):
    images = torch.empty(6, c, 40, 36, dtype=torch.uint8, device="meta")
    return Source(images, torch.empty(6, dtype=torch.int64, device="meta"), None, 0, 0)


@pytest.mark.parametrize("name", SIDES)
def test_no_augmentation_file_waits_for_the_device(name, no_autocast):
    augmentation = from_yaml(name)
    augmentation(on_meta(), seed=0)  # constants are copied once
    with Waits() as waits:
        views = augmentation(on_meta(), seed=1)
    assert waits.names == []
    assert [view.shape[-1] for view in views] == SIDES[name]


def test_shifts_and_rotations_do_not_wait(no_autocast):
    augmentation = from_yaml("weak")
    augmentation.views = [View([WrapShift(), Rotation(20)])]
    augmentation(on_meta(), seed=0)
    with Waits() as waits:
        augmentation(on_meta(), seed=1)
    assert waits.names == []


def test_a_wait_would_be_counted():
    with Waits() as waits:
        torch.arange(3).nonzero()
        torch.tensor([1.0]).item()
        torch.ones(2).to("meta")
    assert len(waits.names) == 3


@pytest.mark.parametrize("name", ["simclr_blur", "byol", "colour_luminance"])
def test_what_a_gpu_computes_is_what_a_cpu_computes(name, monkeypatch):
    """All images are changed there and the chosen kept, here only the chosen are."""
    from ssl_mi.data.images import colour, geometry, ops

    images = torch.randint(0, 256, (10, 3, 40, 36), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    source, augmentation = Source(images, torch.arange(10), None, 0, 0), from_yaml(name)
    augmentation.compiled = False
    here = augmentation(source, seed=1)

    def everywhere(chosen, images, change, *rows, own=False):
        return torch.where(chosen[:, None, None, None], change(images, *rows), images)

    for module in (colour, geometry, ops):
        monkeypatch.setattr(module, "change_where", everywhere)
    for a, b in zip(here, augmentation(source, seed=1), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
