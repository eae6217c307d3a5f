"""The suite of all runners (tests/jobs/test_contract.py), asked of the runner over a real API server."""

import pytest

from tests.cluster.conftest import Cluster
from tests.jobs.test_contract import *  # noqa: F403


@pytest.fixture
def either(cluster: Cluster) -> Cluster:
    """In `make test` the suite runs over the fake one."""
    return cluster
