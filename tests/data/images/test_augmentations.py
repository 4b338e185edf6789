"""Augmentation: whole batches, each image as if it were alone, and any view drawn again."""

from pathlib import Path

import hydra
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from omegaconf import OmegaConf

from ssl_mi.data.batch import Source
from ssl_mi.data.images.augmentations import (
    Augmentation,
    Chrominance,
    ColorJitter,
    Draws,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Luminance,
    RandomResizedCrop,
    Rotation,
    Solarize,
    View,
    local_size,
)

CONF = Path(__file__).parents[3] / "conf" / "augmentation"
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
# Of normalised float32 pixels from other kernels: ten ops off by 1e-7 each, times 1.8 for each of three changes of
# contrast, times 1 / 0.2 for the normalisation.
ROUNDING = 5e-5
PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}


def simclr(size=32, blur=0.5, interpolation="bilinear"):
    crop = RandomResizedCrop(size, interpolation=interpolation)
    return [crop, HorizontalFlip(), ColorJitter(), Grayscale(), GaussianBlur(p=blur)]


def source(n=40, c=3, h=32, w=32, epoch=0, split=0):
    images = torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
    return Source(images, torch.arange(n) + 1000, None, split, epoch)


def rows(source, chosen):
    return source._replace(images=source.images[chosen], index=source.index[chosen])


@pytest.fixture
def two_views():
    return Augmentation([View(simclr(), count=2)], 32, MEAN, STD)


def one_image(image, ops, key, interpolation):
    """The slow twin: torchvision's functionals, one after the other, on one image."""

    def params(place, shape):
        drawn = ops[place].draw(Draws(*key, op=place), (1, *shape))
        return {name: value[0] for name, value in drawn.items()}

    x = image.float() / 255
    top, left, h, w = params(0, x.shape)["box"].tolist()
    mode = TF.InterpolationMode(interpolation)
    x = TF.resized_crop(x, top, left, h, w, [ops[0].size] * 2, mode, antialias=True).clamp(0, 1)
    if params(1, x.shape)["active"]:
        x = TF.horizontal_flip(x)
    jitter = params(2, x.shape)
    functions = [TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation]
    steps = [(functions[kind], jitter["factors"][kind].item()) for kind in jitter["order"].tolist()]
    steps.insert(int(jitter["place"]), (TF.adjust_hue, jitter["hue"].item()))
    for step, amount in steps:
        x = step(x, amount)
    if params(3, x.shape)["active"]:
        x = TF.rgb_to_grayscale(x, 3)
    sigma = params(4, x.shape)["sigma"].item()
    if sigma > 0:
        x = TF.gaussian_blur(x, [3, 3], [sigma])
    return TF.normalize(x, MEAN, STD)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [32, 45])
def test_the_whole_stack_is_torchvisions_image_by_image(side, interpolation):
    ops = simclr(interpolation=interpolation)
    batch = source(24, h=side, w=side + 3, epoch=4, split=1)
    views = Augmentation([View(ops, count=2)], 32, MEAN, STD)(batch, seed=9)
    for view, images in enumerate(views):
        for i, image in enumerate(batch.images):
            theirs = one_image(image, ops, (9, 1, 4, batch.index[i : i + 1], view), interpolation)
            assert (images[i] - theirs).abs().max() < 1e-5 / min(STD)


def test_a_view_drawn_again_is_the_same_to_the_bit(two_views):
    torch.manual_seed(0)
    state, first = torch.get_rng_state(), two_views(source(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    for once, again in zip(first, two_views(source(), seed=1), strict=True):
        assert torch.equal(once, again)


def test_an_image_looks_the_same_in_any_batch_order_and_chunk(two_views):
    """Across a chunk's border too (256 images of 32 x 32); sums in another order may round another way."""
    batch = source(600)
    whole = two_views(batch, seed=1)
    for chosen in (torch.arange(599, -1, -1), torch.tensor([300]), torch.arange(250, 262)):
        for view, part in zip(whole, two_views(rows(batch, chosen), seed=1), strict=True):
            torch.testing.assert_close(part, view[chosen], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("change", [{"epoch": 1}, {"split": 1}])
def test_another_epoch_and_another_split_draw_other_views(two_views, change):
    assert not torch.equal(two_views(source(), seed=1)[0], two_views(source()._replace(**change), seed=1)[0])
    assert not torch.equal(two_views(source(), seed=1)[0], two_views(source(), seed=2)[0])


def test_views_of_one_kind_differ_and_no_two_images_share_their_draws():
    batch = source(16)
    batch = batch._replace(images=batch.images[:1].expand(16, -1, -1, -1))  # one picture sixteen times
    views = torch.cat(Augmentation([View(simclr(), count=2)], 32, MEAN, STD)(batch, seed=0))
    assert torch.cdist(views.flatten(1), views.flatten(1)).fill_diagonal_(1).min() > 0.1


def test_views_are_float32_contiguous_and_the_source_is_left_alone(two_views):
    batch = source()
    before = batch.images.clone()
    for view in two_views(batch, seed=0):
        assert view.shape == (40, 3, 32, 32)
        assert view.dtype == torch.float32
        assert view.is_contiguous()
        assert not view.requires_grad
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_views_do_not_depend_on_the_mode_they_are_made_in(two_views, mode):
    plain = two_views(source(), seed=3)
    with mode():
        other = two_views(source(), seed=3)
    for a, b in zip(plain, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)  # bfloat16 would be off by 1e-2


def test_ops_do_not_change_their_input():
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    for op in [*simclr(16, blur=1.0), Solarize(p=1.0), Luminance(), Chrominance(), HorizontalFlip(1.0), Grayscale(1.0)]:
        for p in (1.0, 0.5):
            op.p = p
            op(x, Draws(0, 0, 0, torch.arange(8), 0))
            assert torch.equal(x, before), op


def test_crops_made_in_a_worker_are_those_made_on_the_device():
    """Same boxes; pixels within a level of 255, as a worker's crop is rounded to 8 bits."""
    kinds = [View([RandomResizedCrop(24)], 2), View([RandomResizedCrop(12, (0.05, 0.2), interpolation="bicubic")], 1)]
    augmentation, batch = Augmentation(kinds, 24, **PLAIN), source(20, h=50, w=70, epoch=2)
    crops = [augmentation.crop(image, 5, 0, 2, int(i)) for image, i in zip(batch.images, batch.index, strict=True)]
    stacked = [torch.stack(view) for view in zip(*crops, strict=True)]
    assert [view.dtype for view in stacked] == [torch.uint8] * 3
    from_crops = augmentation(batch._replace(images=None, crops=stacked), seed=5)
    for a, b in zip(from_crops, augmentation(batch, seed=5), strict=True):
        assert (a - b).abs().max() < 1.01 / 255
    assert torch.equal(from_crops[0], stacked[0].float().div(255))


def test_what_follows_a_workers_crop_draws_as_if_the_crop_were_done_here():
    augmentation, batch = Augmentation([View([RandomResizedCrop(16), HorizontalFlip()])], 16, **PLAIN), source(30)
    crops = [torch.cat([augmentation.crop(batch.images[i], 0, 0, 0, 1000 + i)[0][None] for i in range(30)])]
    here, there = augmentation(batch, 0)[0], augmentation(batch._replace(images=None, crops=crops), 0)[0]
    assert (here - there).abs().max() < 1.01 / 255


@pytest.mark.parametrize("shape", [(32, 32), (40, 64), (64, 41), (20, 20), (33, 32)])
@pytest.mark.parametrize("as_float", [False, True])
def test_clean_is_torchvisions_resize_and_centre_crop(shape, as_float):
    images = source(3, h=shape[0], w=shape[1]).images
    x = images.float() / 255
    expected = TF.normalize(TF.center_crop(TF.resize(x, [32], antialias=True), [32, 32]), MEAN, STD)
    ours = Augmentation([View([])], 32, MEAN, STD).clean(x if as_float else images)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_denormalize_undoes_the_normalisation():
    batch = source(5)
    view = Augmentation([View([])], 32, MEAN, STD)
    restored = view.denormalize(view(batch, 0)[0])
    torch.testing.assert_close(restored, batch.images / 255, rtol=0, atol=1e-6)


def test_clean_views_show_what_each_view_is_of_and_nothing_drawn():
    augmentation, batch = from_yaml("colour_luminance"), source(6, h=40, w=36)
    luminance, chrominance = (augmentation.denormalize(view) for view in augmentation.clean_views(batch.images))
    clean = augmentation.denormalize(augmentation.clean(batch.images))
    torch.testing.assert_close(luminance, TF.rgb_to_grayscale(clean, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(chrominance, Chrominance().apply(clean), rtol=0, atol=1e-6)


def test_grey_images_go_through_the_colour_stack_as_torchvisions_grey_images_do():
    """One channel: brightness and contrast change, hue and saturation have nothing to change."""
    augmentation, batch = Augmentation([View(simclr())], 32, [0.5], [0.25]), source(20, c=1)
    grey = augmentation(batch, seed=0)[0]
    as_rgb = Augmentation([View(simclr())], 32, [0.5] * 3, [0.25] * 3)
    colour = as_rgb(batch._replace(images=batch.images.expand(-1, 3, -1, -1)), seed=0)[0]
    assert (grey - colour).abs().max() < 2e-3  # torchvision's luma weights sum to 0.9999, not 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_views(two_views):
    batch = source(600)
    on_gpu = batch._replace(images=batch.images.cuda(), index=batch.index.cuda())
    for a, b in zip(two_views(batch, seed=1), two_views(on_gpu, seed=1), strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=0, atol=1e-4)


def test_kinds_of_view_are_numbered_in_order():
    kinds = [View([Luminance()]), View([Chrominance()], 2), View([RandomResizedCrop(8)])]
    augmentation = Augmentation(kinds, 32, **PLAIN)
    views = augmentation(source(), 0)
    assert augmentation.n_views == 4
    assert [view.shape[-1] for view in views] == [32, 32, 32, 8]
    assert torch.equal(views[1], views[2])
    assert (views[0][:, 0] == views[0][:, 1]).all()
    lines = augmentation.describe().split("\n")
    assert len(lines) == 3
    assert lines[1] == "2 x [Chrominance()]"
    assert "RandomResizedCrop(size=8" in lines[2]


def test_an_empty_batch_gives_empty_views(two_views):
    assert [view.shape for view in two_views(source(0), seed=0)] == [(0, 3, 32, 32)] * 2


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Augmentation([], 32, MEAN, STD), "views is empty"),
        (lambda: Augmentation([View([])], 0, MEAN, STD), "size must"),
        (lambda: Augmentation([View([])], 32, MEAN, [1.0]), "mean and std"),
        (lambda: Augmentation([View([])], 32, MEAN, [1.0, 0.0, 1.0]), "std > 0"),
        (lambda: View([], count=0), "count must"),
        (lambda: View([torch.nn.Identity()]), r"Identity.*check its _target_"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, names):
    with pytest.raises(ValueError, match=names):
        make()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s._replace(images=None), "exactly one"),
        (lambda s: s._replace(crops=[s.images] * 2), "exactly one"),
        (lambda s: s._replace(images=None, crops=[s.images]), "1 crops for 2 views"),
        (lambda s: s._replace(images=s.images.float()), "must be uint8"),
        (lambda s: s._replace(images=s.images[0]), "must be uint8"),
        (lambda s: s._replace(index=s.index[1:]), "40 images but 39 indices"),
        (lambda s: s._replace(images=s.images[:, :1]), "1 channels but mean and std have 3"),
    ],
)
def test_sources_that_do_not_fit_are_refused(two_views, change, names):
    with pytest.raises(ValueError, match=names):
        two_views(change(source()), seed=0)


def test_views_that_do_not_begin_with_a_crop_cannot_be_cropped_in_workers():
    augmentation, batch = Augmentation([View([HorizontalFlip()])], 32, MEAN, STD), source(2)
    with pytest.raises(ValueError, match="begin with RandomResizedCrop"):
        augmentation.crop(batch.images[0], 0, 0, 0, 0)
    with pytest.raises(ValueError, match="begin with RandomResizedCrop"):
        augmentation(batch._replace(images=None, crops=[batch.images]), seed=0)


@pytest.mark.parametrize(
    ("size", "share", "side"), [(224, 0.4286, 96), (32, 0.4286, 14), (96, 0.4286, 42), (2, 0.1, 2)]
)
def test_local_views_keep_their_share_of_the_size_in_even_pixels(size, share, side):
    assert local_size(size, share) == side


SIDES = {
    "simclr": [32, 32],
    "simclr_blur": [32, 32],
    "simclr_strong": [32, 32],
    "byol": [32, 32],
    "multicrop": [32, 32, 14, 14, 14, 14, 14, 14],
    "weak": [32, 32],
    "shapes": [32, 32],
    "colour_luminance": [32, 32],
    "asymmetric": [32, 32],
    "moco": [32, 32],
    "vicreg": [32, 32],
    "moco_v3": [32, 32],
    "msn": [32, 32, 16, 16, 16, 16, 16, 16],
    "weak_strong": [32, 32],
    "weak_strong_small": [32, 32],
    "patches": [32] * 20,
}


def from_yaml(name, size=32):
    data = {"size": size, "mean": MEAN, "std": STD}
    config = OmegaConf.create({"data": data, "augmentation": OmegaConf.load(CONF / f"{name}.yaml")})
    return hydra.utils.instantiate(config.augmentation)


def test_every_augmentation_file_is_known_here():
    of_images = {file.stem for file in CONF.glob("*.yaml") if "PairViews" not in file.read_text(encoding="utf-8")}
    assert of_images == set(SIDES)


@pytest.mark.parametrize("name", SIDES)
def test_every_augmentation_file_makes_its_views(name):
    views = from_yaml(name)(source(12, h=40, w=36), seed=0)
    assert [view.shape[-1] for view in views] == SIDES[name]
    assert all(view.isfinite().all() for view in views)


def test_the_stacks_say_what_their_papers_say():
    simclr, byol, split = from_yaml("simclr"), from_yaml("byol"), from_yaml("colour_luminance")
    assert [type(op).__name__ for op in simclr.views[0].ops] == [
        "RandomResizedCrop",
        "HorizontalFlip",
        "ColorJitter",
        "Grayscale",
    ]
    assert repr(simclr.views[0].ops[2]) == repr(ColorJitter(0.8, 0.8, 0.8, 0.2, strength=0.5, p=0.8))
    first, second = (view.ops for view in byol.views)
    assert repr(first[:4]) == repr(second[:4])
    assert repr(first[2]) == repr(ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8))
    assert [(ops[4].p, ops[5].p) for ops in (first, second)] == [(1.0, 0.0), (0.1, 0.2)]
    assert [type(view.ops[-1]) for view in split.views] == [Luminance, Chrominance]


@pytest.mark.parametrize("compiled", [True, False])
def test_views_of_one_kind_are_drawn_as_one_by_one_and_at_once_where_they_are_compiled(monkeypatch, compiled):
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ops = [RandomResizedCrop(16), ColorJitter(0.4, 0.4, 0.4, 0.1)]
    calls = []
    original = ColorJitter.draw
    monkeypatch.setattr(ColorJitter, "draw", lambda *args: calls.append(None) or original(*args))

    def views(*kinds):
        return Augmentation(list(kinds), 16, [0.5] * 3, [0.2] * 3, compiled)(images, seed=1, step=2)

    together = views(View(ops, 3))
    assert len(calls) == (1 if compiled else 3)
    for one, other in zip(together, views(View(ops), View(ops), View(ops)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_box_says_which_part_of_the_image_a_view_shows():
    """Pixels that hold their own place, on average over a view, are the centre of its box, and grow along it."""
    h, w = 40, 56
    rows, columns = torch.arange(h).float() + 0.5, torch.arange(w).float() + 0.5
    image = torch.stack([rows[:, None].expand(h, w), columns.expand(h, w), torch.zeros(h, w)]).byte()
    made = Augmentation(
        [View([RandomResizedCrop(16), HorizontalFlip(), RandomResizedCrop(8)], 2)], 8, [0.0] * 3, [1.0] * 3
    )
    source = Source(image.expand(40, 3, h, w), torch.arange(40), None, split=0, epoch=0)
    views, boxes = made(source, seed=0), made.boxes(source, seed=0)
    assert (boxes[..., 3] < 0).float().mean() == pytest.approx(0.5, abs=0.2)  # mirrored half the time
    for v, view in enumerate(views):
        centre = 255 * view[:, :2].mean((2, 3)) + 0.5  # bytes are rounded down
        assert (centre - (boxes[:, v, :2] + boxes[:, v, 2:] / 2)).abs().max() < 1.0
        across = 255 * (view[:, 1, :, -1] - view[:, 1, :, 0]).mean(1)
        assert (across.sign() == boxes[:, v, 3].sign()).all()


def test_a_box_of_a_view_that_an_unknown_op_moves_is_refused_and_of_a_recolouring_is_the_whole_image():
    source = Source(torch.zeros(4, 3, 20, 30, dtype=torch.uint8), torch.arange(4), None, split=0, epoch=0)
    with pytest.raises(ValueError, match="Rotation moves pixels"):
        Augmentation([View([Rotation(10)])], 20, [0.0] * 3, [1.0] * 3).boxes(source, seed=0)
    still = Augmentation([View([ColorJitter(), GaussianBlur(), Solarize()])], 20, [0.0] * 3, [1.0] * 3)
    assert torch.equal(still.boxes(source, seed=0), torch.tensor([0.0, 0, 20, 30]).expand(4, 1, 4))
