"""SimpleSafetyTests: 100 requests over five areas of harm (arXiv 2311.08370); CC-BY-2.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="SimpleSafetyTests",
    licence="CC-BY-2.0",
    published="hub:Bertievidgen/SimpleSafetyTests",
    question="prompt",
)
open_source = COLLECTION.open_source
