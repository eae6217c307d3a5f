"""PKU-SafeRLHF: 36,300 prompts of which both answers were unsafe, train and test (arXiv 2406.15513); CC-BY-NC-4.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="PKUSafeRLHF",
    licence="CC-BY-NC-4.0",
    published="hub:PKU-Alignment/PKU-SafeRLHF",
    question="prompt",
    where={"is_response_0_safe": ("false",), "is_response_1_safe": ("false",)},
)
open_source = COLLECTION.open_source
