"""BeaverTails: 185,100 prompts with an unsafe answer, 330k train and test (arXiv 2307.04657); CC-BY-NC-4.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="BeaverTails",
    licence="CC-BY-NC-4.0",
    published="hub:PKU-Alignment/BeaverTails",
    question="prompt",
    where={"is_safe": ("false",)},
)
open_source = COLLECTION.open_source
