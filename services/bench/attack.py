"""The contract of an attack: one file in attacks/ that turns a Sample into what is sent to the model.

    OPTIONS = {"words": "how many words of the target open the answer; default 20"}
    def prepare(context: AttackContext) -> Apply: ...

`prepare` is called once a run: it checks its options, reads its files, and returns the function applied to each sample,
in any thread and order. Its choices hang on the context's seed and the sample's id alone, so they are the same for
every model and after every restart. An attack that talks to models does so through `context.generate`.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lrm_safety import registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import AttackSpec, Completion, Prompt, Sample, Sampling
from services.bench.rows import locate

FOLDER = "services.bench.attacks"


# (endpoint, prompts, sampling) -> completions of a deployed model, as they finish
Generate = Callable[[str, Sequence[Prompt], Sampling], Iterator[Completion]]


@dataclass(frozen=True)
class AttackContext:
    seed: int
    endpoint: str  # of the model under attack
    data_dir: Path
    options: Mapping[str, str]
    generate: Generate

    def file(self, option: str) -> Path | None:
        """The file an option names, if it is given. Raises NotFound."""
        return locate(self.options[option], self.data_dir) if self.options.get(option) else None

    def count(self, option: str, default: int) -> int:
        """An option that is a whole number above zero. Raises InvalidInput."""
        if option not in self.options:
            return default
        text = self.options[option]
        if not text.isdecimal() or int(text) == 0:
            raise InvalidInput(f"attack option {option} is {text!r}; expected a whole number above 0")
        return int(text)

    def random(self, sample: Sample) -> random.Random:
        """Chance of this sample's own."""
        return random.Random(f"{self.seed}/{sample.id}")


@dataclass(frozen=True)
class Attempt:
    """A prompt as the attack left it (id and repeat are the evaluation's), and tags for the record."""

    prompt: Prompt
    tags: Mapping[str, str] = field(default_factory=dict)


Apply = Callable[[Sample], Attempt]


@dataclass(frozen=True)
class Attack:
    name: str
    apply: Apply
    digest: str  # of its code, its texts and its options' files


def open_attack(spec: AttackSpec, context: AttackContext) -> Attack:
    """Raises NotFound for an unknown plugin or file, InvalidInput for unknown options."""
    plugin = registry.load(FOLDER, spec.attack)
    unknown = sorted(set(spec.options) - set(plugin.OPTIONS))
    if unknown:
        allowed = ", ".join(plugin.OPTIONS) or "none"
        raise InvalidInput(f"attack {spec.attack}: unknown option {unknown[0]!r}; allowed: {allowed}")
    code = Path(plugin.__file__ or "")
    files = (code, code.with_suffix(".txt"), context.file("path"))
    content = b"".join(path.read_bytes() for path in files if path is not None and path.is_file())
    return Attack(spec.name, plugin.prepare(context), hashlib.sha256(content).hexdigest())
