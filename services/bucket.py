"""`python -m services.bucket`: the bucket of LRM_STORE, made and set up once before the services start.

Waits for the S3 server, makes the bucket if absent, switches versioning on and sets the rules that clear up behind it.
Asking again changes nothing. Exit codes: 0 the store can be used, 1 it cannot.
"""

import sys
import time
from collections.abc import Callable

from lrm_safety import observe
from lrm_safety.errors import LrmError, Unavailable
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from lrm_safety.store.s3 import S3Store

PATIENCE_S = 300.0
PAUSE_S = 3.0
log = observe.logger(__name__)


def main() -> int:
    try:
        settings = Settings.from_env()
        observe.configure(settings)
        set_up(settings)
    except LrmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def set_up(settings: Settings, patience_s: float = PATIENCE_S) -> tuple[str, ...]:
    """Returns, in words, what the server does not do. Raises Unavailable when none answered for so long."""
    store = _when_it_answers(lambda: open_store(settings), patience_s)
    refused = store.set_up_bucket() if isinstance(store, S3Store) else ()
    for what in refused:
        log.warning("bucket_without", what=what)
    log.info("store_ready", store=settings.store)
    return refused


def _when_it_answers(attempt: Callable[[], ObjectStore], patience_s: float) -> ObjectStore:
    until = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except Unavailable as error:
            if time.monotonic() > until:
                raise
            log.info("store_awaited", error=str(error))
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
