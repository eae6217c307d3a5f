"""The window, the cache's keys, the targets, the vendors' client: the parts of Generate one by one."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety.chat import ChatTemplate
from lrm_safety.chat_client import ChatRequest, Reply
from lrm_safety.errors import InvalidInput, LrmError, Unavailable
from lrm_safety.nouns import Endpoint, Prompt, Sampling, user
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference.cache import CompletionCache, key_of
from services.inference.generate import Generator, VendorClient
from services.inference.target import Target
from services.inference.window import Window, resized, waiting_in
from tests.fakes.scripted_engine import ScriptedEngine

ENDPOINT = Endpoint(name="e", weights_digest="w", engine="vllm", precision="fp32", model="m", think_style="auto")
ASK = ChatRequest("m", messages=[user("hi")], sampling=Sampling(max_tokens=5))


class TestWindow:
    @pytest.mark.parametrize(
        ("size", "waiting", "in_flight", "expected"),
        [
            (16, 0, 16, 20),  # nothing waits, all places taken: more
            (16, 0, 3, 16),  # nothing to do: no reason to grow
            (40, 6, 40, 40),  # a short queue is what we want
            (40, 20, 40, 28),
            (40, 500, 40, 4),  # never under the lowest
            (60, 0, 60, 64),  # never over the highest
        ],
    )
    def test_it_follows_the_queue(self, size: int, waiting: float, in_flight: int, expected: int) -> None:
        assert resized(size, waiting, in_flight, (4, 64)) == expected

    def test_the_metric_is_summed_over_engines(self) -> None:
        text = '# HELP vllm:num_requests_waiting x\nvllm:num_requests_waiting{engine="0"} 3.0\n'
        text += 'vllm:num_requests_waiting{engine="1"} 2.0\nvllm:num_requests_waiting_by_reason{engine="0"} 9.0\n'
        assert waiting_in(text) == 5
        assert waiting_in("something_else 1.0\n") is None

    def test_never_more_than_its_size(self) -> None:
        assert asyncio.run(_peak(Window((3, 3), _no_metrics), 12)) == 3

    def test_it_grows_at_an_engine_with_room_and_shrinks_at_a_crowded_one(
        self, scripted_engine: ScriptedEngine, store: ObjectStore
    ) -> None:
        scripted_engine.delay_s = lambda messages: 0.3
        endpoint = Endpoint(name="e", url=scripted_engine.url, model="scripted", think_style="auto")
        prompts = [Prompt(id=str(i), messages=[user(str(i))]) for i in range(160)]
        generator, target = Generator(CompletionCache(store)), Target(endpoint, (scripted_engine.url,))
        list(generator.generate(target, prompts, Sampling(), lambda: target.replicas))
        assert scripted_engine.peak > 20  # it began with 16
        scripted_engine.peak, scripted_engine.places = 0, 1
        scripted_engine.delay_s = lambda messages: 0.05
        list(generator.generate(target, prompts[:60], Sampling(seed=1), lambda: target.replicas))
        assert generator._of(target).window.size <= 10
        generator.close()


class TestKey:
    @pytest.mark.parametrize(
        ("host", "url", "is_sent"),
        [
            ("api.vendor.com", "https://api.vendor.com/v1", True),
            ("API.vendor.com", "https://api.vendor.com:8443/v1", True),
            ("api.vendor.com", "http://api.vendor.com/v1", False),  # anybody on the way could read it
            ("api.vendor.com", "https://elsewhere.com/v1", False),
            ("api.vendor.com", "https://api.vendor.com.elsewhere.com/v1", False),
            ("api.vendor.com", "https://api.vendor.com@elsewhere.com/v1", False),
            ("localhost", "http://localhost:8000/v1", True),
            ("", "http:///v1", False),
        ],
    )
    def test_it_goes_to_its_own_host_only(self, host: str, url: str, is_sent: bool) -> None:
        assert Settings(api_key="key", api_key_host=host).key_for(url) == ("key" if is_sent else "")

    @pytest.mark.parametrize(("host", "seen"), [("api.vendor.com", ""), ("127.0.0.1", "Bearer key")])
    def test_a_url_that_somebody_names_does_not_get_it(
        self, host: str, seen: str, scripted_engine: ScriptedEngine, store: ObjectStore
    ) -> None:
        url = scripted_engine.url
        generator = Generator(CompletionCache(store), Settings(api_key="key", api_key_host=host).key_for)
        target = Target(Endpoint(name="e", url=url, model="scripted", think_style="auto"), (url,))
        generator.probe(f"{url}/models")
        list(generator.generate(target, [Prompt(id="a", messages=[user("a")])], Sampling(), lambda: target.replicas))
        generator.close()
        assert scripted_engine.keys == [seen, seen]

    def test_without_a_host_there_is_no_key(self) -> None:
        with pytest.raises(InvalidInput, match="LRM_API_KEY_HOST"):
            Settings.from_env({"LRM_API_KEY": "key"})


class TestCache:
    def test_everything_that_matters_is_in_the_key(self) -> None:
        variants = [
            key_of(ENDPOINT, ASK, 0),
            key_of(ENDPOINT, ASK, 1),
            key_of(ENDPOINT, replace(ASK, prefill="Sure"), 0),
            key_of(ENDPOINT, replace(ASK, messages=[user("ho")]), 0),
            key_of(ENDPOINT, replace(ASK, sampling=Sampling(max_tokens=6)), 0),
            key_of(ENDPOINT, replace(ASK, text="hi"), 0),
            *(key_of(_with(name), ASK, 0) for name in ("weights_digest", "engine", "precision")),
        ]
        assert len(set(variants)) == len(variants)

    def test_names_do_not_matter(self) -> None:
        assert key_of(_with("name"), replace(ASK, model="other"), 0) == key_of(ENDPOINT, ASK, 0)
        written_out = Sampling(temperature=0, top_p=1, max_tokens=5)
        assert key_of(ENDPOINT, replace(ASK, sampling=written_out), 0) == key_of(ENDPOINT, ASK, 0)

    def test_what_is_put_is_got(self, store: ObjectStore) -> None:
        cache, reply = CompletionCache(store), Reply("<think>é", "length", 3, 4, 0.5)
        assert cache.get("cache/ab/x") is None
        cache.put("cache/ab/x", reply)
        cache.put("cache/ab/x", Reply("later", "stop"))
        assert cache.get("cache/ab/x") == reply

    @pytest.mark.parametrize("stored", [b"", b"{", b'{"other": 1}', b"[1]"])
    def test_a_broken_entry_is_asked_again(self, store: ObjectStore, stored: bytes) -> None:
        store.write("cache/ab/x", stored)
        cache = CompletionCache(store)
        assert cache.get("cache/ab/x") is None
        cache.put("cache/ab/x", Reply("a", "stop"))
        assert cache.get("cache/ab/x") == Reply("a", "stop")

    def test_a_full_store_costs_the_entry_only(self) -> None:
        CompletionCache(_FullStore()).put("cache/ab/x", Reply("a", "stop"))  # type: ignore[arg-type]


class TestTarget:
    def test_opened_thoughts_are_known_from_the_template(self) -> None:
        template = ChatTemplate("{{ messages[0].content }}{% if add_generation_prompt %}<think>\n{% endif %}", ())
        target = Target(ENDPOINT, (), engine=None, template=template)
        (prompt,) = [Prompt(id="a", messages=[user("hi")])]
        cut = target.completion(prompt, Sampling(), Reply("so far", "length"), cached=False)
        assert (cut.thinking, cut.answer, cut.finish_reason) == ("so far", "", "length")
        done = target.completion(prompt, Sampling(), Reply("so</think>yes", "stop"), cached=True)
        assert (done.thinking, done.answer, done.cached) == ("so", "yes", True)

    def test_stops_reach_an_engine_only_where_nothing_is_thought(self) -> None:
        sampling = Sampling(stop=["X"])
        prompt = Prompt(id="a", messages=[user("hi")])
        assert not Target(ENDPOINT, ()).request(prompt, sampling).sampling.stop
        plain = Endpoint(think_style="none")
        assert list(Target(plain, ()).request(prompt, sampling).sampling.stop) == ["X"]
        assert list(sampling.stop) == ["X"]


class TestVendor:
    def test_it_answers_as_the_lean_client_does(self, scripted_engine: ScriptedEngine) -> None:
        reply = asyncio.run(VendorClient(scripted_engine.url).complete(ASK))
        assert reply.text.startswith("<think>\nabout: hi")
        assert scripted_engine.requests[0]["messages"] == [{"role": "user", "content": "hi"}]

    @pytest.mark.parametrize(("how", "kind"), [(400, InvalidInput), (401, InvalidInput), ("garbage", Unavailable)])
    def test_its_errors_are_ours(self, scripted_engine: ScriptedEngine, how: int | str, kind: type[LrmError]) -> None:
        scripted_engine.fail(how)
        with pytest.raises(kind) as caught:
            asyncio.run(VendorClient(scripted_engine.url).complete(ASK))
        assert "SECRET-PROMPT" not in str(caught.value)

    def test_only_https_is_a_vendor(self) -> None:
        assert Target(Endpoint(url="https://api.vendor.example/v1"), ()).is_vendor
        assert not Target(Endpoint(url="http://127.0.0.1:1/v1"), ()).is_vendor


def test_a_thousand_completions_in_seconds(scripted_engine: ScriptedEngine, store: ObjectStore) -> None:
    """The fan-out's own cost, with engine and client on the same two cores; about 1.5 s."""
    endpoint = Endpoint(name="e", url=scripted_engine.url, model="scripted", think_style="auto")
    prompts = [Prompt(id=str(i), messages=[user(str(i))]) for i in range(1000)]
    started = time.monotonic()
    generator, target = Generator(CompletionCache(store)), Target(endpoint, (scripted_engine.url,))
    got = list(generator.generate(target, prompts, Sampling(), lambda: target.replicas))
    generator.close()
    assert {c.id for c in got} == {p.id for p in prompts}
    assert time.monotonic() - started < 20


async def _peak(window: Window, tasks: int) -> int:
    inside = peak = 0

    async def one() -> None:
        nonlocal inside, peak
        async with window.place():
            inside += 1
            peak = max(peak, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(tasks)))
    return peak


async def _no_metrics() -> str:
    return ""


def _with(field: str) -> Endpoint:
    changed = Endpoint()
    changed.CopyFrom(ENDPOINT)
    setattr(changed, field, "other")
    return changed


class _FullStore:
    def create(self, key: str, data: bytes) -> bool:
        raise LrmError(f"{Path(key).name}: the disk is full")
