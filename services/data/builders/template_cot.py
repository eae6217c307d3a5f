"""Template CoT: the thought is a checklist over eight categories of harm, with a conclusion.

LRM-Safety-Study, arXiv 2505.15404, setting 5. Fields as in `default`. The instruction, with one worked example, is the
system's turn; the model writes the think tags itself. The wording is ours.
"""

from lrm_safety.nouns import Example
from services.data import distilling
from services.data.asking import Ask
from services.data.builder import template
from services.data.source import Row

OPTIONS = distilling.INSTRUCTED
judges = distilling.judges
PARTS = ("distilling.py",)


def write(row: Row, ask: Ask) -> Example:
    return distilling.distilled(row, ask, template(__file__).template, "system")
