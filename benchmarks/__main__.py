"""Run benchmarks and write docs/performance.md.

    python -m benchmarks                     every script that has a row in the table
    python -m benchmarks nt_xent augment     these scripts; the rows of the others stay as they were
    python -m benchmarks --list

Each script runs in a process of its own, on one thread, and compares this package with its peers on the same work,
interleaved. Its `main()` returns rows {work, size, ours, peer, ratio, low, high}: what was done, on how much,
our figure and the peer's with their units, and the median of the ratios peer / ours of each round with their range, so
that a ratio above 1 is in our favour. A row may have a `note`, and `ours_mib` and `peer_mib`, peaks of memory. The
peers: `pip install -e '.[benchmark]'`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ssl_mi import atomic, report

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
ROWS = HERE.parent / "docs" / "performance.json"
CALL = "import importlib, json, sys; json.dump(importlib.import_module(sys.argv[1]).main(), open(sys.argv[2], 'w'))"
HEAD = """\
# Performance

Work that this package and its peers both do, timed side by side by `python -m benchmarks`: one thread, processor time,
the same inputs, rounds interleaved in one process. A ratio is the peer's time to ours (or our rate to the peer's):
above 1 this package is faster. It is the median over rounds, with the range of the rounds. Machines differ by more than
most of these ratios do: run the command on yours.
"""


def scripts() -> list[str]:
    """Names of the scripts whose `main` returns rows."""
    found = []
    for path in sorted(HERE.glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == "main" and node.returns:
                found += [path.stem] if ast.unparse(node.returns).startswith("list") else []
    return found


def run(name: str) -> list[dict[str, Any]]:
    """The rows of one script.

    Args:
        name: Of the script.

    Returns:
        Its rows, each with the script, the machine, the versions, the date and the commit.

    Raises:
        SystemExit: If the script fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        done = subprocess.run(
            [sys.executable, "-c", CALL, f"benchmarks.{name}", str(out)],
            cwd=HERE.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            sys.exit(f"error: benchmarks/{name}.py ended with status {done.returncode}; nothing of it was written")
        rows: list[dict[str, Any]] = json.loads(out.read_text())
    told = report.environment(HERE)
    facts = {
        "script": name,
        "machine": told["machine"],
        "versions": f"python {told['python']}, " + ", ".join(f"{k} {v}" for k, v in told["versions"].items()),
        "commit": told["commit"],
        "date": datetime.now(UTC).date().isoformat(),
    }
    return [{**row, **facts} for row in rows]


def page(rows: list[dict[str, Any]]) -> str:
    """The Markdown page of all rows, a section for each script."""
    lines = [HEAD]
    for name in dict.fromkeys(row["script"] for row in rows):
        some = [row for row in rows if row["script"] == name]
        title = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or name
        lines += [f"## {name}", "", title.split("\n\n")[0].replace("\n", " "), ""]
        lines += ["| work | size | ours | peer | ratio | range |", "|---|---|---|---|---|---|"]
        lines += [_line(row) for row in some]
        facts = some[0]
        lines += ["", f"`python -m benchmarks {name}`, {facts['date']}, commit {facts['commit']}, {facts['machine']}; "]
        lines[-1] += f"{facts['versions']}."
        lines += [""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ratio = "" if row.get("ratio") is None else f"{row['ratio']:.2f}"
    span = "" if row.get("low") is None else f"{row['low']:.2f} .. {row['high']:.2f}"
    note = f" ({row['note']})" if row.get("note") else ""
    if row.get("ours_mib") is not None:
        note += f" ({row['ours_mib']:,.0f} MiB" + (f"; {row['peer_mib']:,.0f} MiB)" if row.get("peer_mib") else ")")
    cells = [f"{row['work']}{note}", row["size"], row["ours"], row["peer"], ratio, span]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value).replace("|", r"\|")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="scripts in benchmarks/; default: all that are listed")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    arguments = parser.parse_args()
    known = scripts()
    if arguments.list:
        print("\n".join(known))
        return 0
    for name in arguments.names:
        if name not in known:
            parser.error(f"there is no benchmark '{name}': {', '.join(known)}")
    kept = json.loads(ROWS.read_text()) if ROWS.exists() else []
    for name in arguments.names or known:
        print(f"== {name}", flush=True)
        kept = [row for row in kept if row["script"] != name] + run(name)
        atomic.write(ROWS, json.dumps(kept, indent=1) + "\n")
        atomic.write(PAGE, page(kept))
    print(f"written: {PAGE}, {ROWS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
