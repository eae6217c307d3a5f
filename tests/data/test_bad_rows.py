"""Rows that cannot be used: each is told with file, line and reason, its neighbours are read, no value is quoted."""

import json
from pathlib import Path

import pytest

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import LINE_CHARACTERS
from services.data.source import BadRow, Row, each_row, open_source

SECRET = "do-not-quote-me"
TEN_MEGABYTES = SECRET.encode() * 700_000


def read(path: Path, source: str, settings: Settings, **fields: str) -> list[Row | BadRow]:
    return list(each_row(open_source(SourceSpec(source=source, path=str(path)), settings), fields))


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        (b'{"prompt": "do-not-quote-me', "not JSON", "it is not JSON"),
        (b'["do-not-quote-me"]', "not an object", "expected an object, got list"),
        (b'{"prompt": "do-not-quote-me \0"}', "NUL character", "NUL character"),
        (b'{"prompt": "do-not-quote-me \xff"}', "not UTF-8", "not UTF-8"),
        (b'{"prompt": "%s"}' % TEN_MEGABYTES, "too long", "too long"),
        (b'{"other": "do-not-quote-me"}', "missing field", "there is no field 'prompt'; there are: other"),
    ],
)
def test_a_bad_line_between_good_ones(line: bytes, reason: str, says: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "1"}\n' + line + b'\n{"prompt": "3"}\n')
    first, bad, last = read(path, "jsonl", settings, question="prompt")
    assert isinstance(first, Row) and isinstance(last, Row) and isinstance(bad, BadRow)
    assert (first.text("question"), last.text("question"), last.number) == ("1", "3", 3)
    assert bad.reason == reason and str(path) in str(bad) and says in str(bad)
    assert ("line 2" in str(bad) or "row 2" in str(bad)) and SECRET not in str(bad)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([SECRET], "wrong type"),
        ({"a": SECRET}, "wrong type"),
        (f"{SECRET} \0", "NUL character"),
        (f"{SECRET} \ud83d", "half a character"),
        (SECRET * 700_000, "too long"),
    ],
)
def test_a_field_that_is_no_text(value: object, reason: str, tmp_path: Path, settings: Settings) -> None:
    """As a JSON document may hide it: escaped, or without lines."""
    (tmp_path / "a.json").write_text(json.dumps([{"prompt": "1"}, {"prompt": value}]))
    _, row = read(tmp_path / "a.json", "json", settings)
    assert isinstance(row, Row)
    with pytest.raises(BadRow, match=r"a\.json, row 2: field 'prompt'") as error:
        row.text("prompt")
    assert error.value.reason == reason and SECRET not in str(error.value)


def test_rows_of_a_json_document_that_are_no_objects(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"a": 1}, SECRET, {"a": 3}]))
    first, bad, last = read(tmp_path / "a.json", "json", settings)
    assert isinstance(bad, BadRow) and bad.reason == "not an object" and SECRET not in str(bad)
    assert isinstance(first, Row) and isinstance(last, Row) and last.number == 3


def test_csv(tmp_path: Path, settings: Settings) -> None:
    """A bad line is a bad row; inside a quoted field it takes the row with it, and the rows after it are read."""
    lines = [b"a,b", b"1,2", b"1,2,do-not-quote-me", b"3,\0", b'"do-not', b"quote\xff", b'me",x', b"5,6"]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines) + b"\n")
    found = read(tmp_path / "a.csv", "csv", settings)
    good = [dict(row.fields) for row in found if isinstance(row, Row)]
    bad = [row for row in found if isinstance(row, BadRow)]
    assert good == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]
    assert [row.reason for row in bad] == ["wrong number of fields", "NUL character", "not UTF-8"]
    assert [row.place.rpartition(", ")[2] for row in bad] == ["line 3", "line 4", "line 6"]
    assert SECRET not in "".join(map(str, bad))


def test_a_csv_line_that_is_too_long_and_a_quote_that_never_closes(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n1\n" + TEN_MEGABYTES + b"\n3\n" + TEN_MEGABYTES)
    found = read(tmp_path / "a.csv", "csv", settings)
    assert [row.reason if isinstance(row, BadRow) else row.text("a") for row in found] == [
        *("1", "too long", "3", "too long")
    ]
    (tmp_path / "a.csv").write_text('a\n1\n"2\n' + f"{SECRET}\n" * (LINE_CHARACTERS // len(SECRET)))
    with pytest.raises(InvalidInput, match=r"a\.csv, line \d+: it is not CSV") as error:
        read(tmp_path / "a.csv", "csv", settings)
    assert SECRET not in str(error.value)


def test_tabs_for_commas(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.tsv").write_text('vanilla\ttype\n"one, ""two"""\tx\n')
    (row,) = read(tmp_path / "a.tsv", "csv", settings)
    assert isinstance(row, Row) and row.fields == {"vanilla": 'one, "two"', "type": "x"}


def test_a_file_without_a_header_does_not_put_its_first_row_into_an_error(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.csv").write_text(f"{SECRET} and {SECRET} and more of it\n1\n")
    (bad,) = read(tmp_path / "a.csv", "csv", settings, prompt="question")
    assert isinstance(bad, BadRow) and SECRET not in str(bad) and "a name of 50 characters" in str(bad)
