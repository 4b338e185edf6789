"""What a run leaves behind, from plain rows: report.json, report.html, report.md, tables and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy
from ssl_mi.report.environment import environment  # of the same name as its module, which would take its place

if TYPE_CHECKING:
    from ssl_mi.report.document import read_document
    from ssl_mi.report.markdown import rebuild, write
    from ssl_mi.report.summary import DIVERGED, ending
    from ssl_mi.report.tables import change_table, closing_table, short_table

__all__ = [
    "DIVERGED",
    "change_table",
    "closing_table",
    "ending",
    "environment",
    "read_document",
    "rebuild",
    "short_table",
    "write",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "document": ("read_document",),
        "markdown": ("rebuild", "write"),
        "summary": ("DIVERGED", "ending"),
        "tables": ("change_table", "closing_table", "short_table"),
    },
)
