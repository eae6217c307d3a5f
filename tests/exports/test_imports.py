"""Logs of other tools come in: Inspect's own, in both of its forms; lm-eval's; and ours, back again."""

import json
import zipfile
from pathlib import Path

import pytest

from lrm_safety import export, importing
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.measured import measure
from tests.exports.measured import MODEL, measured_run, records


@pytest.mark.parametrize("form", ["inspect", "lm_eval"])
@pytest.mark.parametrize("is_with_text", [False, True])
def test_our_exports_come_back_as_they_were(tmp_path: Path, form: str, is_with_text: bool) -> None:
    export.write(measured_run(), form, tmp_path, is_with_text=is_with_text)
    foreign = importing.read(tmp_path, [])
    judges = {each.benchmark: [judge.judge for judge in each.judges] for each in foreign.scorecard.spec.benchmarks}
    assert judges == {"strongreject": ["refusal", "second"], "math500": ["math_equal"]}
    assert (foreign.scorecard.endpoint, foreign.scorecard.weights_digest) == (MODEL, "abc")
    back = {record.key: record for record in foreign.records}
    assert set(back) == {record.key for record in records()}
    for record in records():
        for judge in judges[record.benchmark]:
            assert measure(back[record.key], judge).value == measure(record, judge).value
        texts = [message.content for message in record.sample.messages] if is_with_text else []
        assert [message.content for message in back[record.key].sample.messages] == texts


def lm_eval_results(folder: Path, n_samples: dict[str, dict[str, int]], with_samples: bool = True) -> Path:
    """As lm-eval 0.4.9 writes them for a task with two filters, and one of which only a perplexity is known."""
    tree = {
        "results": {
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict-match": 0.5,
                "exact_match_stderr,strict-match": 0.25,
                "exact_match,flexible-extract": 0.75,
                "exact_match_stderr,flexible-extract": 0.2,
            }
        },
        "configs": {"gsm8k": {"task": "gsm8k", "num_fewshot": 5}},
        "n-samples": n_samples,
        "higher_is_better": {"gsm8k": {"exact_match": True}},
        "date": 1758000000.0,
        "model_name": "org/model",
    }
    path = folder / "results_2026-01-05T10-00-00.000001.json"
    path.write_text(json.dumps(tree, indent=2))
    lines = [
        {
            "doc_id": n,
            "doc": {"question": f"{n} + 0?", "answer": str(n)},
            "target": str(n),
            "arguments": {"gen_args_0": {"arg_0": f"Q: {n} + 0?", "arg_1": {"until": ["Q:"]}}},
            "resps": [[str(n)]],
            "filtered_resps": [str(n)],
            "filter": name,
            "metrics": ["exact_match"],
            "doc_hash": "d",
            "exact_match": float(n < right),
        }
        for name, right in (("strict-match", 2), ("flexible-extract", 3))
        for n in range(4)
    ]
    if with_samples:
        text = "\n".join(json.dumps(line) for line in lines)
        (folder / "samples_gsm8k_2026-01-05T10-00-00.000001.jsonl").write_text(text)
    return path


def test_results_of_lm_eval_with_samples(tmp_path: Path) -> None:
    foreign = importing.read(lm_eval_results(tmp_path, {}), ["gsm8k=reasoning"])
    assert len(foreign.records) == 4 and not foreign.scorecard.cells
    for judge, right in (("exact_match,strict-match", 2), ("exact_match,flexible-extract", 3)):
        assert sum(measure(record, judge).value or 0 for record in foreign.records) == right
    assert foreign.records[3].sample.messages[0].content == "Q: 3 + 0?"


def test_results_of_lm_eval_without_samples_keep_their_n_and_an_interval(tmp_path: Path) -> None:
    path = lm_eval_results(tmp_path, {"gsm8k": {"original": 1319, "effective": 40}}, with_samples=False)
    foreign = importing.read(path, ["gsm8k=reasoning"])
    strict, flexible = foreign.scorecard.cells
    assert (strict.value, strict.n, flexible.value) == (0.5, 40, 0.75)
    assert 0.35 < strict.interval.low < 0.5 < strict.interval.high < 0.65
    with pytest.raises(InvalidInput, match="of how many samples"):
        importing.read(lm_eval_results(tmp_path, {}, with_samples=False), ["gsm8k=reasoning"])


@pytest.mark.parametrize(
    ("value", "expected", "invalid"),
    [
        ("C", 1.0, ""),
        ("P", 0.5, ""),
        (False, 0.0, ""),
        (0.25, 0.25, ""),
        (7, None, "the score is outside of 0 to 1"),
        (float("nan"), None, "grader said nothing"),
        ({"a": 1}, None, "grader said nothing"),
        ("maybe", None, "grader said nothing"),
    ],
)
def test_a_score_is_a_share_or_counted_as_missing(value: object, expected: float | None, invalid: str) -> None:
    made = importing.verdict("j", value, importing.Meaning("harm", "harm"), "grader said nothing")
    assert (made.value if not made.invalid else None, made.invalid) == (expected, invalid)


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    for name, content, says in (
        ("a.eval", b"PK", "not a finished Inspect log"),
        ("b.json", b'{"results": {}}', "not results of lm-eval"),
        ("c.txt", b"", "is no log that can be read here; expected one of: inspect"),
        ("d.json", b'{"version": 2, "status": "error", "eval": {"task": "t", "model": "m"}}', "has the status error"),
        ("e.json", b'{"version": 9, "status": "success", "eval": {"task": "t", "model": "m"}}', "version is 9"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=says):
            importing.read(tmp_path / name, [])
    with pytest.raises(NotFound, match="name a log file"):
        importing.read(tmp_path / "nowhere", [])
    for role in ("sums", "sums=hram", "sums=harm:hram"):
        with pytest.raises(InvalidInput, match="expected task=role"):
            importing.meanings([role])


def test_a_damaged_sample_is_not_read(tmp_path: Path) -> None:
    log = export.write(measured_run(), "inspect", tmp_path)[0]
    with zipfile.ZipFile(log, "a") as archive:
        archive.writestr("samples/other_epoch_1.json", "{}")
    with pytest.raises(InvalidInput, match="a sample cannot be read"):
        importing.read(log, [])
