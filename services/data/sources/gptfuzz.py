"""GPTFuzz: the 100 questions that GPTFuzz asks (arXiv 2309.10253); MIT."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="GPTFuzz",
    licence="MIT",
    published="https://github.com/sherdencooper/GPTFuzz, datasets/questions/question_list.csv",
    question="text",
)
open_source = COLLECTION.open_source
