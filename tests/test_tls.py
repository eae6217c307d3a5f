"""Mutual TLS between real servers and clients, with certificates as `services.certificates` makes them."""

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lrm_safety import serving, tls
from lrm_safety.cli._services import is_serving
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Conflict, Denied, InvalidInput, LrmError, Unavailable
from lrm_safety.nouns import (
    BuildDatasetRequest,
    ImportRunRequest,
    ListPluginsRequest,
    ListPluginsResponse,
    Run,
    ScoreRequest,
)
from lrm_safety.settings import SERVICES, Settings, process_env
from lrm_safety.v1.bench_pb2_grpc import BenchServiceServicer, add_BenchServiceServicer_to_server
from services import certificates, health
from services.certificates import Folders, Secrets, Wanted, ensure
from services.data import service as data_service
from tests.conftest import free_ports
from tests.fakes.kubernetes_api import KubernetesApi
from tests.test_serving import register

ROOT = Path(__file__).resolve().parents[1]
WANTED = Wanted("lrm", "ml")
NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=400)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A release's certificates: a folder a holder."""
    folder = tmp_path / "tls"
    ensure(Folders(folder), WANTED, NOW)
    return folder


@pytest.fixture
def judge(serve: Callable[..., serving.Server], shelf: Path) -> serving.Server:
    return serve("judge", register, tls_dir=shelf / "judge")


@pytest.fixture
def client_of(settings: Settings) -> Iterator[Callable[[Path | None], Clients]]:
    made: list[Clients] = []

    def make(folder: Path | None) -> Clients:
        made.append(Clients(replace(settings, tls_dir=folder)))
        return made[-1]

    yield make
    for clients in made:
        clients.close()


def ask(clients: Clients) -> ListPluginsResponse:
    return rpc(clients.judge.ListPlugins, ListPluginsRequest(), timeout_s=10)


@pytest.mark.parametrize("who", ["client", "bench", "data"])
def test_those_who_may_ask_are_answered(judge: serving.Server, shelf: Path, client_of, who: str) -> None:
    assert ask(client_of(shelf / who)) == ListPluginsResponse()


@pytest.mark.parametrize("who", ["trainer", "inference", "judge"])
def test_others_are_told_who_they_are_and_who_may(judge: serving.Server, shelf: Path, client_of, who: str) -> None:
    with pytest.raises(Denied, match=f"{who} may not ask judge; allowed: client, bench, data"):
        ask(client_of(shelf / who))
    with pytest.raises(Denied):
        list(rpc_stream(client_of(shelf / who).judge.Score, ScoreRequest(items=[{"id": "a"}])))


def test_a_stream_of_requests_is_no_way_round(
    serve: Callable[..., serving.Server], settings: Settings, shelf: Path, client_of
) -> None:
    def register_bench(server: grpc.Server, settings: Settings) -> list[str]:
        add_BenchServiceServicer_to_server(BenchServiceServicer(), server)
        return []

    serve("bench", register_bench, tls_dir=shelf / "bench")

    def send(client: Clients) -> Run:
        return rpc(lambda asked, timeout: client.bench.ImportRun(iter(asked), timeout=timeout), [ImportRunRequest()])

    with pytest.raises(Denied, match="judge may not ask bench"):
        send(client_of(shelf / "judge"))
    with pytest.raises(LrmError, match=r"ImportRun|internal error"):  # let in, where nothing is implemented
        send(client_of(shelf / "client"))


def test_health_is_for_all_who_have_a_certificate(judge: serving.Server, shelf: Path, settings: Settings) -> None:
    address = settings.addresses["judge"]
    assert is_serving(replace(settings, tls_dir=shelf / "trainer"), address)
    assert not is_serving(settings, address), "plain text"


def test_without_a_certificate_nobody_is_answered(judge: serving.Server, shelf: Path, client_of) -> None:
    with pytest.raises(Unavailable):
        ask(client_of(None))
    credentials = grpc.ssl_channel_credentials((shelf / "ca" / "ca.crt").read_bytes())
    with (
        grpc.secure_channel(f"localhost:{judge.port}", credentials) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_another_ca_and_an_expired_certificate_are_refused(
    judge: serving.Server, shelf: Path, tmp_path: Path, client_of
) -> None:
    ensure(Folders(tmp_path / "foreign"), WANTED, NOW)
    with pytest.raises(Unavailable, match="each other's certificates"):
        ask(client_of(tmp_path / "foreign" / "client"))
    ca = certificates.Signer.read(Folders(shelf).read("ca") or {})
    Folders(tmp_path).replace("old", certificates.make_leaf(ca, WANTED, "client", LONG_AGO))
    with pytest.raises(Unavailable):
        ask(client_of(tmp_path / "old"))


def test_servers_are_known_by_the_names_of_their_services(judge: serving.Server, shelf: Path) -> None:
    pems = tls.Folder(shelf / "client").pems
    credentials = grpc.ssl_channel_credentials(pems.ca, pems.key, pems.certificate)

    def is_accepted_as(name: str) -> bool:
        options = [("grpc.ssl_target_name_override", name)]
        with grpc.secure_channel(f"127.0.0.1:{judge.port}", credentials, options) as channel:
            try:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            except grpc.RpcError:
                return False
        return True

    right = ["lrm-judge", "lrm-judge.ml", "lrm-judge.ml.svc", "lrm-judge.ml.svc.cluster.local", "localhost"]
    assert [is_accepted_as(name) for name in right] == [True] * 5
    assert not is_accepted_as("lrm-bench") and not is_accepted_as("lrm-judge.other.svc")


def test_certificates_change_while_calls_go_on(judge: serving.Server, shelf: Path, tmp_path: Path, client_of) -> None:
    """Everything new, the CA too: a stream that is open ends well, the same clients go on, old certificates do not."""
    clients = client_of(shelf / "client")
    stream = rpc_stream(clients.judge.Score, ScoreRequest(items=[{"id": str(n)} for n in range(6)]))
    assert next(stream).id == "0"
    Folders(tmp_path).replace("old", Folders(shelf).read("client") or {})
    for name in ("ca", *SERVICES, "client"):
        for file in (shelf / name).iterdir():
            file.unlink()
        (shelf / name).rmdir()
    ensure(Folders(shelf), WANTED, NOW)
    assert ask(clients) == ListPluginsResponse()
    assert [verdict.id for verdict in stream] == ["1", "2", "3", "4", "5"]
    assert ask(client_of(shelf / "bench")) == ListPluginsResponse()
    with pytest.raises(Unavailable):
        ask(client_of(tmp_path / "old"))


def test_files_that_do_not_fit_yet_are_left_for_later(judge: serving.Server, shelf: Path, client_of) -> None:
    """Key and certificate are two files: between the two renames the old pair stays in use."""
    ca = certificates.Signer.read(Folders(shelf).read("ca") or {})
    fresh = certificates.make_leaf(ca, WANTED, "judge", NOW)
    Folders(shelf).replace("judge", {"tls.key": fresh["tls.key"]})
    folder = tls.Folder(shelf / "client")
    assert not folder.renewed()
    assert ask(client_of(shelf / "client")) == ListPluginsResponse()
    Folders(shelf).replace("judge", {"tls.crt": fresh["tls.crt"]})
    assert ask(client_of(shelf / "data")) == ListPluginsResponse()


def test_the_expiry_is_a_metric_and_what_changes_things_is_logged(
    shelf: Path, settings: Settings, client_of, capfd: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    changed = replace(settings, tls_dir=shelf / "judge", metrics_ports={"judge": port})
    server = serving.start("judge", register, changed)
    try:
        ask(client_of(shelf / "client"))
        text = urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5).read().decode()
    finally:
        server.stop(0).wait()
    (line,) = [line for line in text.splitlines() if line.startswith("lrm_certificate_expires_timestamp_seconds ")]
    assert float(line.split()[1]) == pytest.approx((NOW + timedelta(days=365)).timestamp(), abs=2)
    assert not asked(capfd), "reading is not logged"


def asked(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the audit log; where logs go depends on what was set up before."""
    return [line for text in capfd.readouterr() for line in text.splitlines() if "rpc_asked" in line]


def test_who_asked_for_what_is_logged_also_when_it_is_refused(
    serve: Callable[..., serving.Server], shelf: Path, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    serve("data", data_service.register, tls_dir=shelf / "data")
    clients = Clients(replace(settings, tls_dir=shelf / "client", team="red"))
    with pytest.raises(InvalidInput):
        rpc(clients.data.BuildDataset, BuildDatasetRequest())
    clients.close()
    (line,) = asked(capfd)
    assert all(words in line for words in ("BuildDataset", "client", "red"))


def test_plain_text_stays_on_this_machine(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="LRM_TLS"):
        serving.start("judge", register, replace(settings, host="0.0.0.0"))
    server = serving.start("judge", register, replace(settings, host="0.0.0.0", is_plain_text=True))
    server.stop(0).wait()


def test_a_folder_of_no_use_is_said_in_one_line(settings: Settings, shelf: Path) -> None:
    (shelf / "judge" / "tls.key").write_bytes((shelf / "bench" / "tls.key").read_bytes())
    with pytest.raises(InvalidInput, match="KEY_VALUES_MISMATCH"):
        serving.start("judge", register, replace(settings, tls_dir=shelf / "judge"))
    (shelf / "judge" / "ca.crt").unlink()
    with pytest.raises(InvalidInput, match=r"ca\.crt is missing"):
        serving.start("judge", register, replace(settings, tls_dir=shelf / "judge"))
    env = {"LRM_TLS": str(shelf / "judge"), "LRM_METRICS_PORT": "0", "LRM_JUDGE_ADDR": settings.addresses["judge"]}
    command = [sys.executable, "-m", "services", "judge"]
    done = subprocess.run(
        command, cwd=ROOT, env=process_env(env), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ca.crt is missing" in done.stderr.splitlines()[-1]


def test_the_probe_of_a_pod(judge: serving.Server, shelf: Path, settings: Settings) -> None:
    """As the kubelet runs it, with the service's own certificate, at a service name that means nothing here."""
    env = {"LRM_TLS": str(shelf / "judge"), "LRM_JUDGE_ADDR": f"lrm-judge:{judge.port}", "LRM_HOST": "0.0.0.0"}

    def probe() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.health", "judge"]
        return subprocess.run(command, cwd=ROOT, env=process_env(env), capture_output=True, text=True, check=False)

    started = time.monotonic()
    assert probe().returncode == 0
    assert time.monotonic() - started < 5
    judge.stop(0).wait()
    gone = probe()
    assert gone.returncode == 1 and "UNAVAILABLE" in gone.stderr
    assert health.main(["fly"]) == 2


def test_asking_again_makes_nothing_new_until_it_is_time(shelf: Path) -> None:
    assert ensure(Folders(shelf), WANTED, NOW) == []
    assert ensure(Folders(shelf), WANTED, NOW + timedelta(days=330)) == []
    ca, bench = ((shelf / name / "tls.crt").read_bytes() for name in ("ca", "bench"))
    renewed = ensure(Folders(shelf), WANTED, NOW + timedelta(days=340))
    assert renewed == [*SERVICES, "client"]
    assert (shelf / "ca" / "tls.crt").read_bytes() == ca and (shelf / "bench" / "tls.crt").read_bytes() != bench
    with pytest.raises(Conflict, match="remove it and ask again"):
        ensure(Folders(shelf), WANTED, NOW + timedelta(days=3640))


def test_what_does_not_fit_is_made_anew(shelf: Path) -> None:
    assert ensure(Folders(shelf), Wanted("lrm", "other"), NOW) == list(SERVICES)
    Folders(shelf).replace("judge", {"tls.crt": (shelf / "bench" / "tls.crt").read_bytes()})
    Folders(shelf).replace("data", {"tls.crt": b"nonsense"})
    assert ensure(Folders(shelf), Wanted("lrm", "other"), NOW) == ["data", "judge"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_keys_are_for_their_owner_and_openssl_agrees(shelf: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in shelf.glob("*/tls.key")} == {0o600}
    leaves = [str(shelf / name / "tls.crt") for name in (*SERVICES, "client")]
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-purpose", purpose, "-CAfile", str(shelf / "ca" / "ca.crt"), *leaves]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count(": OK") == 6


def test_in_a_cluster_they_are_secrets(tmp_path: Path) -> None:
    with KubernetesApi() as api:
        config = str(api.kubeconfig(tmp_path))
        words = ["--release", "lrm", "--namespace", "default", "--store-secret", "lrm-store"]
        command = [sys.executable, "-m", "services.certificates", *words]

        def run() -> str:
            env = process_env({"KUBECONFIG": config})
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
            return done.stdout + done.stderr

        said = run()
        shelf = Secrets(Settings(kubeconfig=config), Wanted("lrm", "default"))
        bench, keys = shelf.read("bench") or {}, shelf.read("lrm-store") or {}
        assert sorted(bench) == ["ca.crt", "tls.crt", "tls.key"]
        assert x509.load_pem_x509_certificate(bench["tls.crt"]).not_valid_after_utc > NOW
        assert sorted(keys) == ["LRM_S3_ACCESS_KEY", "LRM_S3_SECRET_KEY"]
        assert not any(value.decode() in said for value in (*keys.values(), bench["tls.key"]))
        run()
        assert (shelf.read("bench"), shelf.read("lrm-store")) == (bench, keys), "made anew without need"
        assert ensure(shelf, Wanted("lrm", "moved"), NOW) == list(SERVICES), "patched in place"
        assert shelf.read("bench") != bench
