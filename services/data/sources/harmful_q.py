"""HarmfulQ: 200 harmful questions that a model wrote (arXiv 2212.08061); MIT."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="HarmfulQ",
    licence="MIT",
    published="https://github.com/SALT-NLP/chain-of-thought-bias, data/dangerous-q/toxic_outs.json",
)
open_source = COLLECTION.open_source
