"""The files of a run that a report is made of: report.json and samples.npz, read without executing code."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

JSON, SAMPLES = "report.json", "samples.npz"
NUMBERS = ("value", "low", "high", "baseline", "ceiling", "p_value")
CHANGES = tuple(f"since_{of}{end}" for of in ("first", "previous") for end in ("", "_low", "_high"))


def read_document(folder: Path) -> dict[str, Any]:
    """What a run recorded, with NaN where report.json has null for a number.

    Args:
        folder: Of the run.

    Raises:
        ValueError: If there is no report.json, or it is not that of a run.
    """
    path = folder / JSON
    if not path.is_file():
        raise ValueError(f"{folder} has no {JSON}: it is no folder of a run that ended; give a run's folder")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or not {"rows", "ended", "seconds"} <= set(document):
        raise ValueError(f"{path} is not the report of a run: leave its folder out")
    return filled(document)


def filled(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document whose rows have every column: NaN for a number that there is none of.

    Args:
        document: As JSON has it.
    """
    return {**document, "rows": [_numbers(row) for row in document["rows"]]}


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    filled = {name: math.nan for name in (*NUMBERS, *CHANGES) if row.get(name) is None}
    defaults = {"panel": "", "headline": "", "note": "", "n": 0, "quantity": row.get("metric", ""), "evaluation": ""}
    return {**defaults, **row, **filled}


def read_samples(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of samples.npz; empty where there is none, or it cannot be read.

    Args:
        folder: Of the run.
    """
    try:
        with (folder / SAMPLES).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}
