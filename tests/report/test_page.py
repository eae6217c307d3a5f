"""The page as text: one file, nothing from outside, no model text in its markup; and the folder it is written into."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lrm_safety.errors import Conflict
from lrm_safety.nouns import Cell, RecipeOutcome, Scorecard
from lrm_safety.report import ReportData, axes_svg, html, write_folder
from lrm_safety.report.plots import curves
from tests.report.sample_outcome import SECRET, poisoned, report_data, scorecard


class Page(HTMLParser):
    """Elements, attributes and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.seen, self.raw = "", {"script": [], "style": []}
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")
            self._in = tag

    def handle_endtag(self, tag) -> None:
        self._in = "" if tag == self._in else self._in

    def handle_data(self, data) -> None:
        if self._in:
            self.raw[self._in][-1] += data
        else:
            self.seen += data


@pytest.mark.parametrize("data", [report_data(), poisoned()], ids=["mild", "poisoned"])
def test_markup_is_ours_alone(data: ReportData) -> None:
    text = html(data)
    page = Page(text)
    names = [name for name, _ in page.elements]
    assert names.count("script") == 2 and names.count("style") == 1 and "img" not in names and "iframe" not in names
    assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on") or a == "style"]
    sources = [attrs.get(name) for _, attrs in page.elements for name in ("src", "href", "action", "xlink:href")]
    assert {source for source in sources if source} == {"data:,", "#main"}
    assert "\x00" not in text and "\u2028" not in text and "\u202e" not in text
    assert json.loads(page.raw["script"][0])["samples"]


def test_the_policy_names_the_script_and_the_style_and_nothing_else() -> None:
    page = Page(html(report_data()))
    policy = next(
        attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    script, style = page.raw["script"][1], page.raw["style"][0]
    named = {"'sha256-" + b64encode(sha256(text.encode()).digest()).decode() + "'" for text in (script, style)}
    assert set(re.findall(r"'sha256-[^']+'", policy)) == named
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_our_script_never_makes_markup_from_text() -> None:
    script = Page(html(report_data())).raw["script"][1]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(|XMLHttp", script
    )


def test_model_text_is_in_the_json_alone() -> None:
    page = Page(html(report_data()))
    everywhere_else = page.seen + json.dumps([attrs for _, attrs in page.elements]) + page.raw["script"][1]
    assert SECRET in page.raw["script"][0]
    assert SECRET not in everywhere_else and "stuck jar" not in everywhere_else


def test_dropped_examples_are_told_beside_the_curves() -> None:
    assert "250 examples were trained; 50 were dropped, because they are longer" in Page(html(report_data())).seen


def test_without_samples_no_record_is_read() -> None:
    def refuse(run: str):
        raise AssertionError("a record was read")

    data = report_data()
    text = html(ReportData(data.outcome, data.dataset, data.metrics, refuse), with_samples=False)
    assert SECRET not in text and "<script" not in text and "left out of this copy" in text


@pytest.mark.parametrize("gone", ["candidate", "decision", "comparisons", "recipe", "baseline"])
def test_what_is_missing_is_left_out(gone: str) -> None:
    data = report_data()
    data.outcome.ClearField(gone)
    page = Page(html(ReportData(data.outcome, None, [], data.records)))
    assert "None" not in page.seen and "Training" not in page.seen
    ElementTree.fromstring(axes_svg(data))


def test_an_outcome_of_nothing_still_makes_a_page() -> None:
    data = ReportData(RecipeOutcome(), None, [], lambda run: iter([]))
    assert "Nothing was measured" in Page(html(data)).seen
    assert "Nothing was measured" in axes_svg(data)


def test_a_cell_without_samples_has_no_dot() -> None:
    cell = Cell(benchmark="b", attack="none", judge="j", role="harm", metric="asr", lower_is_better=True, invalid=3)
    data = ReportData(RecipeOutcome(baseline=Scorecard(cells=[cell])), None, [], lambda run: iter([]))
    assert "no sample with a verdict" in axes_svg(data)
    assert '<line class="whisker' not in axes_svg(data)


@pytest.mark.parametrize("data", [report_data(), poisoned()], ids=["mild", "poisoned"])
def test_the_plot_is_sound_xml_that_stands_alone(data: ReportData) -> None:
    root = ElementTree.fromstring(axes_svg(data))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags == {"svg", "style", "rect", "text", "tspan", "g", "line", "circle", "title"}
    text = "".join(root.itertext())
    assert "n 100" in text and "62.0 % → 8.0 %" in text and "−54.0 points" in text and "@import" not in text


def test_a_long_attack_name_leaves_room_for_n() -> None:
    data = report_data()
    for card in (data.outcome.baseline, data.outcome.candidate):
        card.cells[1].attack = "an_attack_with_a_name_that_is_far_too_long"
    assert "…, n 100" in axes_svg(data)


def test_curves_leave_out_what_is_no_number() -> None:
    metrics = report_data().metrics
    metrics[3].loss = float("inf")
    metrics[4].loss = float("nan")
    drawn = curves(metrics)
    assert [curve.name for curve in drawn] == ["Loss", "Token accuracy", "Tokens per second"]
    assert "nan" not in drawn[0].points and drawn[0].last == "1.296"
    assert curves([]) == [] and len(curves(metrics[:1])) == 3


def test_long_trainings_are_thinned() -> None:
    metrics = report_data().metrics * 40
    for step, metric in enumerate(metrics):
        metric.step = step
    assert len(curves(metrics)[0].points.split()) <= 301


def test_folder(tmp_path: Path) -> None:
    written = write_folder(report_data(), tmp_path / "a" / "b", with_samples=False)
    assert [path.name for path in written] == ["report.html", "report.md", "report.json", "axes.svg"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(path.name for path in written)
    assert "![" in written[1].read_text() and "(axes.svg)" in written[1].read_text()
    assert json.loads(written[2].read_text())["verdict"] == "BLOCK"


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Conflict, match="name another folder"):
        write_folder(report_data(), tmp_path / "file" / "report", with_samples=False)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(report_data(), tmp_path, with_samples=False)
    before = (tmp_path / "report.html").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(Exception, match="no space left"):
        write_folder(ReportData(RecipeOutcome(), None, [], lambda run: iter([])), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 4


def test_one_model_is_called_model() -> None:
    outcome = RecipeOutcome(baseline=scorecard("bench-base", "smollm2", 5))
    page = Page(html(ReportData(outcome, None, [], report_data().records)))
    assert "the one measured" in page.seen and "Trained" not in page.seen


def test_a_role_says_what_else_is_known_of_it() -> None:
    data = report_data()
    role = data.outcome.decision.roles[0]
    role.tier, role.read, role.planned, role.corrected, role.noise_floor = "waived", 64, 200, -0.031, 0.02
    role.worst_case.low, role.worst_case.high = -0.6, -0.5
    seen = Page(html(data)).seen
    for said in ("waived", "Read 64 of 200", "[−60.0, −50.0]", "errors: −3.1", "up to 2.0"):
        assert said in seen
