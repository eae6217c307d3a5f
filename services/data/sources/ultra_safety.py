"""UltraSafety: 3,000 harmful instructions (arXiv 2402.19085); MIT."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="UltraSafety",
    licence="MIT",
    published="hub:openbmb/UltraSafety",
    question="instruction",
)
open_source = COLLECTION.open_source
