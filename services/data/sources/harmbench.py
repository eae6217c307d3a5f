"""HarmBench: 300 text behaviours that need no context (arXiv 2402.04249); MIT."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="HarmBench",
    licence="MIT",
    published="https://github.com/centerforaisafety/HarmBench, data/behavior_datasets/harmbench_behaviors_text_all.csv",
    question="Behavior",
    where={"FunctionalCategory": ("standard", "copyright")},
)
open_source = COLLECTION.open_source
