"""HarmfulQA: 2,000 harmful questions by topic (arXiv 2308.09662); Apache-2.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="HarmfulQA",
    licence="Apache-2.0",
    published="hub:declare-lab/HarmfulQA",
    question="question",
)
open_source = COLLECTION.open_source
