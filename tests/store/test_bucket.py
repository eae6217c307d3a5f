"""`services.bucket` against a real S3 server: twice the same, rules of others kept, a server that is late."""

from dataclasses import replace
from pathlib import Path

import pytest
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import ServerError
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from prometheus_client import REGISTRY

from lrm_safety.errors import NotFound, Unavailable
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from services.bucket import set_up
from tests.store.seaweed import KEY, SECRET, Seaweed

OTHERS = Rule(ENABLED, rule_filter=Filter(prefix="logs/"), rule_id="theirs", expiration=Expiration(days=3))


def test_the_bucket_is_made_with_versions_and_rules(seaweed: Seaweed, settings: Settings) -> None:
    changed = replace(seaweed.settings(settings), store="s3://set-up/some/prefix")
    client = Minio(f"127.0.0.1:{seaweed.port}", KEY, SECRET, secure=False)
    assert set_up(changed) == ()
    client.set_bucket_lifecycle("set-up", LifecycleConfig([OTHERS]))
    assert set_up(changed) == () == set_up(changed)
    assert client.get_bucket_versioning("set-up").status == ENABLED
    rules = {rule.rule_id: rule for rule in client.get_bucket_lifecycle("set-up").rules}
    ours = rules.pop("lrm-safety some/prefix/")
    assert ours.rule_filter.prefix == "some/prefix/" and ours.noncurrent_version_expiration.noncurrent_days == 30
    assert ours.abort_incomplete_multipart_upload.days_after_initiation == 7
    assert list(rules) == ["theirs"]
    open_store(changed).write("a", b"b")


def test_a_server_without_versions_is_named_and_used_all_the_same(seaweed: Seaweed, settings: Settings) -> None:
    def unknown(client: Minio, bucket: str, config: object) -> None:
        raise ServerError("server failed with HTTP status code 501", 501)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Minio, "set_bucket_versioning", unknown)
        (refused,) = set_up(replace(seaweed.settings(settings), store="s3://plain"))
    assert refused.startswith("the bucket does not keep old versions of objects: ")


def test_a_server_that_is_late_is_awaited(seaweed: Seaweed, settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr("services.bucket.PAUSE_S", 0.1)
    answers: list[object] = []

    def opened(settings: Settings) -> object:
        answers.append(None)
        if len(answers) < 3:
            raise Unavailable("no S3 server answers")
        return open_store(settings)

    monkeypatch.setattr("services.bucket.open_store", opened)
    changed = replace(seaweed.settings(settings), store="s3://late")
    assert set_up(changed) == () and len(answers) == 3
    answers.clear()
    with pytest.raises(Unavailable):
        set_up(changed, patience_s=0.0)


def test_failures_of_the_store_are_counted_by_operation(settings: Settings) -> None:
    store = open_store(settings)

    def counted() -> float:
        return REGISTRY.get_sample_value("lrm_store_failed_total", {"operation": "reading"}) or 0.0

    before = counted()
    with pytest.raises(NotFound):
        store.read("absent")
    assert counted() == before, "that nothing is there is no failure"
    store.write("there", b"")
    loop = Path(settings.store.removeprefix("file://")) / "loop"
    loop.symlink_to(loop)
    with pytest.raises(Unavailable):
        store.read("loop")
    assert counted() == before + 1
