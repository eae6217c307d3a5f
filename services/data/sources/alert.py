"""ALERT: 14,800 red-teaming prompts, freed from their instruction markers (arXiv 2404.08676); CC-BY-NC-SA-4.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="ALERT",
    licence="CC-BY-NC-SA-4.0",
    published="hub:Babelscape/ALERT",
    question="prompt",
    markers=("### Instruction:\n", "### Instruction:", "### Response:\n", "### Response:"),
)
open_source = COLLECTION.open_source
