"""`ssl-mi evaluate WHAT ... --data DATA`: any encoders or features, judged by the same evaluations."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_mi.app.export import add_choice

ABOUT = """\
Judge encoders, or features, as a run judges its own at the end, and more: probes, geometry, and mutual information of
h with the labels and of two views, in nats, each with its interval. Probes are fitted on training images, whatever has
to be chosen is chosen on validation images, everything is measured on test images, once. Several WHATs make a table."""

MORE = """\
what
  RUN, CHECKPOINT        the trained encoder (ssl_mi.load)
  EXPORT                 what `ssl-mi export` wrote: the folder, encoder.ts, encoder.onnx, weights.safetensors
  resnet50, ...          a network of torchvision or timm (timm:resnet50 where both have it), with its weights on this
                         disk or in --weights FILE; --untrained without
  package:make_encoder   an import path: an nn.Module, or what makes one; its attributes size, mean and std, or --size,
                         --mean and --std, say how images reach it
  features.npy           [n, d], with --labels labels.npy (integers or strings: classes; floats: targets of a
                         regression); a fifth of the rows is held out, or --splits FILE of words train, val, test;
                         --paired FILE has features of a second view of each row
  table.parquet          or .csv, .npz, with columns h (or a column a feature), label, split, file, h2, as far as there

data
  a folder of images with a folder per class (train/ and test/ inside, or a tenth is held out), or a data set of
  `ssl-mi train` (digits, shapes, cifar10, ...); of a run, by default its own, pairs too. Another data set than
  the encoder's own measures transfer.

measure
  default     linear,knn,few_labels,regression,geometry,labels,views,pointwise, as far as data have labels and views
  linear      logistic regression by L-BFGS, its penalty chosen on held-out rows: top-1, top-5, mean over classes
  knn         k 200, T 0.1; and the best k and T on validation images
  few_labels  1%, 10%, 10 a class, five draws each        regression  R2 of factors that are numbers
  geometry    RankMe, alpha-ReQ, uniformity, spread of dimensions, collapse in words
  labels      I(h; label), I(z; label), I(h; factor)
  views       I(Z_X; Z_Y), I(H_X; H_Y) by KSG, Gaussian copula and InfoNCE; alignment, uniformity, LiDAR
  pointwise   what each image's two views share, listed in a file: the lowest 5% may be wrong pairs
  retrieval   recall at 1, 5, 10 between the views; accuracy by prompts. In the default of runs on pairs
  sgd         the papers' SGD protocol, 100 epochs        finetune    three epochs of the whole network
  flow        I of the views by a normalising flow        strength    I of the views as they are augmented more

examples
  ssl-mi evaluate runs/simclr_cifar/2026-01-01_12-00-00-000
  ssl-mi evaluate resnet18 --untrained --data photos --size 64
  ssl-mi evaluate mypackage:make_encoder runs/shapes/last --twin --data photos --size 128 --out judged
  ssl-mi evaluate features.npy --labels labels.npy
  ssl-mi evaluate images.npy --paired captions.npy --measure views,pointwise --out pairs

exit status
  0  measured      1  failed: the reason on stderr      2  wrong usage"""

ENCODER = ("which", "view", "trust", "untrained", "size", "mean", "std", "weights")
LIMITS = ("limit", "val_limit", "test_limit")
FEATURES = {"labels": "", "splits_file": "row_splits", "paired": "paired"}
SUFFIXES = (".npy", ".parquet", ".csv", ".npz")


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi evaluate`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("what", metavar="WHAT", nargs="+", help="what is evaluated: see below")
    parser.add_argument("--data", metavar="FOLDER|SET", help="what it is evaluated on: see below")
    parser.add_argument("--measure", default="default", metavar="NAMES", help="with commas: see below")
    parser.add_argument("--augmentation", metavar="NAME", help="of the views; default: that of the run, else simclr")
    parser.add_argument("--twin", action="store_true", help="beside each encoder the same network untrained")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="with N splits: means and their intervals")
    parser.add_argument("--pool", action="store_true", help="the WHATs are seeds of one method: one column of means")
    parser.add_argument("--labels", metavar="FILE", help="of features, .npy: integers or strings; floats: targets")
    parser.add_argument("--splits", dest="splits_file", metavar="FILE", help="of features: train, val, test, .npy")
    parser.add_argument("--paired", metavar="FILE", help="of features: those of a second view of each row, .npy")
    parser.add_argument("--untrained", action="store_true", help="the network with random weights")
    parser.add_argument("--weights", metavar="FILE", help="of a name of torchvision or timm: a file, all or none")
    parser.add_argument("--by-order", action="store_true", help="match --weights by order and shape, not by name")
    parser.add_argument("--size", type=int, help="side of an image, in pixels")
    parser.add_argument("--mean", type=float, nargs="+", help="per channel, of images in [0, 1]")
    parser.add_argument("--std", type=float, nargs="+", help="per channel, of images in [0, 1]")
    parser.add_argument("--limit", type=int, help="fit probes on just this many images")
    parser.add_argument("--val-limit", type=int, help="choose, and fit projections, on just this many images")
    parser.add_argument("--test-limit", type=int, help="measure just this many images")
    parser.add_argument("--seed", type=int, default=0, help="of splits and probes; default: 0")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps; default: cpu")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write all tables here")
    add_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the table, write it where asked, and return the exit status."""
    from ssl_mi.app.external import EvaluatedTogether, pooled
    from ssl_mi.app.startup import clear_errors

    _check_usage(arguments)
    with clear_errors(), _progress():
        found = []
        for what in arguments.what:
            for one in _each(what, arguments):
                found.append(one)
                if len(arguments.what) > 1 or arguments.twin:
                    print(f"measured: {one.what}", file=sys.stderr, flush=True)
                    if arguments.out is not None and not arguments.pool:
                        one.write(arguments.out / str(len(found)))  # what comes next may take an hour, and fail
        if arguments.pool and len(found) > 1:
            found = [pooled(found, "encoders")]
        shown = found[0] if len(found) == 1 else EvaluatedTogether(tuple(found))
        print(shown)
        for i, one in enumerate(found, 1):
            for row in one.rows:
                if row.note:
                    print(f"  {f'[{i}] ' if len(found) > 1 else ''}{row.metric}: {row.note}")
        for line in dict.fromkeys(line for one in found for line in one.left_out):
            print(line)
        if arguments.out is None:
            print("nothing was written: --out DIR keeps the tables")
        else:
            for path in shown.write(arguments.out):
                print(f"written: {path}")
    return 0


@contextmanager
def _progress() -> Iterator[None]:
    """Say on the standard error output what is being measured, and how long each measure took."""
    logger, handler = logging.getLogger("ssl_mi.evaluation.external"), logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _check_usage(arguments: argparse.Namespace) -> None:
    """Refuse, as wrong usage, arguments that would have no effect."""
    of_features = [Path(what).suffix in SUFFIXES for what in arguments.what]
    if all(of_features):
        if arguments.data is not None:
            arguments.wrong_usage("features have no images: give --labels, not --data")
        names = (*ENCODER, *LIMITS, "augmentation", "twin", "by_order")
        if given := [name for name in names if getattr(arguments, name) not in (None, False, 0)]:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            arguments.wrong_usage(f"{flags}: of encoders; features are taken as they are")
    if not any(of_features):
        for name in FEATURES:
            if getattr(arguments, name) is not None:
                arguments.wrong_usage(f"--{name.removesuffix('_file')} are of features.npy; images have theirs")
    if arguments.pool and len(set(arguments.what)) < 2:
        arguments.wrong_usage("--pool takes the mean over several WHATs: name two or more, each once")
    if arguments.by_order and arguments.weights is None:
        arguments.wrong_usage("--by-order says how --weights are matched: give --weights FILE")


def _each(what: str, arguments: argparse.Namespace) -> Iterator[Any]:
    """One WHAT, and its untrained twin where that was asked for."""
    from ssl_mi.app.external import evaluate

    features = Path(what).suffix in SUFFIXES
    common = {name: getattr(arguments, name) for name in ("measure", "seed", "device")}
    common |= {"splits": arguments.repeat}
    if features:
        given = {key: getattr(arguments, name) for name, key in FEATURES.items() if key}
        yield evaluate(what, arguments.labels, **common, **given)
        return
    common |= {name: getattr(arguments, name) for name in (*LIMITS, "augmentation")}
    settings = {name: getattr(arguments, name) for name in ENCODER}
    if arguments.weights is not None and arguments.by_order:
        settings["weights"] = {"path": arguments.weights, "match": "order"}
    yield evaluate(what, arguments.data, **common, **settings)
    if arguments.twin and not arguments.untrained:
        yield evaluate(what, arguments.data, **common, **settings | {"untrained": True})
