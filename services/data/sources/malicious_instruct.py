"""MaliciousInstruct: 100 questions, one a line (arXiv 2310.06987); licence not stated."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="MaliciousInstruct",
    licence="",
    published="https://github.com/Princeton-SysML/Jailbreak_LLM, data/MaliciousInstruct.txt",
)
open_source = COLLECTION.open_source
