"""Which replica gets a request: what must hold for any keys, any loads, any replicas."""

from hypothesis import given
from hypothesis import strategies as st

from lrm_safety.chat_client import ChatRequest
from lrm_safety.nouns import user
from services.inference.routing import BOUND, PREFIX_CHARS, choose, prefix

URLS = st.lists(st.integers(1, 250).map(lambda i: f"http://10.0.0.{i}:8000/v1"), min_size=1, max_size=8, unique=True)
KEYS = st.text(max_size=40)


def quiet(urls: list[str]) -> dict[str, int]:
    return dict.fromkeys(urls, 0)


@given(st.data(), URLS, KEYS)
def test_no_replica_has_more_than_its_share(data: st.DataObject, urls: list[str], key: str) -> None:
    loads = data.draw(st.fixed_dictionaries({url: st.integers(0, 60) for url in urls}))
    url = choose(key, loads)
    assert loads[url] < max(1, BOUND * (sum(loads.values()) + 1) / len(urls))


@given(URLS, KEYS)
def test_a_key_keeps_its_replica_while_there_is_little_to_do(urls: list[str], key: str) -> None:
    first = choose(key, quiet(urls))
    busy = {**quiet(urls), first: 3}
    assert choose(key, dict(reversed(quiet(urls).items()))) == first
    assert choose(key, busy, window=(4, 9)) == first


@given(URLS, KEYS, st.data())
def test_a_replica_that_leaves_moves_only_its_own_keys(urls: list[str], key: str, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(urls))
    before, rest = choose(key, quiet(urls)), [url for url in urls if url != gone]
    if rest and before != gone:
        assert choose(key, quiet(rest)) == before
        assert choose(key, quiet(urls), avoid={gone}) == before


@given(URLS, KEYS, st.data())
def test_what_is_to_be_avoided_or_full_is_the_last_resort(urls: list[str], key: str, data: st.DataObject) -> None:
    avoid = set(data.draw(st.lists(st.sampled_from(urls), unique=True)))
    assert choose(key, quiet(urls), avoid=avoid) not in avoid or avoid == set(urls)
    full = {**dict.fromkeys(urls, 5), urls[0]: 2}
    assert choose(key, full, window=(1, 2)) == urls[0]


def test_many_keys_are_spread() -> None:
    urls = [f"http://10.0.0.{i}:8000/v1" for i in range(4)]
    counts = [[choose(str(key), quiet(urls)) for key in range(2000)].count(url) for url in urls]
    assert min(counts) > 400


def test_what_requests_share_is_their_key() -> None:
    rubric = "r" * PREFIX_CHARS
    assert prefix(ChatRequest("m", text=rubric + "a")) == prefix(ChatRequest("m", text=rubric + "b"))
    assert prefix(ChatRequest("m", text="a")) != prefix(ChatRequest("m", text="b"))
    asked = [ChatRequest("m", messages=[user(rubric), user(last)]) for last in "ab"]
    assert prefix(asked[0]) == prefix(asked[1])
    assert prefix(ChatRequest("m", messages=[user("hi")], prefill="Sure")) != prefix(
        ChatRequest("m", messages=[user("hi")])
    )
