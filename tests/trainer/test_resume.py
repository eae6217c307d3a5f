"""Resume points in the store: complete or not there, verified, the older deleted after the newer is whole."""

import threading

import pytest

from lrm_safety.errors import Corrupt, Unavailable
from services.trainer.resume import ResumePoints

ROOT = "runs/training-1/resume/"


@pytest.fixture
def points(store):
    return ResumePoints(store, "training-1", 1)


def share(points, step, rank):
    points.write_share(step, rank, dict([points.write(step, rank, 0, b"%d of %d" % (rank, step))]))


def save(points, step, keep=1, processes=2):
    for rank in range(processes):
        share(points, step, rank)
    points.complete(step, processes, keep, lambda: True)


def steps(points):
    return {int(key.removeprefix(ROOT).split("/")[0]) for key in points.store.list(ROOT)}


def test_the_newest_complete_point_is_what_comes_back(points, tmp_path):
    assert points.newest() == 0
    save(points, 2)
    save(points, 10)
    assert points.newest() == 10
    assert [path.read_bytes() for path in points.download(10, tmp_path / "back")] == [b"0 of 10", b"1 of 10"]
    assert steps(points) == {10}


def test_a_point_is_complete_only_with_every_process_s_share(points):
    share(points, 4, 0)
    with pytest.raises(Unavailable, match="process 1 did not write its share of the resume point at step 4"):
        points.complete(4, 2, 1, lambda: True)
    assert points.newest() == 0
    waits = threading.Thread(target=points.complete, args=(4, 2, 1, lambda: False))
    waits.start()
    share(points, 4, 1)
    waits.join(30)
    assert points.newest() == 4


def test_what_an_attempt_that_was_killed_left_belongs_to_no_other(points, tmp_path):
    share(points, 4, 1)
    again = ResumePoints(points.store, "training-1", 2)
    with pytest.raises(Unavailable):
        save(again, 4, processes=1)
        again.complete(4, 2, 1, lambda: True)
    save(again, 6)
    assert steps(again) == {6}


def test_the_newest_n_are_kept(points):
    for step in (2, 4, 6, 8):
        save(points, step, keep=3)
    assert steps(points) == {4, 6, 8}


def test_a_point_that_is_being_written_outlives_the_completion_of_the_one_before(points):
    share(points, 2, 0)
    share(points, 2, 1)
    share(points, 4, 1)  # its process is ahead of the first one
    points.complete(2, 2, 1, lambda: True)
    share(points, 4, 0)
    points.complete(4, 2, 1, lambda: True)
    assert (points.newest(), steps(points)) == (4, {4})


def test_changed_bytes_are_not_resumed_from(points, tmp_path):
    save(points, 2)
    points.store.write(f"{ROOT}00000002/001-00001-00000.safetensors", b"1 of 3")
    with pytest.raises(Corrupt, match=r"resume/00000002/001-00001-00000\.safetensors"):
        points.download(2, tmp_path / "back")


def test_clear(points):
    save(points, 2)
    points.clear()
    assert not list(points.store.list("runs/training-1/"))
