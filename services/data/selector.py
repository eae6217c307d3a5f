"""The contract of a selector: one file in selectors/ that chooses `count` examples of a part, seeing all of them.

    OPTIONS = {"tag": "..."}                                     what PartSpec.select_options may say
    def select(examples: Sequence[Example], count: int, seed: int, context: FilterContext) -> list[int]: ...

`examples` lie on disk and are read when they are looked at, in any order: keep ids and tags, not texts. The answer is
`count` different places in them. What is not among them is counted as "not selected".
"""

from collections.abc import Callable, Sequence

from lrm_safety import registry
from lrm_safety.errors import LrmError
from lrm_safety.nouns import Example, PartSpec
from lrm_safety.settings import Settings
from services.data.asking import Asking, Models
from services.data.builder import code_digest
from services.data.filter import FilterContext
from services.data.options import check_options

FOLDER = "services.data.selectors"
Select = Callable[[Sequence[Example], int, int], list[int]]


def prepare(spec: PartSpec, settings: Settings, models: Models) -> tuple[Select, FilterContext]:
    """Raises NotFound for an unknown selector, InvalidInput for an option that it does not have."""
    plugin = registry.load(FOLDER, spec.select)
    check_options(f"selector {spec.select}", spec.select_options, plugin.OPTIONS)
    asking = Asking(f"selector {spec.select}", models)
    context = FilterContext(spec.select, spec.select_options, settings, asking, [code_digest(plugin)], "selector")

    def select(examples: Sequence[Example], count: int, seed: int) -> list[int]:
        chosen: list[int] = plugin.select(examples, count, seed, context)
        if len(set(chosen)) != count or not all(0 <= index < len(examples) for index in chosen):
            raise LrmError(f"selector {spec.select} chose {len(set(chosen))} of {len(examples)}; expected {count}")
        return chosen

    return select, context
