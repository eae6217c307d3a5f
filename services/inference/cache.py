"""Remembers completions by content: what was sent, to which weights, with which numerics, and the how-many-th time.

One object an entry, cache/<2 hex>/<sha256>: written in 1-4 ms on a folder (2,000 a second from eight threads), far
quicker than any engine answers, and any replica finds it. An entry holds the raw text, so a better think splitter
applies to old completions too. Errors are never kept.
"""

import hashlib
import json
from dataclasses import asdict

from lrm_safety import observe
from lrm_safety.chat_client import ChatRequest, Reply
from lrm_safety.errors import LrmError, NotFound
from lrm_safety.nouns import Endpoint
from lrm_safety.store import ObjectStore

log = observe.logger(__name__)
Entry = tuple[str, Reply]


class CompletionCache:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def get(self, key: str) -> Reply | None:
        """The reply, or None; an entry that cannot be read counts as absent and is written anew."""
        try:
            return Reply(**json.loads(self._store.read(key)))
        except NotFound:
            return None
        except (ValueError, TypeError):
            log.warning("cache_entry_broken", key=key)
            self._store.delete(key)
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply; the first of several writers wins. A store that is full or away costs the entry, no more."""
        try:
            self._store.create(key, json.dumps(asdict(reply), ensure_ascii=False).encode())
        except LrmError as error:
            log.warning("cache_entry_not_written", key=key, error=str(error))


def key_of(endpoint: Endpoint, request: ChatRequest, repeat: int) -> str:
    """Every byte of the request but the model's local name; the weights by digest, the engine and its precision."""
    body = {name: value for name, value in request.body().items() if name != "model"}
    numerics = [endpoint.weights_digest, endpoint.engine, endpoint.precision]
    text = json.dumps([numerics, body, repeat], ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"cache/{digest[:2]}/{digest}"
