"""AttaQ: 1,400 adversarial questions (arXiv 2311.04124); MIT."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="AttaQ",
    licence="MIT",
    published="hub:ibm-research/AttaQ",
    question="input",
)
open_source = COLLECTION.open_source
