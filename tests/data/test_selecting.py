"""Selectors: they see a part on disk, and what they leave is told."""

from pathlib import Path

import pytest

from lrm_safety import jsonl
from lrm_safety.errors import InvalidInput, LrmError, NotFound
from lrm_safety.nouns import Drop, Example, PartSpec
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data.build import plan
from services.data.dropping import FILE
from services.data.making import NOT_SELECTED
from services.data.reading import read_examples
from services.data.selectors import first
from services.data.spool import Examples, Spool
from tests.data import files
from tests.data.files import Listener, dataset, part


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return files.jsonl(tmp_path / "a.jsonl", [{"id": n, "prompt": f"{n}?", "answer": "b"} for n in range(10)])


def test_the_first_rows(rows: Path, settings: Settings, store: ObjectStore) -> None:
    asked = dataset(part(rows, name="p", count=3, select="first"))
    made = plan(asked, settings, store).carry_out(Listener(), store, settings.state_dir / "data")
    assert {each.id for each in read_examples(store, made)} == {"p/0", "p/1", "p/2"}
    told = jsonl.unpack(Drop, store.read(f"datasets/{made.name}/{made.digest}/{FILE}"))
    assert [(drop.id, drop.step, drop.reason) for drop in told] == [
        (f"p/{n}", "first", NOT_SELECTED) for n in range(3, 10)
    ]
    assert dict(made.parts[0].dropped) == {NOT_SELECTED: 7}


def test_what_makes_no_sense(rows: Path, settings: Settings, store: ObjectStore) -> None:
    def refused(asked: PartSpec, kind: type[LrmError], says: str) -> None:
        with pytest.raises(kind, match=says):
            plan(dataset(asked), settings, store)

    refused(part(rows, select="first"), InvalidInput, "selects with first, but has no `count`")
    refused(part(rows, select="best", count=1), NotFound, "no selector is named 'best'; there are: .*first")
    refused(part(rows, select="first", count=1, select_options={"a": "b"}), InvalidInput, "has no option a")


def test_a_selector_that_miscounts_is_found_out(
    rows: Path, settings: Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ([0, 0], [0], [0, 10]):
        monkeypatch.setattr(first, "select", lambda examples, count, seed, context, wrong=wrong: wrong)
        planned = plan(dataset(part(rows, count=2, select="first")), settings, store)
        with pytest.raises(LrmError, match="selector first chose"):
            planned.carry_out(Listener(), store, settings.state_dir / "data")


def test_examples_are_read_from_disk_in_any_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for n in range(5):
        assert spool.add(Example(id=str(n)).SerializeToString()) == n
        assert Example.FromString(spool.read(n)).id == str(n)  # also between writes
    view = Examples(spool, [4, 0, 2])
    assert [each.id for each in view] == ["4", "0", "2"]
    assert (len(view), view[-1].id, [each.id for each in view[1:]]) == (3, "2", ["0", "2"])
    spool.close()
