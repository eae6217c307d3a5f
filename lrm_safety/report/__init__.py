"""The report of a run: its outcome and records as a terminal table, Markdown, JSON, a plot and one HTML page.

It renders only. Whoever calls fetches the messages (by RPC) and hands them over as `ReportData`.

    data = ReportData(outcome, dataset, metrics, records)      # records("bench-1f3a…") streams that run's Records
    terminal(data, rich.console.Console())
    write_folder(data, Path("report"))                         # report.html, report.md, report.json, axes.svg
"""

from lrm_safety.report.document import as_json
from lrm_safety.report.facts import ReportData
from lrm_safety.report.folder import write_folder
from lrm_safety.report.github import markdown
from lrm_safety.report.page import html
from lrm_safety.report.plots import axes_svg
from lrm_safety.report.screen import terminal

__all__ = ["ReportData", "as_json", "axes_svg", "html", "markdown", "terminal", "write_folder"]
