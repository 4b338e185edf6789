"""A picture tells its u, whatever the nuisance: nothing is lost to rendering or to 8 bits.

Each decoder knows how its generator draws, and neither u nor the nuisance.
"""

import math
import unicodedata

import pytest
import torch
from scipy import ndimage
from torch.nn.functional import pad

from ssl_mi.data.images.shapes import HUE_COS, HUE_SIN
from ssl_mi.data.known.blob import FINEST, HUE, MIDDLE, WIDTH, GaussianBlob
from ssl_mi.data.known.captions import PHRASES, Caption
from ssl_mi.data.known.circle import Rotation, Shift
from ssl_mi.data.known.digits import GROUND, INK, SIDE, FiniteSet, Patches, SharedClass, digits, enlarged
from ssl_mi.data.known.glyphs import Glyphs
from ssl_mi.data.known.halves import Halves
from ssl_mi.data.known.sphere import Sphere
from ssl_mi.data.known.sprites import FACTORS, Sprites
from ssl_mi.data.known.views import Pairs


def shown(generator, n=64, epoch=3):
    """[(u_v, V_v)] of n pairs."""
    pairs = Pairs(7, 0, epoch, torch.arange(n))
    return [(u, generator.render(u, pairs, v)) for v, u in enumerate(generator.latents(pairs))]


def coverage(pictures):
    """How far each pixel lies from the paper (the corner's colour) to the ink (the colour farthest from it), 0 to 1."""
    away = pictures.double() - pictures[:, :, :1, :1]
    farthest = away.square().sum(1).flatten(1).argmax(1)
    ink = away.flatten(2).gather(2, farthest[:, None, None].expand(-1, 3, 1))[..., None]
    return (away * ink).sum(1) / ink.square().sum(1)


def cut_out(cover, side, threshold=0.06):
    """Each coverage with its uppermost row and leftmost column of ink moved to the corner: [n, side, side]."""
    cut = []
    for picture in cover:
        rows, columns = ((picture > threshold).any(axis).nonzero()[:, 0] for axis in (1, 0))
        inner = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        cut.append(pad(inner, (0, side - inner.shape[1], 0, side - inner.shape[0])))
    return torch.stack(cut)


def nearest(pictures, templates):
    """The template nearest to each picture, all [., s, s]."""
    return torch.cdist(pictures.flatten(1).double(), templates.flatten(1).double()).argmin(1)


def best_match(cover, templates):
    """(template, place) of the nearest one at any place, row by row, of a picture [n, h, w]: int64 [n] twice."""
    side = templates.shape[-1]
    bank = templates.flatten(1).float()
    bank = bank / bank.max(1, keepdim=True).values
    places = cover.float().unfold(1, side, 1).unfold(2, side, 1).flatten(1, 2).flatten(2)
    # |cover - template|^2 over the whole picture, less |cover|^2.
    distance = bank.square().sum(1) - 2 * places @ bank.T
    best = distance.flatten(1).argmin(1)
    return best % len(bank), best // len(bank)


def which_digit(pictures, templates):
    return best_match(coverage(pictures), templates)[0]


def test_a_digit_of_a_shared_class_tells_its_class():
    for u, pictures in shown(SharedClass(nats=1.5), n=24):
        assert torch.equal(digits()[1][which_digit(pictures, enlarged(3 * SIDE, smooth=True))], u[:, 0])


def test_an_image_of_a_finite_set_tells_which_one_it_is():
    generator = FiniteSet(images=1797)
    for u, pictures in shown(generator, n=24):
        assert torch.equal(which_digit(pictures, generator.templates), u[:, 0])


@pytest.mark.parametrize("grid", [1, 4])
def test_over_any_background_the_digits_that_a_cell_could_show_are_of_one_class(grid):
    labels = digits()[1]
    cell = 32 // grid
    ink = INK * enlarged(cell, smooth=False).double().flatten(1) / 255
    for u, pictures in shown(Patches(grid=grid, nats=2.0, background="random"), n=4):
        cells = pictures.double().unfold(2, cell, cell).unfold(3, cell, cell) / 255
        cells = cells.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, cell * cell)
        for classes, content in zip(u.flatten(), cells, strict=True):
            left = content[:, None, :] - ink
            possible = ((left >= -0.51 / 255) & (left <= GROUND + 0.51 / 255)).all(2).all(0)
            assert labels[possible].unique().tolist() == [int(classes)]


def test_digits_of_two_classes_differ_by_seven_levels_somewhere():
    pixels, labels = digits()
    some = pixels[::5].flatten(1).double()
    apart = torch.cdist(some, pixels.flatten(1).double(), p=math.inf)
    assert apart[labels[::5, None] != labels].min() >= 7
    assert INK * 7 / 16 > GROUND + 1 / 255  # more than any two backgrounds can make up for


def degrees_apart(found, u):
    """Angle between unit vectors, in radians: [n]."""
    return torch.atan2(found[:, 0] * u[:, 1] - found[:, 1] * u[:, 0], (found * u).sum(1)).abs()


def test_the_gradient_of_a_dial_points_along_its_angle():
    generator = Rotation(nats=4.5)
    for u, pictures in shown(generator):
        grey = pictures.double().mean(1)
        inside = (grey > 46).double()
        y, x = torch.meshgrid(torch.arange(32.0).double(), torch.arange(32.0).double(), indexing="ij")
        x, y = (
            (axis - (inside * axis).sum((1, 2), keepdim=True) / inside.sum((1, 2), keepdim=True)) for axis in (x, y)
        )
        slope = torch.stack([(inside * axis * grey).sum((1, 2)) for axis in (x, y)], 1)
        error = degrees_apart(slope, u)
        assert error.square().mean().sqrt() < 0.001 < generator.delta / 20


def test_the_first_fourier_coefficient_of_a_shifted_texture_has_the_phase_of_its_angle():
    generator = Shift(nats=4.5)
    for u, pictures in shown(generator):
        wave = torch.fft.fft2(pictures.double().mean(1))[:, 0, 1]
        # Pixel centres lie half a pixel in.
        angle = -wave.angle() + math.pi / 32
        error = degrees_apart(torch.stack([angle.cos(), angle.sin()], 1), u)
        assert error.square().mean().sqrt() < 0.001 < generator.delta / 20


@pytest.mark.parametrize("dim", [3, 8])
def test_brightness_across_a_ball_tells_where_its_light_comes_from(dim):
    generator = Sphere(nats=6.0, dim=dim)
    side = generator.inside.shape[-1]
    design = torch.cat([torch.ones(1, side, side), generator.patterns])[:, generator.inside].double().T
    for u, pictures in shown(generator):
        grey = pictures.double().mean(1)
        found = []
        for picture in grey:
            top, left = ((picture > 36).any(axis).nonzero()[0, 0] for axis in (1, 0))
            ball = picture[top : top + side, left : left + side][generator.inside]
            found.append(torch.linalg.lstsq(design, ball[:, None]).solution[1:, 0])
        found = torch.nn.functional.normalize(torch.stack(found), dim=1)
        error = (found - u).norm(dim=1) / math.sqrt(dim - 1)  # a direction
        assert error.square().mean().sqrt() < 0.002 < 1 / math.sqrt(generator.kappa) / 10


def fitted_blob(picture):
    """x, y, s in pixels, three amplitudes and the grey of the paper: Gauss and Newton, from the brightest pixel."""
    y, x = torch.meshgrid(torch.arange(32.0).double() + 0.5, torch.arange(32.0).double() + 0.5, indexing="ij")
    paper = picture.mean(1, keepdim=True).flatten(1).min(1).values
    grey = picture.mean(1) - paper[:, None, None]
    bright = grey.flatten(1).argmax(1)
    cx, cy, s = bright % 32 + 0.5, bright // 32 + 0.5, torch.full_like(paper, 2.6)
    amplitude = picture.flatten(2).gather(2, bright[:, None, None].expand(-1, 3, 1))[..., 0] - paper[:, None]
    for _ in range(8):
        dx, dy, v = (x - cx[:, None, None]), (y - cy[:, None, None]), s.square()[:, None, None]
        bell = torch.exp(-(dx.square() + dy.square()) / (2 * v))
        slopes = [bell * dx / v, bell * dy / v, bell * (dx.square() + dy.square()) / (v * s[:, None, None])]
        columns = [(amplitude[:, :, None, None] * slope[:, None]).flatten(1) for slope in slopes]
        columns += [(bell[:, None] * torch.eye(3)[c].view(1, 3, 1, 1)).flatten(1) for c in range(3)]
        columns += [torch.ones_like(columns[0])]
        left = picture - paper[:, None, None, None] - amplitude[:, :, None, None] * bell[:, None]
        design = torch.stack(columns, 2)
        step = torch.linalg.solve(design.mT @ design, design.mT @ left.flatten(1)[..., None])[..., 0]
        cx, cy, s = cx + step[:, 0], cy + step[:, 1], (s + step[:, 2]).clamp(1.5, 4.6)
        amplitude, paper = amplitude + step[:, 3:6], paper + step[:, 6]
    return cx, cy, s, amplitude


def test_a_blob_tells_its_position_size_and_colour():
    def normal(value, low_high):
        t = 4 * ((value - low_high[0]) / (low_high[1] - low_high[0]) - 0.5)
        return t / (1 - t.square() / 4).clamp_min(1e-9).sqrt()

    for u, pictures in shown(GaussianBlob(nats=6.0), n=100):
        x, y, s, amplitude = fitted_blob(pictures.double())
        hue = torch.atan2(amplitude @ torch.tensor(HUE_SIN).double(), amplitude @ torch.tensor(HUE_COS).double())
        hue = torch.where(hue < -0.4 * math.pi, hue + 2 * math.pi, hue)
        z = torch.stack([normal(x / 32, MIDDLE), normal(y / 32, MIDDLE), normal(s / 32, WIDTH), normal(hue, HUE)], 1)
        error = (z - u).abs()
        assert error.quantile(0.95, dim=0).max() < 0.02 == FINEST / 5
        assert error.max() < 0.1  # in the tails


def test_a_sprite_tells_all_of_its_six_factors():
    generator = Sprites(shared=list(FACTORS))
    steps = 32 - generator.templates.shape[-1] + 1
    for u, pictures in shown(generator):
        grey = pictures.double().mean(1)
        cover = grey - grey[:, :1, :1]
        which, place = best_match(cover / cover.flatten(1).max(1).values[:, None, None], generator.templates)
        row, column = (((at - 1) / 7).round().long() for at in (place // steps, place % steps))

        def hue(colours):
            plane = colours.double() @ torch.tensor([HUE_COS, HUE_SIN]).double().T
            return (torch.atan2(plane[:, 1], plane[:, 0]) / (math.pi / 3)).round().long() % 6

        brightest = grey.flatten(1).argmax(1)[:, None, None].expand(-1, 3, 1)
        ink, paper = pictures.flatten(2).gather(2, brightest)[..., 0], pictures[:, :, 0, 0]
        found = [which // 9, hue(ink), which // 3 % 3, 3 * row + column, which % 3, hue(paper)]
        assert torch.equal(torch.stack(found, 1), u)


def read_sentence(sentence, named):
    """The factors that a sentence names: parts that stand apart first, then what is left of the noun phrase."""
    found = {}
    for name in ("background", "position", "orientation", "shape", "size", "colour"):
        if name not in named:
            continue
        said = [(v, p) for v, phrases in enumerate(PHRASES[name]) for p in phrases if f" {p} " in f" {sentence} "]
        assert len({value for value, _ in said}) == 1, (sentence, name, said)
        value, phrase = max(said, key=lambda pair: len(pair[1]))
        found[name] = value
        sentence = f" {sentence} ".replace(f" {phrase} ", " | ", 1).strip()
    return [found[name] for name in named]


@pytest.mark.parametrize("named", [list(FACTORS), ["colour", "background"]])
def test_a_sentence_tells_the_factors_that_it_names(named):
    generator = Caption(named=named)
    (_, _), (u, tokens) = shown(generator, n=200)
    sentences = generator.words.texts(tokens)
    assert [read_sentence(sentence, generator.named) for sentence in sentences] == u.tolist()
    assert len(set(sentences)) > 150  # and many sentences say the same


def test_a_letter_and_its_name_tell_each_other():
    generator = Glyphs()
    (u, pictures), (same, tokens) = shown(generator)
    found = nearest(cut_out(coverage(pictures), 28, threshold=0.08), generator.pictures.double() / 255)
    assert torch.equal(found, u[:, 0])
    names = [text.split(" : ")[-1].removeprefix(": ").split(" ;")[0] for text in generator.words.texts(tokens)]
    assert [unicodedata.lookup(name.upper()) for name in names] == [generator.characters[i] for i in same[:, 0]]


def test_half_a_picture_tells_how_many_parts_it_has():
    for u, pictures in shown(Halves(most=16)):
        counted = [ndimage.label(picture > 0.1)[1] for picture in coverage(pictures).numpy()]
        assert counted == (u[:, 0] + 1).tolist()
