"""Q-Harm: 100 harmful questions of the Safety-Tuned LLaMAs (arXiv 2309.07875); CC-BY-NC-4.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="QHarm",
    licence="CC-BY-NC-4.0",
    published="https://github.com/vinid/safety-tuned-llamas, data/evaluation/Q-Harm.json",
)
open_source = COLLECTION.open_source
