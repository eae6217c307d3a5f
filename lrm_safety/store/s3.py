"""The object store on any S3 (AWS, MinIO, SeaweedFS, Ceph): the only importer of `minio`. LRM_STORE=s3://bucket/prefix.

Retries come in two layers. Every single request, also each part of a big upload, is sent again where nobody answers
(for about 8 s) and on a 5xx (for about 30 s more: a server that restarts answers 500 until its disks are back). An
operation whose answer breaks off half way, or that lost a race inside the server, is done again as a whole.
"""

import hashlib
import io
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import tenacity
import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.datatypes import Object
from minio.error import InvalidResponseError, S3Error, ServerError
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, NoncurrentVersionExpiration, Rule
from minio.versioningconfig import VersioningConfig

from lrm_safety.errors import Conflict, Corrupt, Exhausted, InvalidInput, LrmError, NotFound, Unavailable
from lrm_safety.settings import Settings
from lrm_safety.store import Stat
from lrm_safety.store.keys import check_key, check_prefix
from lrm_safety.store.landing import CHUNK, counted, failures, landing, sweep

PART_BYTES = 8 << 20  # of a big upload; four at a time
MOST_PARTS = 10_000  # S3's limit
KEPT_DAYS = 30  # of versions that were replaced or deleted: time to notice a mistake
ABANDONED_DAYS = 7  # after which the parts of an upload that never ended are removed
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
DIGEST = "X-Amz-Meta-Sha256"
WRITER = "X-Amz-Meta-Writer"
DENIED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed")
FULL = ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
PASSING = ("ConditionalRequestConflict", "NoSuchUpload", "SlowDown", "RequestTimeout", "InternalError")


def _is_passing(error: BaseException) -> bool:
    """Worth doing the whole operation again; requests that got no answer at all were already sent again."""
    if isinstance(error, S3Error):
        return error.code in PASSING
    return isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, urllib3.exceptions.MaxRetryError)


again = tenacity.retry(
    retry=tenacity.retry_if_exception(_is_passing),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
    stop=tenacity.stop_after_attempt(5),
    reraise=True,
)


class S3Store:
    """Objects are S3 objects `prefix/key`, with their sha256 (our etag) as user metadata; an object that somebody else
    put there has none, and is read to find it. A file is read twice when uploaded: its digest must be sent first.
    """

    def __init__(self, place: str, settings: Settings) -> None:
        self._bucket, _, prefix = place.rstrip("/").partition("/")
        if not BUCKET.fullmatch(self._bucket):
            raise InvalidInput(f"LRM_STORE is 's3://{place}'; expected s3://<bucket>/<prefix>, bucket of 3-63 a-z0-9.-")
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._endpoint = settings.s3_endpoint
        self._client = _client(settings)
        with self._failures("opening the store"):
            self._make_bucket()

    def read(self, key: str) -> bytes:
        name = self._name(key)
        with self._failures(f"reading {key}"):
            return self._read(name)

    def write(self, key: str, data: bytes) -> str:
        name = self._name(key)
        with self._failures(f"writing {key}"):
            etag = hashlib.sha256(data).hexdigest()
            self._send(name, io.BytesIO(data), len(data), etag)
            return etag

    def create(self, key: str, data: bytes) -> bool:
        """One conditional PUT. The writer's token tells a lost race from our own first try, whose answer got lost."""
        name, token = self._name(key), secrets.token_hex(16)
        with self._failures(f"creating {key}"):
            try:
                self._put_if_absent(name, data, {DIGEST: hashlib.sha256(data).hexdigest(), WRITER: token})
            except S3Error as error:
                if error.code != "PreconditionFailed":
                    raise
                there = self._head(name)
                return there is not None and _metadata(there, WRITER) == token
            return True

    def list(self, prefix: str) -> Iterator[str]:
        """Sorted here: SeaweedFS lists folder by folder ('a/b' before 'a-b'), where S3 promises the order of keys."""
        start = self._prefix + check_prefix(prefix)
        with self._failures(f"listing {prefix}"):
            found = [each.object_name for each in self._client.list_objects(self._bucket, prefix=start, recursive=True)]
        names = sorted(name for name in found if name and not name.endswith("/"))
        yield from (name.removeprefix(self._prefix) for name in names)

    def stat(self, key: str) -> Stat | None:
        name = self._name(key)
        with self._failures(f"reading {key}"):
            there = self._head(name)
            if there is None:
                return None
            etag = _metadata(there, DIGEST)
            return Stat(size=there.size or 0, etag=etag or self._digest(name))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._failures(f"deleting {key}"):
            self._client.remove_object(self._bucket, name)

    def upload(self, path: Path, key: str) -> str:
        name = self._name(key)
        if not path.is_file():
            raise NotFound(f"there is no file {path} to upload as {key}")
        with self._failures(f"uploading {key}"), failures(f"uploading {key}", path), path.open("rb") as file:
            before = path.stat()
            etag = hashlib.file_digest(file, "sha256").hexdigest()
            self._send(name, file, before.st_size, etag)
            after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            self.delete(key)
            raise Conflict(f"{path} changed while it was uploaded as {key}; let its writer finish and upload it again")
        return etag

    def download(self, key: str, path: Path) -> str:
        name = self._name(key)
        with self._failures(f"downloading {key}"), failures(f"downloading {key}", path.parent):
            return self._fetch(name, path)

    def set_up_bucket(self) -> tuple[str, ...]:
        """Switches versioning on, and rules that clear up behind it; rules of others stay. Returns what the server
        would not do, in words: the platform works without.
        """
        steps = {
            "keep old versions of objects": self._keep_versions,
            f"remove old versions after {KEPT_DAYS} days and abandoned uploads after {ABANDONED_DAYS}": self._clear_up,
        }
        refused = []
        for what, step in steps.items():
            try:
                with self._failures(f"setting bucket {self._bucket} to {what}"):
                    step()
            except LrmError as error:
                refused.append(f"the bucket does not {what}: {error}")
        return tuple(refused)

    def _keep_versions(self) -> None:
        self._client.set_bucket_versioning(self._bucket, VersioningConfig(ENABLED))

    def _clear_up(self) -> None:
        ours = Rule(
            ENABLED,
            rule_filter=Filter(prefix=self._prefix),
            rule_id=f"lrm-safety {self._prefix}".strip(),
            noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=KEPT_DAYS),
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=ABANDONED_DAYS),
        )
        there = self._client.get_bucket_lifecycle(self._bucket)
        others = [rule for rule in there.rules if rule.rule_id != ours.rule_id] if there else []
        self._client.set_bucket_lifecycle(self._bucket, LifecycleConfig([*others, ours]))

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _make_bucket(self) -> None:
        if not self._client.bucket_exists(self._bucket):
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code != "BucketAlreadyOwnedByYou":  # somebody else was as quick: fine
                    raise

    @again
    def _send(self, name: str, source: BinaryIO, size: int, etag: str) -> None:
        source.seek(0)
        part = max(PART_BYTES, -(-size // MOST_PARTS))
        metadata: dict[str, str | list[str] | tuple[str]] = {DIGEST: etag}
        self._client.put_object(
            self._bucket, name, source, size, metadata=metadata, part_size=part, num_parallel_uploads=4
        )

    @again
    def _put_if_absent(self, name: str, data: bytes, metadata: dict[str, str]) -> None:
        # put_object would turn If-None-Match into user metadata, and a presigned URL does not sign our metadata
        headers: dict[str, str | list[str] | tuple[str]] = {"If-None-Match": "*", **metadata}
        self._client._put_object(self._bucket, name, data, headers)

    def _head(self, name: str) -> Object | None:
        try:
            return self._client.stat_object(self._bucket, name)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise

    @again
    def _fetch(self, name: str, path: Path) -> str:
        with landing(path.parent) as file:
            sweep(path.parent)
            self._receive(name, file.write)
            return file.replace(path)

    @again
    def _read(self, name: str) -> bytes:
        chunks: list[bytes] = []
        self._receive(name, chunks.append)
        return b"".join(chunks)

    @again
    def _digest(self, name: str) -> str:
        return self._receive(name, lambda chunk: None)

    def _receive(self, name: str, take: Callable[[bytes], None]) -> str:
        """The object in chunks, checked in the end against its digest, which is returned."""
        response = self._client.get_object(self._bucket, name)
        digest = hashlib.sha256()
        try:
            for chunk in response.stream(CHUNK):
                digest.update(chunk)
                take(chunk)
        finally:
            response.close()
            response.release_conn()
        if digest.hexdigest() != response.headers.get(DIGEST, digest.hexdigest()):
            raise Corrupt(f"object {name} in bucket {self._bucket} is not what was written; delete it and make it anew")
        return digest.hexdigest()

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Turns what the server said, or that it said nothing, into our errors."""
        try:
            yield
        except S3Error as error:
            raise counted(what, _translated(error, what, self._bucket)) from error
        except InvalidResponseError as error:
            ours = Unavailable(
                f"{what} failed: what answers at {self._endpoint} is no S3 server; check LRM_S3_ENDPOINT"
            )
            raise counted(what, ours) from error
        except (urllib3.exceptions.HTTPError, ServerError) as error:
            ours = Unavailable(
                f"{what} failed: no S3 server answers at {self._endpoint} ({_reason(error)}); check that it runs, "
                "that LRM_S3_ENDPOINT is its host:port, and that LRM_S3_SECURE (1 = https, 0 = http) fits it"
            )
            raise counted(what, ours) from error


def _client(settings: Settings) -> Minio:
    retries = urllib3.Retry(
        total=None,
        connect=6,
        read=6,
        status=16,
        backoff_factor=0.25,
        backoff_max=2,
        status_forcelist=(500, 502, 503, 504),
        allowed_methods=None,
    )
    http = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=60), retries=retries, maxsize=16, cert_reqs="CERT_REQUIRED"
    )
    try:
        if not settings.s3_endpoint:
            raise ValueError("empty")
        return Minio(
            settings.s3_endpoint,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            secure=settings.s3_secure,
            http_client=http,
        )
    except ValueError:
        raise InvalidInput(
            f"LRM_S3_ENDPOINT is {settings.s3_endpoint!r}; expected host:port without http:// and without a path, "
            "and LRM_S3_ACCESS_KEY and LRM_S3_SECRET_KEY beside it"
        ) from None


def _translated(error: S3Error, what: str, bucket: str) -> LrmError:
    why = f"{what} failed: the S3 server answered {error.code}"
    if error.code == "NoSuchKey":
        return NotFound(f"{what} failed: bucket {bucket} has no such object")
    if error.code == "NoSuchBucket":
        return NotFound(f"{what} failed: there is no bucket {bucket}; somebody removed it, or LRM_STORE names another")
    if error.code in DENIED:
        return InvalidInput(f"{why}; check LRM_S3_ACCESS_KEY, LRM_S3_SECRET_KEY and their rights on bucket {bucket}")
    if error.code in FULL or error.response.status == 507:
        return Exhausted(f"{why}; make room in bucket {bucket} or raise its quota, then ask again")
    return Unavailable(f"{why} ({error.message}); ask again, or look into the server's log")


def _reason(error: Exception) -> str:
    return type(getattr(error, "reason", None) or error).__name__


def _metadata(there: Object, name: str) -> str | None:
    return there.metadata.get(name) if there.metadata else None
