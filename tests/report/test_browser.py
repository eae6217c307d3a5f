"""The page in a real Chromium: no complaint, no request, the sample browser's filters, folds and keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lrm_safety.report import html
from tests.report.chromium import PROGRAM, Chromium
from tests.report.sample_outcome import SECRET, poisoned, report_data

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium")
COUNT = "document.getElementById('place').textContent"
FIRST_HARM = "[...document.querySelectorAll('.head')].find(h => h.textContent.includes('strongreject'))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Chromium, tmp_path: Path) -> Chromium:
    path = tmp_path / "report.html"
    path.write_text(html(report_data()), encoding="utf-8")
    browser.open(path)
    browser.resize(1200)
    return browser


def choose(page: Chromium, field: str, value: str) -> str:
    """Sets a filter as a person would; returns what the pager says then."""
    before = page.evaluate(COUNT)
    page.evaluate(
        f"{{const field = document.forms[0].elements[{field!r}]; field.value = {value!r};"
        " field.dispatchEvent(new Event('input', {bubbles: true}))}"
    )
    page.wait_until(f"{COUNT} !== {before!r}")
    return page.evaluate(COUNT)


def test_it_loads_without_a_complaint_or_a_request(page: Chromium) -> None:
    assert page.evaluate("document.querySelectorAll('.sample').length") == 20
    assert page.complaints() == []
    assert [url for url in page.requests() if not url.startswith(("file:", "data:"))] == []


def test_the_policy_stops_a_script_that_got_in(page: Chromium) -> None:
    page.evaluate("{const s = document.createElement('div'); document.body.append(s)}")
    blocked = page.evaluate(
        "(() => {try {document.body.lastChild.innerHTML = '<b>x</b>'} catch (e) {return e.name}})()"
    )
    assert blocked == "TypeError"


def test_hostile_names_do_no_harm(browser: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "poisoned.html"
    path.write_text(html(poisoned()), encoding="utf-8")
    browser.open(path)
    assert browser.evaluate("window.hacked") is None
    assert browser.evaluate("document.querySelectorAll('.sample').length") == 20
    assert browser.complaints() == []


def test_one_model_alone_can_be_browsed(browser: Chromium, tmp_path: Path) -> None:
    data = report_data()
    data.outcome.ClearField("candidate")
    path = tmp_path / "one.html"
    path.write_text(html(data), encoding="utf-8")
    browser.open(path)
    assert browser.evaluate(COUNT) == "1–20 of 340"
    assert choose(browser, "label", "=compliance") == "1–20 of 143 (340 in all)"
    browser.evaluate("document.querySelector('.head').click()")
    assert browser.evaluate("document.querySelectorAll('.side').length") == 1
    assert browser.complaints() == []


def test_filters_meet(page: Chromium) -> None:
    assert page.evaluate(COUNT) == "1–20 of 340"
    assert choose(page, "benchmark", "strongreject") == "1–20 of 200 (340 in all)"
    assert choose(page, "attack", "prefill") == "1–20 of 100 (340 in all)"
    assert choose(page, "flip", "better") == "1–20 of 59 (340 in all)"
    assert choose(page, "flip", "same").startswith("1–20 of 41")
    assert choose(page, "label", "=compliance").startswith("1–20 of 22")
    assert choose(page, "text", "strongreject-003") == "1–1 of 1 (340 in all)"
    assert choose(page, "text", "(no such [text") == "no sample matches (340 in all)"


def test_harmful_text_waits_for_a_click(page: Chromium) -> None:
    assert SECRET not in page.evaluate("document.documentElement.innerText + document.title")
    page.evaluate(f"{FIRST_HARM}.click()")
    assert SECRET not in page.evaluate("document.documentElement.innerText")
    page.evaluate("document.querySelector('.reveal').click()")
    shown = page.evaluate("document.documentElement.innerText")
    assert SECRET in shown and "The jar is stuck" not in shown, "the thinking stays folded"
    page.evaluate("document.querySelector('.fold').open = true")
    page.wait_until("document.documentElement.innerText.includes('The jar is stuck')")


def test_hostile_text_is_only_text(page: Chromium) -> None:
    page.evaluate("document.forms[0].elements.unfold.checked = true")
    for _ in range(17):
        page.evaluate("document.querySelectorAll('.head[aria-expanded=false]').forEach(h => h.click())")
        page.evaluate("document.querySelectorAll('.fold').forEach(f => f.open = true)")
        page.evaluate("document.getElementById('next').click()")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert page.complaints() == []


def test_keys(page: Chromium) -> None:
    focus = "document.activeElement.querySelector('.id')?.textContent"
    page.press("j")
    first = page.evaluate(focus)
    page.press("j")
    assert page.evaluate(focus) != first
    page.press("k")
    assert page.evaluate(focus) == first
    page.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("]")
    assert page.evaluate(COUNT) == "21–40 of 340"
    page.press("k")
    assert page.evaluate(COUNT) == "1–20 of 340", "up from the first sample turns the page back"
    page.press("/")
    assert page.evaluate("document.activeElement.name") == "text"
    page.press("j")
    assert page.evaluate("document.activeElement.value") == "j", "letters typed into the search are letters"


def test_a_number_in_the_table_opens_its_samples(page: Chromium) -> None:
    page.evaluate("document.querySelector('.jump[data-benchmark=xstest][data-flip=worse]').click()")
    assert page.evaluate(COUNT) == "1–7 of 7 (340 in all)"


@pytest.mark.parametrize("width", [320, 420, 1200])
def test_nothing_is_wider_than_the_window(page: Chromium, width: int) -> None:
    page.resize(width)
    page.evaluate("document.querySelector('.head').click()")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
