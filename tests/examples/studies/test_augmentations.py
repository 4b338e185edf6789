"""What augmentations leave of a factor, in closed form, against drawing and counting."""

import math

import numpy as np
import pytest
import torch

import augmentations
from ssl_mi.data.draws import Draws
from ssl_mi.data.images.augmentations import ColorJitter, Grayscale, HorizontalFlip
from ssl_mi.data.images.shapes import colour
from ssl_mi.data.known.paint import between
from ssl_mi.data.known.sprites import CHROMA, FACTORS, INK, PAPER, Sprites
from ssl_mi.information import discrete_mi


def pixels(n, light, seed):
    """Hues and single pixels of colours as sprites have them: int64 [n], float [n, 3, 1, 1]."""
    u = Draws(seed, 0, 0, torch.arange(n), 0).uniform(2)
    hue = (6 * u[:, 0]).long()
    return hue, colour(between(light, u[:, 1]), torch.full((n,), CHROMA), hue * (math.pi / 3))[:, :, None, None]


def counted(symbols, hue):
    codes = sum(symbol * 128**place for place, symbol in enumerate(symbols))
    return discrete_mi(codes, hue.numpy(), correction="grassberger").value


def test_a_hue_turn_leaves_what_the_largest_channel_and_the_difference_of_hues_tell():
    n = 80_000
    (hue, ink), (_, paper) = pixels(n, INK, 0), pixels(n, PAPER, 1)
    jitter = ColorJitter(0, 0, 0, 0.5, p=1.0)
    both = jitter(torch.cat([ink, paper], 3), Draws(2, 0, 0, torch.arange(n), 0))
    value = (both.amax(1)[:, 0] / 0.01).long().numpy()  # [n, 2], in steps of a twelfth of the interval of light
    plane = both.permute(0, 2, 3, 1)[:, 0].numpy() @ np.array([[2, -1, -1], [0, math.sqrt(3), -math.sqrt(3)]]).T
    # In HSV angles turn by the same amount, not in the plane: but which multiple of 60 degrees lies between stays.
    angle = np.arctan2(plane[..., 1], plane[..., 0])
    between_hues = np.rint((angle[:, 0] - angle[:, 1]) / (math.pi / 3)).astype(int) % 6
    read = counted([value[:, 0], value[:, 1], between_hues], hue)
    assert read == pytest.approx(augmentations.hue_nats(), abs=0.03)
    assert counted([between_hues], hue) == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("light", [INK, PAPER])
def test_grayscale_leaves_what_the_luma_tells(light):
    hue, images = pixels(60_000, light, 3)
    luma = Grayscale(1.0)(images, Draws(0, 0, 0, torch.arange(60_000), 0))[:, 0, 0, 0]
    read = counted([(luma / 0.003).long().numpy()], hue)
    assert read == pytest.approx(augmentations.luma_nats(light), abs=0.02)


def test_a_mirrored_sprite_is_the_sprite_of_the_mirrored_position_and_tilt():
    templates = Sprites().templates.view(5, 3, 3, 16, 16).int()
    assert (templates.flip(-1) - templates.flip(2)).abs().max() <= 1
    # Of a uniform position and tilt, either both mirrored or neither: counted over all 9 x 3 x 2 cases.
    cases = [(3 * r + c, t, flip) for r in range(3) for c in range(3) for t in range(3) for flip in (0, 1)]
    shown = [(3 * (p // 3) + (2 - p % 3 if f else p % 3), 2 - t if f else t) for p, t, f in cases]
    codes = np.array([3 * p + t for p, t in shown])
    left = augmentations.left_in_views()["flip"]
    for column, name in enumerate(("position", "orientation")):
        values = np.array([case[column] for case in cases])
        assert discrete_mi(values, codes, correction="plugin").value == pytest.approx(left[name], abs=1e-9)
    assert HorizontalFlip().p == 0.5


def test_what_is_left_is_between_nothing_and_all():
    for augmentation, left in augmentations.left_in_views().items():
        assert augmentation in augmentations.AUGMENTATIONS
        assert set(left) <= set(FACTORS)
        assert all(0 <= nats <= augmentations.ENTROPY[name] for name, nats in left.items())


@pytest.mark.parametrize("name", list(augmentations.AUGMENTATIONS))
def test_every_augmentation_is_one_the_command_line_takes(configure, name):
    from ssl_mi.app.startup import build, check

    given = f"augmentation.views={augmentations.views(augmentations.AUGMENTATIONS[name])}"
    cfg = configure("data=sprites", given, tiny=False)
    check(cfg)
    made = build(cfg, "augmentation")
    assert made.n_views == 2
    assert len(made.views[0].ops) == len(augmentations.AUGMENTATIONS[name])


def made_up(nats):
    """Rows as a study has them, from nats(augmentation, factor, column) and a little of each seed's own."""
    return [
        {
            **{"augmentation": a, "seed": seed, "encoder": encoder, "factor": f},
            **{column: nats(a, f, column) + 0.002 * seed for column in augmentations.WORDS},
        }
        for seed in range(3)
        for a in augmentations.AUGMENTATIONS
        for encoder in (["trained", "random"] if a == augmentations.NONE else ["trained"])
        for f in FACTORS
    ]


def test_verdicts_ask_whether_less_is_read_and_never_more_than_is_left():
    left = augmentations.left_in_views()

    def destroyed(a, f, column):
        return 0.9 * left.get(a, {}).get(f, 0.1)

    claims = augmentations.verdicts(made_up(destroyed))
    assert len(claims) == len(augmentations.TARGETS) + len(augmentations.INVARIANT) + 1
    assert all(claim.passed for claim in claims)
    untouched = augmentations.verdicts(made_up(lambda a, f, column: 0.9 * augmentations.ENTROPY[f]))
    assert not any(claim.passed for claim in untouched)
    # The position after a shift: nothing is left, 0.9 ln 9 is read.
    assert untouched[-1].value == pytest.approx(0.9 * math.log(9), abs=0.01)


def test_rows_become_a_picture_and_words(tmp_path):
    rows = made_up(lambda a, f, column: 0.5)
    augmentations.picture(rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 20_000
    assert "| position under wrap-around shift | 0.000 | 0.502 ± 0.002 |" in augmentations.seen(rows)


def test_one_training_reads_each_factor_of_views_images_and_embeddings_and_of_the_random_encoder():
    rows = augmentations.measure({"augmentation": augmentations.NONE}, 0, quick=True)
    assert [(row["encoder"], row["factor"]) for row in rows] == [(e, f) for e in ("trained", "random") for f in FACTORS]
    # Nothing was done to the views: they are the images.
    assert all(row["views"] == pytest.approx(row["clean"], abs=1e-4) for row in rows)
    assert all(math.isfinite(row["clean_z"]) for row in rows)
