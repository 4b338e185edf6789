"""`ssl-mi evaluate WHAT --data DATA`: any encoder or features, judged by the evaluations of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssl_mi.app.export import add_choice

ABOUT = """\
Judge an encoder, or features, as a run judges its own at the end: linear probe, kNN, geometry of h and the mutual
information I(h; label) in nats, each with its interval. Probes are fitted on training images, everything is measured
on test images, once."""

MORE = """\
what
  RUN, CHECKPOINT        the trained encoder (ssl_mi.load)
  resnet50, ...          a network of torchvision, with its weights on this disk; --untrained without
  package:make_encoder   an import path: an nn.Module, or what makes one; its attributes size, mean and std, or --size,
                         --mean and --std, say how images reach it
  features.npy           [n, d], with --labels labels.npy; a fifth of the rows is held out

data
  a folder of images with a folder per class (train/ and test/ inside, or a tenth is held out), or a data set of
  `ssl-mi train` (digits, shapes, cifar10, ...); of a run, by default its own

examples
  ssl-mi evaluate runs/simclr_cifar/2026-01-01_12-00-00-000
  ssl-mi evaluate resnet18 --untrained --data photos --size 64
  ssl-mi evaluate mypackage:make_encoder --data photos --size 128 --out judged
  ssl-mi evaluate features.npy --labels labels.npy

exit status
  0  measured      1  failed: the reason on stderr      2  wrong usage"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi evaluate`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("what", metavar="WHAT", help="what is evaluated: see below")
    parser.add_argument("--data", metavar="FOLDER|SET", help="what it is evaluated on: see below")
    parser.add_argument("--labels", metavar="FILE", help="of features: integers or strings, .npy")
    parser.add_argument("--untrained", action="store_true", help="torchvision's network with random weights")
    parser.add_argument("--size", type=int, help="side of an image, in pixels")
    parser.add_argument("--mean", type=float, nargs="+", help="per channel, of images in [0, 1]")
    parser.add_argument("--std", type=float, nargs="+", help="per channel, of images in [0, 1]")
    parser.add_argument("--limit", type=int, help="fit probes on just this many images")
    parser.add_argument("--seed", type=int, default=0, help="of splits and probes; default: 0")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps; default: cpu")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write evaluation.json and evaluation.csv here")
    add_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the table, write it where asked, and return the exit status."""
    from ssl_mi.app.external import evaluate
    from ssl_mi.app.startup import clear_errors

    features = arguments.what.endswith(".npy")
    if features and arguments.data is not None:
        arguments.wrong_usage("features have no images: give --labels, not --data")
    if not features and arguments.labels is not None:
        arguments.wrong_usage("--labels are of features.npy; images have theirs by their folders")
    names = ("which", "view", "trust", "untrained", "size", "mean", "std")
    settings = {} if features else {name: getattr(arguments, name) for name in names}
    with clear_errors():
        found = evaluate(
            arguments.what,
            arguments.labels if features else arguments.data,
            seed=arguments.seed,
            limit=arguments.limit,
            device=arguments.device,
            **settings,
        )
        print(found)
        for row in found.rows:
            if row.note:
                print(f"  {row.metric}: {row.note}")
        if not any(row.evaluation == "probes" for row in found.rows):
            print("there are no labels: probes and I(h; label) are left out")
        if arguments.out is None:
            print("nothing was written: --out DIR keeps the table")
        else:
            for path in found.write(arguments.out):
                print(f"written: {path}")
    return 0
