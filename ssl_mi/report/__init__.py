"""What a run leaves behind, from plain rows: report.json, report.md, tables and plots."""

from ssl_mi.report.environment import environment
from ssl_mi.report.markdown import write
from ssl_mi.report.tables import change_table, closing_table

__all__ = ["change_table", "closing_table", "environment", "write"]
