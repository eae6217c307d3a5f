"""The viewer in the system's Chromium, driven by Playwright: every page, hostile text, keys alone, a narrow window."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from lrm_safety import jsonl
from lrm_safety.nouns import Run
from lrm_safety.report.server import ViewServer
from lrm_safety.report.viewer import Viewer
from lrm_safety.store.files import FileStore
from tests.report.chromium import PROGRAM
from tests.report.made_store import bench, fill, records
from tests.report.sample_outcome import HOSTILE, SECRET
from tests.report.test_viewer import ADDRESSES, PAIR

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium")
ANSI = "\x1b[2J\x1b[31mred\x1b[0m \x07"
NASTY = f" {HOSTILE} {ANSI} {{{{ 7*7 }}}} {{% raw %}} ${{7*7}} </pre></template><svg onload=window.hacked=1>"
MEGABYTE = "x" * 1_000_000


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a viewer over a season in which every text is hostile, and one line is a megabyte long."""
    folder = tmp_path_factory.mktemp("viewer")
    store = FileStore(folder / "store")
    fill(store, NASTY)
    long = next(records(0))
    long.completion.answer = MEGABYTE
    store.write("runs/bench-long/spec.json", jsonl.dumps(Run(id="bench-long", kind="bench")).encode())
    store.write("runs/bench-long/parts/000001-000000.jsonl.zst", jsonl.pack([long]))
    viewer = Viewer(store, folder / "view")
    with ViewServer(viewer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for number in range(8):
            viewer.run(bench(number))
        viewer.library.wait()
        yield server.url
        server.shutdown()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Fails the test that made the page complain, send something elsewhere, or run a script that is not ours."""
    page = browser.new_page(viewport={"width": 1200, "height": 900}, base_url=address)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on(
        "request", lambda request: said.append(request.url) if not request.url.startswith((address, "data:")) else None
    )
    yield page
    assert page.evaluate("window.hacked") is None
    page.close()
    assert not said


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    if page.locator("#list").count():
        expect(page.locator(".sample").first).to_be_visible()
    return page


@pytest.mark.parametrize("path", ADDRESSES)
def test_every_page_shows_what_it_is_for_and_fits_a_narrow_window(page: Page, path: str) -> None:
    opened(page, path)
    assert page.locator("h1").count() == 1 and page.title().endswith("lrm-safety")
    for width in (320, 400, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert SECRET not in page.title() + page.url + page.inner_text("body")


def test_a_dataset_page_has_its_pictures(page: Page) -> None:
    opened(page, "/datasets")
    page.get_by_role("link", name="safe_mix").click()
    page.wait_for_url("**/datasets/safe_mix@*")
    bars = page.locator(".plot .bin")
    expect(bars).to_have_count(19)
    heights = [bar.bounding_box()["height"] for bar in bars.all()]
    assert max(heights) == heights[5] > 100 > heights[18] > 0, "as many as there are examples"
    assert page.locator(".funnel").count() == 4
    assert "window.hacked=1" in page.inner_text("main"), "hostile names stay text"


def test_hostile_text_stays_text(page: Page) -> None:
    opened(page, PAIR)
    page.check("[name=unfold]")
    for head in page.locator(".head").all()[:6]:
        head.click()
    for summary in page.locator(".fold summary").all():
        if summary.is_visible() and not summary.evaluate("s => s.parentElement.open"):
            summary.click()
    shown = page.inner_text("#list")
    assert "</script><script>window.hacked=1</script>" in shown and "{{ 7*7 }}" in shown and "49" not in shown
    assert "␛[2J" in shown and "⟨U+202E⟩" in shown, "what would move or reorder is shown as a sign"
    assert page.locator("main :is(img, script, iframe, svg[onload], template)").count() == 0


def test_a_line_of_a_megabyte_does_not_break_the_page(page: Page) -> None:
    opened(page, "/samples/bench-long")
    page.locator(".head").click()
    page.locator(".reveal").click()
    expect(page.locator(".side .text")).to_contain_text("980,000 characters left out here")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_harmful_text_waits_for_a_click(page: Page) -> None:
    opened(page, f"/samples/{bench(1)}")
    page.locator(".head").first.click()
    assert SECRET not in page.inner_text("body")
    page.locator(".reveal").click()
    expect(page.locator("#list")).to_contain_text(SECRET)


def test_a_flip_is_read_side_by_side(page: Page) -> None:
    opened(page, PAIR)
    page.select_option("[name=benchmark]", "xstest")
    expect(page.locator(".head", has_not_text="xstest")).to_have_count(0)
    page.locator(".head").first.click()
    page.locator(".fold.thinking summary").first.click()
    expect(page.locator(".fold.thinking[open]")).to_have_count(2)
    differs = page.locator(".fold.thinking mark.diverges")
    assert {differs.nth(0).inner_text(), differs.nth(1).inner_text()} == {
        "This looks risky.",
        "I should help with this.",
    }
    assert page.locator(".fold.thinking mark.declines").inner_text() == "I must decline here."
    answers = page.locator(".side > pre mark.declines")
    assert answers.all_inner_texts() == ["I cannot help with that."]


def test_keys_alone_lead_from_the_overview_to_a_sample(page: Page) -> None:
    opened(page, "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('a.verdict')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/recipe-*")
    expect(page.locator(".sample").first).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    head = page.locator(".head:focus")
    assert head.locator(".id").inner_text() == page.locator(".head .id").nth(1).inner_text()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(head).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("]")
    expect(page.locator("#place")).to_contain_text("21–40 of 340")
    page.keyboard.press("/")
    page.keyboard.type("math500-00")
    expect(page.locator("#place")).to_contain_text("of 10 (340 in all)")


def test_what_is_searched_for_is_in_no_address(page: Page) -> None:
    opened(page, f"/samples/{bench(1)}")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.fill("[name=text]", "friendly question 7:")
    expect(page.locator("#place")).to_contain_text("1–2 of 2 (340 in all)")
    page.select_option("[name=label]", "invalid")
    expect(page.locator("#place")).to_contain_text("no sample matches")
    assert asked and all(url.endswith("/samples/find") for url in asked)


def test_any_two_checkpoints_can_be_compared(page: Page) -> None:
    opened(page, "/")
    page.locator("[name=baseline]").nth(3).check()
    page.get_by_role("button", name="Show what changed").click()
    page.wait_for_url("**/flips?*")
    expect(page.locator(".sample").first).to_be_visible()
    page.locator(".jump[data-flip=same]").first.click()
    expect(page.locator(".sample .flip").first).to_have_text("same")


def test_a_viewer_that_has_ended_is_named(page: Page) -> None:
    opened(page, f"/samples/{bench(1)}")
    page.route("**/samples/find", lambda route: route.fulfill(body="not what was asked for"))
    page.locator("#next").click()
    expect(page.locator("#place")).to_contain_text("is `lrm view` still running?")


def test_dark_and_light_have_their_own_colours(browser: Browser, address: str) -> None:
    papers = set()
    for scheme in ("dark", "light"):
        page = browser.new_page(color_scheme=scheme, base_url=address)
        papers.add(opened(page, "/").evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(papers) == 2


def test_pictures_are_small() -> None:
    pictures = list((Path(__file__).resolve().parents[2] / "docs" / "img").glob("*.png"))
    assert len(pictures) > 8 and max(path.stat().st_size for path in pictures) <= 150_000
