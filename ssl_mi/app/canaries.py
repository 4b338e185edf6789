"""`ssl-mi canaries`: does every objective still learn? A short run of each, and one table.

conf/canaries.yaml lists the runs, what each needs beside its objective, and the accuracy it should reach.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence

HEADER = ("objective", "probe", "random", "expected", "rank h", "rank z", "uniform", "KSG", "bound", "s", "")

ABOUT = """\
Train an objective for a few epochs on the embedded shapes, half a minute to two minutes each, and compare
its linear probe with that of the random encoder and, with seed 0, with the accuracy in conf/canaries.yaml."""

MORE = """\
columns
  probe, random      linear-probe accuracy on the test split, of the trained and of the random encoder
  expected           the accuracy in conf/canaries.yaml, of seed 0; other seeds are compared with the random encoder
  rank h, rank z     effective rank of representations and of embeddings; uniform: uniformity of z
  KSG, bound         I(Z_X; Z_Y) by KSG on its first projection, and the objective's own bound; nats
  s                  seconds

examples
  ssl-mi canaries simclr mine
  ssl-mi canaries --all --seed 1
  ssl-mi canaries simclr trainer.max_epochs=1      any override of `ssl-mi train`; the run is not judged then

exit status
  0  every run is ok      1  a run failed      2  wrong usage"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi canaries`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("words", nargs="*", metavar="NAME", help="objectives, and overrides KEY=VALUE for each run")
    parser.add_argument("--all", action="store_true", help="every objective, about half an hour")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def run(arguments: argparse.Namespace) -> int:
    """Train, print a line each, and return the exit status."""
    overrides = [word for word in arguments.words if "=" in word]
    names = [word for word in arguments.words if "=" not in word]
    if bool(names) == arguments.all:
        arguments.wrong_usage("name objectives (simclr, mine, ...), or give --all for every one; not both")
    from omegaconf import OmegaConf

    from ssl_mi.app.paths import conf_dir
    from ssl_mi.app.startup import clear_errors

    canaries = OmegaConf.load(conf_dir() / "canaries.yaml")
    unknown = [name for name in names if name not in canaries.runs]
    if unknown:
        arguments.wrong_usage(f"no such run: {', '.join(unknown)}; there are {', '.join(canaries.runs)}")
    failed = 0
    print(_line(HEADER), flush=True)
    for name in names or canaries.runs:
        canary = canaries.runs[name]
        with clear_errors():
            found = measure(name, [*canaries.common, *canary.overrides, f"seed={arguments.seed}", *overrides])
        # What is written is of seed 0: another seed has another untrained network, .47 to .55 on the shapes.
        expected = canary.get("accuracy", math.nan) if arguments.seed == 0 else math.nan
        tolerance = canary.get("tolerance", canaries.tolerance)
        verdict = "not judged" if overrides else judge(found, expected, canaries.margin, tolerance)
        failed += verdict not in ("ok", "not judged")
        numbers = [found.get(key, math.nan) for key in ("probe", "random")] + [expected]
        numbers += [found.get(key, math.nan) for key in ("rank_h", "rank_z", "uniformity", "ksg", "bound", "seconds")]
        print(_line([name, *numbers, verdict]), flush=True)
    return int(failed > 0)


def measure(name: str, overrides: Sequence[str]) -> dict[str, float]:
    """Train one objective, and collect the figures of its last evaluation."""
    from ssl_mi.app.api import final_measurements, short_run

    began = time.perf_counter()
    last = final_measurements(short_run([f"objective={name}", *overrides]))
    found = {
        "probe": last.get(("linear_probe_accuracy", "trained")),
        "random": last.get(("linear_probe_accuracy", "random")),
        "rank_h": last.get(("effective_rank_h", "trained")),
        "rank_z": last.get(("effective_rank_z", "trained")),
        "uniformity": last.get(("uniformity", "trained")),
        "ksg": last.get(("mi_ksg_cca4_nats", "trained")),
        "bound": next((v for (m, e), v in last.items() if m.startswith("mi_bound_") and e == "trained"), None),
        "seconds": time.perf_counter() - began,
    }
    return {key: value for key, value in found.items() if value is not None}


def judge(found: dict[str, float], expected: float, margin: float, tolerance: float) -> str:
    """ "ok", or why not."""
    if found["probe"] < found["random"] + margin:
        return f"not {margin:g} above random"
    if abs(found["probe"] - expected) > tolerance:
        return f"not within {tolerance:g} of what is expected"
    return "ok"


def _line(cells: Sequence[str | float]) -> str:
    texts = [
        c if isinstance(c, str) else "-" if math.isnan(c) else f"{c:.3f}" if abs(c) < 10 else f"{c:.1f}" for c in cells
    ]
    return f"{texts[0]:<22}" + "".join(f"{text:>10}" for text in texts[1:-1]) + f"  {texts[-1]}"
