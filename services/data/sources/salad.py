"""Salad-Data: the 21,300 questions of Salad-Data's base set (arXiv 2402.05044); Apache-2.0."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="SaladBench",
    licence="Apache-2.0",
    published="hub:OpenSafetyLab/Salad-Data",
    question="question",
)
open_source = COLLECTION.open_source
