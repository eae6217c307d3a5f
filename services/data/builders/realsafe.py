"""RealSafe: a reasoning model is told to watch for risk and to refuse clearly.

LRM-Safety-Study, arXiv 2505.15404, setting 2. Fields as in `default`. The instruction stands before the request in the
user's turn. The structure is that of RealSafe-R1's, the wording is ours.
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
