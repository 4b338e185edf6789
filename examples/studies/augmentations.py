"""python examples/studies/augmentations.py: what does each augmentation destroy?

The exact nats that an augmentation leaves of a factor in a view, I(factor; V), for sprites (data/known/sprites.py),
whose factors are independent and uniform. Up to rounding to 8 bits.

    no augmentation    ln K, all of it: a sprite tells its factors.
    wrap-around shift  Every place is equally likely whatever the position was: 0 of it. What was seen before is still
                       seen, if round the border: all of the rest.
    flip, chance 1/2   Positions left and right, and tilts left and right, change places together: a view is as likely
                       from a pair (position, tilt) as from its mirror image. Given a view both are told or both are
                       mirrored, so that one of 2/3 of the values leaves its factor at one bit: ln K - (2/3) ln 2.
    hue turn, uniform  The two hues turn by one angle, uniform on the circle, which leaves their difference. HSV keeps
                       the largest channel V = light + chroma m, m = 2 / sqrt 6 for red, green and blue, half of it for
                       the others, and light is uniform on an interval of width w: with probability
                       q = chroma / (w sqrt 6) the largest channel tells which three a hue is of, else nothing. With
                       the difference, ink and paper tell it of each other: (1 - (1 - q)^2) ln 2 of either.
    grayscale          Of a colour its luma, uniform on an interval of width w that begins where the hue says:
                       I = h(mixture of six) - ln w.

None: no closed form. A crop may leave out the sprite; blur and jitter are (nearly) invertible, so that what they leave
is no question of probability but of what an encoder can still see. A rotation about the centre turns place and tilt
alike: what it leaves of each hangs on how well they tell the angle of each other.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from measures import NO_EVALUATION, factor_nats
from ssl_mi.app.api import short_run
from ssl_mi.data.images.colour import LUMA
from ssl_mi.data.images.shapes import colour
from ssl_mi.data.known.sprites import CHROMA, FACTORS, INK, PAPER
from ssl_mi.evaluation.context import EvaluationContext
from ssl_mi.evaluation.embed import untouched
from study import Row, Study, Verdict, main, over_seeds, pick

ENTROPY = {name: math.log(len(values)) for name, values in FACTORS.items()}
GEOMETRIC = ("shape", "size", "position", "orientation")
NONE = "none"

# Ops of ssl_mi/data/images/augmentations.py, done to both views of an image with draws of their own.
AUGMENTATIONS: dict[str, list[dict]] = {
    NONE: [],
    "hue turn": [{"_target_": "ColorJitter", "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.5, "p": 1.0}],
    "colour jitter": [{"_target_": "ColorJitter", "hue": 0.5, "p": 1.0}],
    "grayscale": [{"_target_": "Grayscale", "p": 1.0}],
    "wrap-around shift": [{"_target_": "WrapShift"}],
    "crop": [{"_target_": "RandomResizedCrop", "size": "${data.size}", "scale": [0.3, 1.0]}],
    "flip": [{"_target_": "HorizontalFlip", "p": 0.5}],
    "rotation": [{"_target_": "Rotation", "degrees": 180}],
    "blur": [{"_target_": "GaussianBlur", "sigma": [1.0, 2.0], "p": 1.0, "kernel_size": 9}],
}
# (augmentation, factor): what it is there to destroy, and is to be gone from h of its views.
TARGETS = (
    ("hue turn", "colour"),
    ("hue turn", "background"),
    ("colour jitter", "colour"),
    ("grayscale", "colour"),
    ("wrap-around shift", "position"),
    ("crop", "position"),
    ("rotation", "position"),
)
# And of the images as they are, from what: h, or only z.
INVARIANT = (
    ("hue turn", "colour", "clean"),
    ("colour jitter", "colour", "clean"),
    ("wrap-around shift", "position", "clean_z"),
    ("crop", "position", "clean_z"),  # failed when stored, and is still asked
)
WORDS = {"views": "h of views", "clean": "h of images", "clean_z": "z of images"}
TOLERANCE = 0.05  # nats by which an estimate on 4,000 images may lie above what there is


def left_in_views() -> dict[str, dict[str, float]]:
    """{augmentation: {factor: I(factor; V) in nats}}, where there is a closed form (see the top)."""
    hue, both = hue_nats(), ("colour", "background")
    flipped = {name: ENTROPY[name] - 2 / 3 * math.log(2) for name in ("position", "orientation")}
    grey = {"colour": luma_nats(INK), "background": luma_nats(PAPER)}
    return {
        NONE: ENTROPY,
        "hue turn": ENTROPY | dict.fromkeys(both, hue),
        "grayscale": ENTROPY | grey,
        "wrap-around shift": ENTROPY | {"position": 0.0},
        "flip": ENTROPY | flipped,
        # Some of the paper is seen as it was, whatever is done to the rest.
        **{name: {"background": ENTROPY["background"]} for name in ("crop", "rotation", "blur")},
    }


def hue_nats() -> float:
    told = [CHROMA / (math.sqrt(6) * (high - low)) for low, high in (INK, PAPER)]
    return (1 - math.prod(1 - min(1.0, q) for q in told)) * math.log(2)


def luma_nats(light: tuple[float, float]) -> float:
    """I(hue; luma) where luma is uniform on [a_k, a_k + w]: h(mixture) - ln w, the mixture constant between ends."""
    hues = torch.arange(6) * (math.pi / 3)
    at = colour(torch.full((6,), light[0]), torch.full((6,), CHROMA), hues) @ torch.tensor(LUMA)
    starts, width = at.double().numpy(), (light[1] - light[0]) * sum(LUMA)
    ends = np.sort(np.concatenate([starts, starts + width]))
    middle, length = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    inside = (middle[:, None] > starts) & (middle[:, None] < starts + width)
    density = inside.sum(1) / (len(starts) * width)
    some = density > 0
    return float(-(length[some] * density[some] * np.log(density[some])).sum() - math.log(width))


ABOUT = f"""
Two augmented views of one image share the information that the augmentation preserves. The rest does not lower the
loss (Chen et al. 2020, [arXiv:2002.05709](https://arxiv.org/abs/2002.05709); von Kügelgen et al. 2021,
[arXiv:2106.04619](https://arxiv.org/abs/2106.04619)). This study measures it in nats. Images are sprites with six
independent factors ({", ".join(f"{name} {len(values)}" for name, values in FACTORS.items())} values). A view is one
augmentation of the image, and two views of an image are a pair (InfoNCE, cosine critic of learned temperature). Three
quantities are estimated by mixed KSG on projections to 4 dimensions, fitted on other images:

- **h of views**, I(h(V); factor): the information about a factor that passes through augmentation and encoder. By
  data processing it is at most I(factor; V), the information that remains in a view;
  `examples/studies/augmentations.py` derives the closed forms.
- **h of images**, I(h; factor) of images that are not augmented. It is not bounded by what remains in a view, but
  decreases where training made the representation invariant.
- **z of images**, I(z; factor): the same for the embedding, which the loss is computed from. By data processing it is
  at most I(h; factor).
"""


def jobs(quick: bool) -> list[Row]:
    return [{"augmentation": name} for name in ((NONE, "hue turn", "wrap-around shift") if quick else AUGMENTATIONS)]


def measure(job: Row, seed: int, quick: bool) -> list[Row]:
    """Train on two such views of each image -> a row a factor; without augmentation, of the random encoder too."""
    tiny = ["data.sets.train=500", "data.sets.test=300", "trainer.max_epochs=1", "encoder.widths=[8,16]"]
    full = ["data.sets.train=10000", "data.sets.test=4000", "trainer.max_epochs=10", "encoder.widths=[16,32,64,128]"]
    run = short_run(
        [
            *("data=sprites", "data.batch_size=128", "objective=clip", "optimizer.lr=2e-3", f"seed={seed}"),
            *("towers.projector.dims=[256,32]", f"augmentation.views={views(AUGMENTATIONS[job['augmentation']])}"),
            *("trainer.accelerator=cpu", "trainer.devices=1"),
            *(tiny if quick else full),
            *NO_EVALUATION,
        ]
    )
    rows = [{"encoder": "trained", **row} for row in read(run)]
    if job["augmentation"] == NONE:
        run.module.towers = run.evaluate.initial
        rows += [{"encoder": "random", **row} for row in read(run)]
    return rows


def views(ops: Sequence[Mapping]) -> str:
    """augmentation.views of the configuration, as Hydra's command line has it: one kind of view, twice."""
    package = "ssl_mi.data.images.augmentations"
    named = [{**op, "_target_": f"{package}.{op['_target_']}"} for op in ops]
    return _text([{"_target_": f"{package}.View", "count": 2, "ops": named}])


def _text(value) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text(x)}" for name, x in value.items()) + "}"
    return "[" + ",".join(map(_text, value)) + "]" if isinstance(value, list) else str(value)


def read(run) -> list[Row]:
    """Of test images, in nats: I(h; factor) of an augmented view and of the image as it is, and I(z; factor) of it."""
    context = EvaluationContext(run.module, run.data, "test", run.trainer.max_epochs)
    factors = [getattr(run.data, split).factors for split in ("val", "test")]
    clean = [context.features(split).h for split in ("val", "test")]
    with untouched(run.module):
        projector = run.module.towers.tower_of(0).projector
        embedded = [projector(h.to(run.module.device)).float().cpu() for h in clean]
    seen = {"views": [context.pairs(split).h[0] for split in ("val", "test")], "clean": clean, "clean_z": embedded}

    def nats(x: Sequence[Tensor], name: str) -> float:
        return factor_nats(x[0], factors[0][name], x[1], factors[1][name])

    return [{"factor": name, **{column: nats(x, name) for column, x in seen.items()}} for name in FACTORS]


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    names, exact = swept(rows), left_in_views()

    def nats(augmentation: str, factor: str, column: str = "clean") -> np.ndarray:
        return np.array(pick(rows, column, augmentation=augmentation, factor=factor, encoder="trained"))

    compared = [(a, f, "views") for a, f in TARGETS] + list(INVARIANT)
    claims = [
        over_seeds(
            f"{f} under {a}, {WORDS[c]}, minus without augmentation, nats", nats(a, f, c) - nats(NONE, f, c), below=0
        )
        for a, f, c in compared
        if a in names
    ]
    # Nothing exceeds ln K: it is where less is left that closed form and estimator are put to the test.
    less = [(a, f, left) for a in names for f, left in exact.get(a, {}).items() if left < ENTROPY[f]]
    excess = [nats(a, f, "views") - left for a, f, left in less]
    claims.append(
        over_seeds(
            f"I(h of views; factor) minus the exact bound, largest of the {len(excess)} with a bound below H(factor), "
            "nats",
            np.max(excess, axis=0),
            below=TOLERANCE,
        )
    )
    return claims


def swept(rows: Sequence[Row]) -> list[str]:
    return [name for name in AUGMENTATIONS if any(row["augmentation"] == name for row in rows)]


def table(rows: Sequence[Row], column: str, encoder: str = "trained") -> np.ndarray:
    """Mean over seeds: [augmentations, factors]; of the random encoder, one row."""
    names = swept(rows) if encoder == "trained" else [NONE]
    where = [[{"augmentation": a, "factor": f, "encoder": encoder} for f in FACTORS] for a in names]
    return np.array([[np.mean(pick(rows, column, **w)) for w in line] for line in where])


def picture(rows: Sequence[Row], path: Path) -> None:
    """Three heat maps, factor by augmentation: what is left exactly, what h of views has, what h of images has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, exact = swept(rows), left_in_views()
    entropies = np.array(list(ENTROPY.values()))
    left = np.array([[exact.get(a, {}).get(f, math.nan) for f in FACTORS] for a in names])
    panels = [
        ("left in a view, exact: I(factor; V)", left, names),
        ("h of augmented views: I(h(V); factor)", table(rows, "views"), names),
    ]
    for column, title in (("clean", "h of images as they are: I(h; factor)"), ("clean_z", "z of them: I(z; factor)")):
        values = np.vstack([table(rows, column), table(rows, column, "random")])
        panels.append((title, values, [*names, "(untrained)"]))
    figure = Figure(figsize=(13, 0.72 * len(names) + 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, height_ratios=[len(names), len(names) + 1]).flat
    for axis, (title, values, labels) in zip(axes, panels, strict=True):
        axis.imshow(np.nan_to_num(values / entropies), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(values.shape):
            share = values[i, j] / entropies[j]
            text = "?" if math.isnan(share) else f"{values[i, j]:.2f}".replace("-0.00", "0.00")
            axis.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if share > 0.6 else "black")
        if len(labels) > len(names):
            axis.axhline(len(names) - 0.5, color="black", lw=1)
        axis.set_xticks(range(len(FACTORS)), [f"{f}\n{h:.2f}" for f, h in ENTROPY.items()], fontsize=8.5)
        axis.set_yticks(range(len(labels)), labels, fontsize=9)
        axis.set_title(title, fontsize=10.5)
        axis.spines[:].set_visible(False)
    seeds = len({row["seed"] for row in rows})
    figure.suptitle(
        f"what an augmentation destroys: nats about each factor (below its name: all there are), mean of {seeds} seeds"
        "; ?: no closed form",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


def seen(rows: Sequence[Row]) -> str:
    exact, factors, names = left_in_views(), list(FACTORS), swept(rows)
    means = {column: table(rows, column) for column in WORDS}
    random = table(rows, "clean", "random")[0]

    def at(column: str, augmentation: str, factor: str) -> float:
        return means[column][names.index(augmentation), factors.index(factor)]

    lines = ["| | remaining in a view, exact | h of views | h of images | z of images | h of images, no augmentation |"]
    lines.append("|---|---|---|---|---|---|")
    for a, f in TARGETS:
        if a in names:
            left = exact.get(a, {}).get(f)
            spread = [np.std(pick(rows, c, augmentation=a, factor=f, encoder="trained"), ddof=1) for c in WORDS]
            read = " | ".join(f"{at(c, a, f):.3f} ± {sd:.3f}" for c, sd in zip(WORDS, spread, strict=True))
            lines.append(
                f"| {f} under {a} | {'no closed form' if left is None else f'{left:.3f}'} | {read} "
                f"| {at('clean', NONE, f):.3f} |"
            )
    lines += ["", "Nats; mean ± standard deviation over seeds.", ""]
    shift, place, hue = "wrap-around shift", "position", factors.index("colour")
    if shift in names:
        lines += [
            "Training with hue turns also removes colour from h of images: "
            f"{at('clean', 'hue turn', 'colour'):.2f} nats, compared with {random[hue]:.2f} before training. Position "
            "is not removed by wrap-around shifts: h of an image that is not shifted retains "
            f"{at('clean', shift, place):.2f} of 2.20 nats (before training "
            f"{random[factors.index(place)]:.2f}), z {at('clean_z', shift, place):.2f}. The loss does not reward "
            "information that the views do not share, but it does not remove it from h either.",
            "",
            "Encoders learn the factors that identify a pair. After training with hue turns h contains more about "
            f"shape and size ({at('clean', 'hue turn', 'shape'):.2f} and {at('clean', 'hue turn', 'size'):.2f} nats) "
            f"than without augmentation ({at('clean', NONE, 'shape'):.2f} and {at('clean', NONE, 'size'):.2f}). "
            "Without augmentation the two views are identical, and any property that differs between images identifies "
            "the pair.",
        ]
    if "crop" in names:
        lines += [
            "",
            "The claim that cropping removes position from z is tested below. Crops reduce the position in the views "
            f"({at('views', 'crop', place):.2f} nats in h of views), but the remaining position helps to identify the "
            f"pair: z of an image that is not cropped contains {at('clean_z', 'crop', place):.2f} of 2.20 nats, "
            f"{at('clean_z', NONE, place):.2f} without augmentation.",
        ]
    return "\n".join(lines)


STUDY = Study("augmentations", "What does each augmentation destroy?", ABOUT, jobs, measure, verdicts, picture, seen)

if __name__ == "__main__":
    sys.exit(main(STUDY))
