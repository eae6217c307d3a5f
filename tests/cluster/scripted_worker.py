"""A training worker without the training: says that it trains, waits for the word of the test, leaves a result.

python -m tests.cluster.scripted_worker <run> <attempt>     objects test/step, go and fail of the store are the words
"""

import sys
import time

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Checkpoint
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from services.trainer.attempt import EXIT_INVALID_INPUT
from services.trainer.ledger import Ledger

DIGEST = "5" * 64


def main(run: str, attempt: int) -> int:
    store = open_store(Settings.from_env())
    ledger = Ledger(store, run, attempt)
    ledger.progress("training", 1, 2, "steps")
    print(f"attempt {attempt} trains", flush=True)  # noqa: T201
    while not store.stat("test/go"):
        if store.stat("test/fail"):
            ledger.fail(InvalidInput("the dataset has no rows left"))
            return EXIT_INVALID_INPUT
        ledger.progress("training", 1.5 if store.stat("test/step") else 1, 2, "steps")
        time.sleep(0.1)
    ledger.finish(Checkpoint(name="tuned", digest=DIGEST))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
