"""STAR-1's diversity step (arXiv 2504.01903, section 2.3): takes away what there is most of, until `count` are left.

The weight of an example is the share of its source among the examples, times the sum over its categories of their
shares among all memberships; the example of greatest weight goes, the first of equals, and all shares are counted
again. Reads the tags `source` and `category` (several are joined by "; "). There is no chance in it: the seed decides
nothing, the order of the examples what goes first.
"""

from collections.abc import Sequence

import numpy as np

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data.filter import FilterContext

OPTIONS: dict[str, str] = {}
Kind = tuple[str, frozenset[str]]  # source, categories: examples of one kind weigh the same


def select(examples: Sequence[Example], count: int, seed: int, context: FilterContext) -> list[int]:
    """Indices of the `count` examples that stay, in order. Raises InvalidInput for one without source or category.

    Memory: an index each. Time: (n - count) steps over the kinds there are, of which STAR-1 has 151.
    """
    members: dict[Kind, list[int]] = {}
    for index, example in enumerate(examples):
        members.setdefault(_kind(example), []).append(index)
    gone = _removed(members, count)
    return sorted(index for kind, indices in members.items() for index in indices[gone[kind] :])


def _removed(members: dict[Kind, list[int]], count: int) -> dict[Kind, int]:
    """How many of each kind go, always its first ones."""
    has, of_source = _memberships(list(members))
    left = np.array([len(indices) for indices in members.values()], dtype=np.int64)
    first = np.array([indices[0] for indices in members.values()])
    queues = [iter([*indices[1:], -1]) for indices in members.values()]
    removed = np.zeros_like(left)
    for _ in range(int(left.sum()) - count):
        # The denominators of the shares are the same for all, so whole numbers weigh the same, and ties are exact.
        weights = (of_source @ (left @ of_source)) * (has @ (left @ has))
        heaviest = np.flatnonzero((weights == weights[left > 0].max()) & (left > 0))
        kind = heaviest[np.argmin(first[heaviest])]
        left[kind] -= 1
        removed[kind] += 1
        first[kind] = next(queues[kind])
    return dict(zip(members, removed.tolist(), strict=True))


def _memberships(kinds: Sequence[Kind]) -> tuple[np.ndarray, np.ndarray]:
    """Which categories and which source a kind has: two tables of 0 and 1, [kinds, categories] and [kinds, sources]."""
    categories = sorted({category for _, all_of_it in kinds for category in all_of_it})
    sources = sorted({source for source, _ in kinds})
    has = np.array([[category in its for category in categories] for _, its in kinds], dtype=np.int64)
    of_source = np.array([[source == its for source in sources] for its, _ in kinds], dtype=np.int64)
    return has, of_source


def _kind(example: Example) -> Kind:
    categories = frozenset(name.strip() for name in example.tags.get("category", "").split(";") if name.strip())
    source = example.tags.get("source", "")
    if not (categories and source):
        raise InvalidInput(
            f"selector diversity: example {example.id} has no {'source' if categories else 'category'}; it needs the "
            f"tags `category` and `source` on every example, as builders star1 and star1_file set them"
        )
    return source, categories
