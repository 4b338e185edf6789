"""python -m ssl_mi.app.canaries: does every objective still learn? A short run of each, and one table.

conf/canaries.yaml lists the runs, what each needs beside its objective, and the accuracy it should reach. Columns: the
linear probe of the trained and of the random encoder on the test split, what the file says, effective rank of h and z,
uniformity of z, I(Z_X; Z_Y) by KSG on its first projection (nats), the objective's own bound (nats), seconds. The
exit status is 1 where a run failed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CONF = Path(__file__).parents[2] / "conf"
HEADER = ("objective", "probe", "random", "expected", "rank h", "rank z", "uniform", "KSG", "bound", "s", "")


def main(argv: Sequence[str] | None = None) -> int:
    from omegaconf import OmegaConf

    from ssl_mi.app import startup as cli

    parser = argparse.ArgumentParser(
        prog="python -m ssl_mi.app.canaries", description="A short run of every objective."
    )
    parser.add_argument("names", nargs="*", help="objectives; all of conf/canaries.yaml by default")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    canaries = OmegaConf.load(CONF / "canaries.yaml")
    unknown = [name for name in arguments.names if name not in canaries.runs]
    if unknown:
        parser.error(f"no such run: {', '.join(unknown)}; there are {', '.join(canaries.runs)}")
    failed = 0
    print(_line(HEADER), flush=True)
    for name in arguments.names or canaries.runs:
        run = canaries.runs[name]
        with cli.clear_errors():
            found = measure(name, [*canaries.common, *run.overrides, f"seed={arguments.seed}"])
        expected = run.get("accuracy", math.nan)
        verdict = judge(found, expected, canaries.margin, run.get("tolerance", canaries.tolerance))
        failed += verdict != "ok"
        numbers = [found.get(key, math.nan) for key in ("probe", "random")] + [expected]
        numbers += [found.get(key, math.nan) for key in ("rank_h", "rank_z", "uniformity", "ksg", "bound", "seconds")]
        print(_line([name, *numbers, verdict]), flush=True)
    return int(failed > 0)


def measure(name: str, overrides: Sequence[str]) -> dict[str, float]:
    """Train one, and read what its last evaluation says."""
    from ssl_mi.app.api import last_reading, short_run

    began = time.perf_counter()
    last = last_reading(short_run([f"objective={name}", *overrides]))
    read = {
        "probe": last.get(("linear_probe_accuracy", "trained")),
        "random": last.get(("linear_probe_accuracy", "random")),
        "rank_h": last.get(("effective_rank_h", "trained")),
        "rank_z": last.get(("effective_rank_z", "trained")),
        "uniformity": last.get(("uniformity", "trained")),
        "ksg": last.get(("mi_ksg_cca4_nats", "trained")),
        "bound": next((v for (m, e), v in last.items() if m.startswith("mi_bound_") and e == "trained"), None),
        "seconds": time.perf_counter() - began,
    }
    return {key: value for key, value in read.items() if value is not None}


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


if __name__ == "__main__":
    sys.exit(main())
