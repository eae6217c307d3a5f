"""Resume points in the store: complete or not there, verified, the older deleted after the newer is whole."""

import pytest

from lrm_safety.errors import Corrupt
from services.trainer.resume import ResumePoints


@pytest.fixture
def points(store):
    return ResumePoints(store, "training-1")


def save(points, tmp_path, step):
    folder = tmp_path / f"at-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"m%d" % step)
    (folder / "inner" / "optimizer.pt").write_bytes(b"o%d" % step)
    points.upload(step, folder)


def test_the_newest_complete_point_is_what_comes_back(points, tmp_path):
    assert points.newest() == 0
    save(points, tmp_path, 2)
    save(points, tmp_path, 10)
    assert points.newest() == 10
    folder = points.download(10, tmp_path / "back")
    assert (folder / "model.pt").read_bytes() == b"m10"
    assert (folder / "inner" / "optimizer.pt").read_bytes() == b"o10"
    assert not [key for key in points.store.list("runs/training-1/resume/") if "00000002" in key]


def test_a_point_without_its_manifest_is_none(points, tmp_path):
    save(points, tmp_path, 2)
    points.store.write("runs/training-1/resume/00000004/model.pt", b"half")
    assert points.newest() == 2
    save(points, tmp_path, 6)
    assert not [key for key in points.store.list("runs/training-1/resume/") if "00000004" in key]


def test_changed_bytes_are_not_resumed_from(points, tmp_path):
    save(points, tmp_path, 2)
    points.store.write("runs/training-1/resume/00000002/model.pt", b"mX")
    with pytest.raises(Corrupt, match=r"resume/00000002/model\.pt"):
        points.download(2, tmp_path / "back")


def test_clear(points, tmp_path):
    save(points, tmp_path, 2)
    points.clear()
    assert not list(points.store.list("runs/training-1/"))
