"""What a run leaves behind, from plain rows: report.json, report.html, report.md, tables and plots."""

from ssl_mi.report.document import read_document
from ssl_mi.report.environment import environment
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
