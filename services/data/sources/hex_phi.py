"""HEx-PHI: 300 requests, a headerless file a category (arXiv 2310.03693); its own licence."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="HExPHI",
    licence="HEx-PHI License Agreement",
    published="hub:LLM-Tuning-Safety/HEx-PHI",
)
open_source = COLLECTION.open_source
