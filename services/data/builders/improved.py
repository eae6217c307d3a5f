"""Improved CoT: the risk first, nothing harmful in the thought either, and no second thoughts.

LRM-Safety-Study, arXiv 2505.15404, setting 3. Fields as in `default`. The instruction stands before the request in the
user's turn: on top of `realsafe` it is against overthinking (refuse at once, whatever the framing, and do not
reconsider) and against inconsistency (thought and answer refuse alike, the answer beginning with "Sorry"). The wording
is ours.
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
    return distilling.distilled(row, ask, template(__file__).template, "user")
