"""Curves in a terminal, out of block characters."""

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 60, 6  # characters


def curve(values: Sequence[float]) -> list[str]:
    """Lines from top to bottom, the highest and the lowest value beside them; a column is a mean of its steps."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ["(no finite value)"]
    columns = _columns(finite)
    low, high = min(columns), max(columns)
    eighths = [1 + round((value - low) / ((high - low) or 1) * (8 * HEIGHT - 1)) for value in columns]
    lines = ["".join(BLOCKS[max(0, min(8, filled - 8 * row))] for filled in eighths) for row in reversed(range(HEIGHT))]
    lines[0] += f" {high:.4g}"
    lines[-1] += f" {low:.4g}"
    return lines


def _columns(values: Sequence[float]) -> list[float]:
    count = min(WIDTH, len(values))
    edges = [len(values) * column // count for column in range(count + 1)]
    return [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]
