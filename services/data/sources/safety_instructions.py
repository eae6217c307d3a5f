"""SafetyInstructions: 2,500 requests that Safety-Tuned LLaMAs learnt to refuse (arXiv 2309.07875); CC-BY-NC-4.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="SafetyInstructions",
    licence="CC-BY-NC-4.0",
    published="https://github.com/vinid/safety-tuned-llamas, data/training/safety_only_data_Instructions.json",
    question="instruction",
)
open_source = COLLECTION.open_source
