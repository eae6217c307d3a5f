"""Default CoT: a reasoning model answers the bare prompt, without any instruction.

LRM-Safety-Study, arXiv 2505.15404, setting 1. Fields: prompt; optional: id, type (kept as a tag). The study keeps only
what a judge of responses finds safe: add a filter for that.
"""

from lrm_safety.nouns import Example
from services.data import distilling
from services.data.asking import Ask
from services.data.source import Row

OPTIONS = distilling.OPTIONS
judges = distilling.judges
PARTS = ("distilling.py",)


def write(row: Row, ask: Ask) -> Example:
    return distilling.distilled(row, ask)
