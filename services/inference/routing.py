"""Which replica gets a request: those that share a long prefix go to one, which has it in its cache; no replica drowns.

Rendezvous hashing with bounded loads: every key ranks the replicas by a hash of both, and takes the first that has
room. A replica that joins or leaves moves only the keys that rank it first (Thaler and Ravishankar 1998; the bound:
Mirrokni, Thorup and Zadimoghaddam 2018).
"""

import hashlib
import math
from collections.abc import Collection, Mapping

from lrm_safety.chat_client import ChatRequest

BOUND = 1.25  # times the mean in flight that a replica may have
# In a simulation of two judges and eight attacks on four replicas, 256 to 1,024 found most in the caches: 64 characters
# are the template's own words, so load alone decides; 2,048 reach past the rubrics, so each prompt goes its own way.
PREFIX_CHARS = 1024


def prefix(request: ChatRequest) -> str:
    """What decides where a request goes: the beginning of the text that the model reads, or of the messages."""
    if request.text:
        return request.text[:PREFIX_CHARS]
    turns = "".join(f"{message.role}\n{message.content}\n" for message in request.messages)
    return f"{turns}{request.prefill}"[:PREFIX_CHARS]


def choose(
    key: str, in_flight: Mapping[str, int], window: tuple[int, int] = (1, 1 << 30), avoid: Collection[str] = ()
) -> str:
    """The url for a key, given how many requests each url has in flight, and (fewest, most) that each may have anyway.

    Urls to avoid are taken only when there is no other; where all have their fill, the least loaded. Raises ValueError
    without any url.
    """
    urls = [url for url in in_flight if url not in avoid] or list(in_flight)
    total = sum(in_flight[url] for url in urls) + 1
    room = min(window[1], max(window[0], math.ceil(BOUND * total / len(urls))))
    ranked = sorted(urls, key=lambda url: _weight(key, url), reverse=True)
    return next((url for url in ranked if in_flight[url] < room), min(ranked, key=lambda url: in_flight[url]))


def _weight(key: str, url: str) -> bytes:
    return hashlib.blake2b(f"{url}\n{key}".encode(errors="surrogatepass"), digest_size=8).digest()
