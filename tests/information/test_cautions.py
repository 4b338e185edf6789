"""Every code of a Caution is provoked here by samples, and explained in docs/estimating.md under an anchor of its own.

The page shows each message with other numbers; thresholds, which are constants of the code, must be the same.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ssl_mi import information
from ssl_mi.information import (
    Estimate,
    cca_mi,
    conditional_ksg,
    conditional_mutual_information,
    discrete_mi,
    infonce,
    ksg,
    lnc,
    mi_matrix,
    mixed_ksg_ross,
    mutual_information,
    with_interval,
    with_uncertainty,
)
from ssl_mi.information.apps.estimation import FEWEST_ROWS
from ssl_mi.information.core.inputs import FEW_TIES
from ssl_mi.information.estimators.auto import pipeline
from ssl_mi.information.inference.subsampling import SUBSETS
from ssl_mi.information.variational.training import Training

HOME = Path(information.__file__).parent
PAGE = (HOME.parents[1] / "docs" / "estimating.md").read_text()
NUMBER = re.compile(r"(?<![\w^])[-+]?\d[\d.,]*(?<![.,])%?")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((1000, 2))
Y = X + RNG.standard_normal((1000, 2))
WIDE_X = RNG.standard_normal((1000, 16))
WIDE_Y = RNG.standard_normal((1000, 16)) + 1.5 * WIDE_X * (np.arange(16) < 6)
DEAD = np.where(np.isin(np.arange(8), [0, 2, 5]), 0.1, RNG.standard_normal((1000, 8)))
TWICE = np.tile(X, (2, 1)), np.tile(Y, (2, 1))
LABELS = RNG.integers(0, 3, 1000)
CLASSES = np.random.default_rng(1).permutation(np.arange(1000) % 100)
CENTRES = 20 * np.random.default_rng(2).standard_normal((100, 2))
VIEWS = [side[np.arange(1000) % 250] + 0.05 * X for side in np.random.default_rng(4).standard_normal((2, 250, 2))]

given = partial(conditional_mutual_information, permutations=0)
quick = partial(mutual_information, learned=False, permutations=0)


def halves_that_differ():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6))
    return x, x + 0.3 * rng.standard_normal((60, 6))


def blurred():
    """9.2 nats in 4 + 4 dimensions: boxes of 12 neighbours blur what 3 already blur."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((800, 4))
    return with_uncertainty(ksg, x, x + 0.1 * rng.standard_normal((800, 4)), permutations=0, subsets=0)


def many_rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MOST_ROWS", 500)
        return quick(X[:, 0], Y[:, 0])


def with_labels(*counts):
    return np.r_[LABELS[: 1000 - sum(counts)], np.repeat(10 + np.arange(len(counts)), counts)]


PROVOKED = [
    ("own", lambda: Estimate(0.0, warnings=("a sentence of mine",))),
    ("constant-columns", lambda: ksg(DEAD, Y)),
    ("dropped-repeats", lambda: ksg(*TWICE)),
    ("shared-atom", lambda: quick(np.maximum(X, 0).min(1), np.maximum(X, 0).min(1) * np.exp(Y[:, 0]))),
    ("repeated-rows", lambda: ksg(*TWICE, duplicates="keep")),
    ("ties", lambda: ksg(np.round(X, 1), Y)),
    ("ties", lambda: conditional_ksg(np.round(X, 1), Y, X)),
    ("dequantized", lambda: ksg(X.astype(np.float16), Y)),
    ("low-precision", lambda: ksg(X.astype(np.float16), Y, dequantized=False)),
    ("constant-side", lambda: quick(X, np.zeros(1000, int))),
    ("single-labels", lambda: mixed_ksg_ross(X, with_labels(1, 1))),
    ("small-labels", lambda: mixed_ksg_ross(X, with_labels(2, 3, 3))),
    ("rare-labels", lambda: quick(X, with_labels(2))),
    ("no-interval", lambda: with_interval(mixed_ksg_ross, X[:40], np.arange(40) // 2, labelled=True)),
    ("sparse-counts", lambda: discrete_mi(RNG.integers(0, 30, 1000), RNG.integers(0, 30, 1000))),
    ("few-rows", lambda: ksg(X[:150], Y[:150])),
    ("few-rows", lambda: quick(X[:300], Y[:300])),
    ("few-rows-for-dimensions", lambda: quick(RNG.standard_normal((400, 64)), RNG.standard_normal((400, 1)))),
    ("many-dimensions", lambda: ksg(WIDE_X, Y)),
    ("few-rows-for-ranks", lambda: cca_mi(RNG.standard_normal((300, 40)), RNG.standard_normal((300, 40)))),
    ("infinite-information", lambda: cca_mi(X, 2 * X + 1)),
    ("near-ceiling", lambda: ksg(X, X)),
    ("grows-with-rows", lambda: ksg(X[:, 0], X[:, 0] ** 2)),
    ("grows-with-rows", lambda: lnc(X[:, 0], X[:, 0])),
    ("integers-as-labels", lambda: quick(CENTRES[CLASSES] + 0.1 * X, CLASSES)),
    ("dependent-rows", lambda: quick(np.cumsum(X[:, 0]), np.cumsum(X[:, 1]))),
    ("clustered-rows", lambda: quick(*VIEWS)),
    ("few-independent-rows", lambda: quick(X[:, 0], X[:, 1], blocks=90)),
    ("few-permutations", lambda: mi_matrix({"x": X[:, 0], "y": Y[:, 0], "z": Y[:, 1]}, estimator=ksg, permutations=9)),
    ("many-given", lambda: given(X[:300, 0], Y[:300, 0], WIDE_X[:300, :6])),
    ("changing-dependence", lambda: given(X[:, 0], X[:, 0] * X[:, 1] + RNG.standard_normal(1000), X[:, 1])),
    (
        "no-conditional-test",
        lambda: conditional_mutual_information(
            LABELS.astype(str), Y[:, 0], X[:, 1], permutations=9, groups=np.arange(1000) // 2
        ),
    ),
    ("small-strata", lambda: given(X[:, 0], Y[:, 0], with_labels(20).astype(str))),
    ("short-blocks", lambda: quick(np.cumsum(X[:, 0]), np.cumsum(X[:, 1]), blocks=10)),
    ("near-ceiling", lambda: quick(X, X)),
    ("disagreement-over-k", blurred),
    ("halves-disagree", lambda: quick(*halves_that_differ())),
    ("projection-gap", lambda: quick(WIDE_X, WIDE_Y)),
    ("gaussian-tail", lambda: quick(WIDE_X, WIDE_Y)),
    ("linear-only", lambda: quick(WIDE_X, WIDE_Y)),
    ("bias-correction", lambda: quick(WIDE_X, WIDE_Y)),
    ("subsample", many_rows),
    ("fine-waves", lambda: quick(X[:, 0], np.sin(100 * X[:, 0] + 30 * X[:, 0] ** 2))),
    ("learned-by-heart", lambda: infonce(WIDE_X, WIDE_Y, "separable", training=Training(max_steps=200))),
    ("below-neighbours", lambda: infonce(X[:, 0], X[:, 0] ** 2, "separable", training=Training(max_steps=1))),
    ("below-neighbours", lambda: infonce(WIDE_X, WIDE_Y, "separable", training=Training(max_steps=1))),
]
# Of fits that go wrong, which take their own set-up: provoked in tests/information/variational and tests/evaluation.
ELSEWHERE = {
    "above-entropy",
    "above-log-n",
    "bound-near-ceiling",
    "collapse",
    "equal-rows",
    "narrowed",
    "copies-of-fitted-rows",
    "few-test-rows",
    "fit-cut-short",
    "fit-diverged",
    "fit-fell",
    "fits-disagree",
    "heavy-tail",
    "narrow-density",
    "too-few-labels",
    "zero-by-choice",
}


def entries():
    """{code: its entry on the page}."""
    parts = re.split(r'<a id="([a-z0-9-]+)"></a>', PAGE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def pattern(caution):
    """The message, with anything for a number or a name that comes from the samples; thresholds as they are."""
    text = str(caution)
    for value in caution.numbers.values():
        if isinstance(value, str):
            text = re.sub(rf"\b{re.escape(value)}\b", "<name>", text, count=1)
    threshold = str(caution.numbers.get("threshold", ""))
    assert threshold in text
    text = NUMBER.sub(lambda found: found[0] if found[0] == threshold else "<number>", text)
    return re.escape(text).replace("<name>", r"\w+").replace("<number>", rf"(?:{NUMBER.pattern})")


@pytest.mark.parametrize(("code", "provoke"), PROVOKED, ids=[code for code, _ in PROVOKED])
def test_a_caution_is_given_where_it_should_be_and_explained_with_its_thresholds(code, provoke):
    given = [caution for caution in provoke().warnings if caution.code == code]
    assert given
    entry = entries()[code]
    for caution in given if code != "own" else ():
        shown = re.findall(r"`([^`]+)`", entry)
        assert any(re.fullmatch(pattern(caution), text) for text in shown), (str(caution), shown)


def test_clean_samples_give_none():
    assert ksg(X, Y).warnings == ()
    assert cca_mi(X, Y).warnings == ()


def test_every_code_in_the_code_is_provoked_and_explained_and_none_is_explained_that_is_not_there():
    written = {
        code
        for path in HOME.parent.rglob("*.py")
        for code in re.findall(r"\bCaution\(\s*\"([a-z0-9-]+)\"", path.read_text())
    } | {"own"}
    provoked = {code for code, _ in PROVOKED}
    assert written <= provoked | ELSEWHERE
    assert provoked <= written
    assert set(entries()) == provoked | ELSEWHERE


@pytest.mark.parametrize(
    "phrase",
    [
        f"needs {pipeline.FEWEST_ROWS} rows ({pipeline.FEW_ROWS} to be at ease)",
        f"too few rows to fit networks ({2 * pipeline.LEARNING_ROWS:,})",
        f"More than {1 - FEW_TIES:.0%} of the rows repeat",
        f"too few for {SUBSETS} parts; it takes {FEWEST_ROWS}`",
        f"a part of 1/{SUBSETS} of the rows was refused",
    ],
)
def test_numbers_in_the_prose_are_those_of_the_code(phrase):
    assert phrase in PAGE
