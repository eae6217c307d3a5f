"""WildJailbreak: the column `vanilla` of train.tsv, 261,000 rows (arXiv 2406.18510); ODC-BY."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="wildjailbreak",
    licence="ODC-BY",
    published="hub:allenai/wildjailbreak",
    question="vanilla",
)
open_source = COLLECTION.open_source
