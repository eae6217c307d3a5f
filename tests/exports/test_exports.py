"""Exports are read back by the tools they are for: Inspect itself, pyarrow; and no text leaves unasked."""

import json
import math
import zipfile
from pathlib import Path

import pytest
from pyarrow import parquet

from lrm_safety import export, registry
from lrm_safety.errors import Conflict, NotFound
from lrm_safety.export import MeasuredRun
from lrm_safety.nouns import Scorecard
from tests.exports.measured import SECRET, measured_run

FORMS = [plugin.name for plugin in registry.describe(export.FOLDER)]


@pytest.mark.parametrize("form", FORMS)
def test_texts_leave_only_when_asked(tmp_path: Path, form: str) -> None:
    def texts(folder: Path) -> str:
        return "".join(_unpacked(path) for path in sorted(folder.iterdir()))

    export.write(measured_run(), form, tmp_path / "without")
    export.write(measured_run(), form, tmp_path / "with", is_with_text=True)
    assert SECRET not in texts(tmp_path / "without")
    assert all(f"{SECRET} {word}" in texts(tmp_path / "with") for word in ("request", "target", "answer"))


def test_lm_eval_files_have_the_harness_form(tmp_path: Path) -> None:
    run = measured_run()
    results, *samples = export.write(run, "lm_eval", tmp_path)
    tree = json.loads(results.read_text())
    task, cell = "strongreject", run.cells["strongreject", "none", "refusal"]
    assert set(tree["results"]) == {"strongreject", "strongreject_prefill", "math500"}
    p = tree["results"][task]["asr,refusal"]
    assert p == cell.value == 0.5
    assert tree["results"][task]["asr_stderr,refusal"] == pytest.approx(math.sqrt(p * (1 - p) / (cell.n - 1)))
    assert tree["n-samples"][task] == {"original": 10, "effective": 8}
    assert tree["higher_is_better"] == {
        "strongreject": {"asr": False},
        "strongreject_prefill": {"asr": False},
        "math500": {"accuracy": True},
    }
    for part in ("configs", "versions", "n-shot", "group_subtasks"):
        assert set(tree[part]) == set(tree["results"])
    # Two repeats of one sum say the same: as evidence they are one.
    sums = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    alone = (sum((v - 0.625) ** 2 for v in sums) / 7) ** 0.5 / math.sqrt(8)
    assert tree["results"]["math500"]["accuracy_stderr,math_equal"] == pytest.approx(alone, rel=0.05)
    assert [path.name.split("_2")[0] for path in samples] == [
        "samples_strongreject",
        "samples_strongreject_prefill",
        "samples_math500",
    ]
    lines = [json.loads(line) for line in samples[0].read_text().splitlines()]
    assert len(lines) == 20 and {line["filter"] for line in lines} == {"refusal", "second"}
    assert sum(line["asr"] for line in lines if "asr" in line and line["filter"] == "refusal") == 4
    assert [line["invalid"] for line in lines if "invalid" in line][:1] == ["no verdict"]


def test_parquet_gives_the_scorecard_again(tmp_path: Path) -> None:
    run = measured_run()
    rows = parquet.read_table(export.write(run, "parquet", tmp_path)[0]).to_pylist()
    assert len(rows) == 2 * 20 + 16
    for (benchmark, attack, judge), cell in run.cells.items():
        mine = [row for row in rows if (row["benchmark"], row["attack"], row["judge"]) == (benchmark, attack, judge)]
        values = [row["value"] for row in mine if row["value"] is not None]
        assert (len(values), sum(values) / len(values)) == (cell.n, cell.value)
        assert sum(bool(row["invalid"]) for row in mine) == cell.invalid
    cells = parquet.read_table(tmp_path / "cells.parquet").to_pylist()
    assert [(row["low"], row["high"], row["n"]) for row in cells] == [
        (cell.interval.low, cell.interval.high, cell.n) for cell in run.scorecard.cells
    ]


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are: inspect, lm_eval, parquet"):
        export.write(measured_run(), "excel", tmp_path)
    with pytest.raises(NotFound, match="nothing was measured"):
        export.write(MeasuredRun(Scorecard(run="bench-0"), lambda: iter(())), "parquet", tmp_path)
    taken = tmp_path / "file"
    taken.touch()
    with pytest.raises(Conflict, match="name another folder"):
        export.write(measured_run(), "parquet", taken)


def test_a_broken_export_leaves_nothing(tmp_path: Path) -> None:
    def records() -> None:
        raise NotFound("the store went away")

    for form in FORMS:
        with pytest.raises(NotFound):
            export.write(MeasuredRun(measured_run().scorecard, records), form, tmp_path / form)
        assert list((tmp_path / form).iterdir()) == []


def _unpacked(path: Path) -> str:
    if path.suffix == ".eval":
        with zipfile.ZipFile(path) as archive:
            return "".join(archive.read(name).decode() for name in archive.namelist())
    if path.suffix == ".parquet":
        return json.dumps(parquet.read_table(path).to_pylist())
    return path.read_text()
