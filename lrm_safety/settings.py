"""Where things run. The only reader of the environment: one frozen value, passed to who needs it."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lrm_safety.errors import InvalidInput

SERVICES = ("data", "trainer", "inference", "judge", "bench")
PRIORITIES = ("urgent", "normal", "filler")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FIRST_PORT = 50051
FIRST_METRICS_PORT = 9051
WEBHOOK_PORT = 9060
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def default_address(service: str) -> str:
    return f"127.0.0.1:{FIRST_PORT + SERVICES.index(service)}"


@dataclass(frozen=True)
class Settings:
    """All of where, nothing of what. Paths are absolute once made by `from_env`."""

    store: str = "file://.lrm/store"  # LRM_STORE: file://folder or s3://bucket/prefix
    jobs: str = "local"  # LRM_JOBS: local | cluster
    cluster: Path = Path("/etc/lrm/cluster.yaml")  # LRM_CLUSTER: images, node pools, queues, as the chart writes them
    kubeconfig: str = ""  # KUBECONFIG: how to reach the cluster; empty = as the pod we are in
    state_dir: Path = Path(".lrm")  # LRM_STATE: scratch of this machine (jobs, work folders, logs)
    data_dir: Path = Path("../shared/data")  # LRM_DATA: benchmark and source files
    host: str = "127.0.0.1"  # LRM_HOST: what servers listen on
    addresses: Mapping[str, str] = field(default_factory=lambda: {s: default_address(s) for s in SERVICES})
    metrics_ports: Mapping[str, int] = field(
        default_factory=lambda: {s: FIRST_METRICS_PORT + i for i, s in enumerate(SERVICES)}
    )  # LRM_METRICS_PORT moves the first; 0 turns them off
    vllm_python: Path = Path(sys.prefix).parent / ".venv-vllm" / "bin" / "python"  # LRM_VLLM_PYTHON
    s3_endpoint: str = ""  # LRM_S3_ENDPOINT: host:port
    s3_access_key: str = ""  # LRM_S3_ACCESS_KEY
    s3_secret_key: str = field(default="", repr=False)  # LRM_S3_SECRET_KEY
    s3_secure: bool = True  # LRM_S3_SECURE: 0 = plain http
    tls_dir: Path | None = None  # LRM_TLS: folder with ca.crt, tls.crt, tls.key; empty = plain text, loopback only
    is_plain_text: bool = False  # LRM_TLS=none: plain text, on whatever LRM_HOST says
    team: str = ""  # LRM_TEAM, LRM_PRIORITY, LRM_COST_CENTRE: for whom a client asks
    priority: str = ""
    cost_centre: str = ""
    engine_idle_s: float = 0.0  # LRM_ENGINE_IDLE_S: an engine without work for so long is stopped; 0 = never
    api_key: str = field(default="", repr=False)  # LRM_API_KEY: for the endpoints of one vendor
    api_key_host: str = ""  # LRM_API_KEY_HOST: the vendor's host, e.g. api.openai.com; no other gets the key
    webhook_secret: str = field(default="", repr=False)  # LRM_WEBHOOK_SECRET: set = bench takes signed announcements
    webhook_port: int = WEBHOOK_PORT  # LRM_WEBHOOK_PORT: where
    view_port: int = 0  # LRM_VIEW_PORT: set = bench serves the pages of `lrm view` there, on loopback only
    callback_secret: str = field(default="", repr=False)  # LRM_CALLBACK_SECRET: signs what is told to other servers
    github_token: str = field(default="", repr=False)  # LRM_GITHUB_TOKEN: may write commit statuses
    github_api: str = "https://api.github.com"  # LRM_GITHUB_API
    signing_key: Path | None = None  # LRM_SIGNING_KEY: ed25519, PEM; unset = decisions are unsigned
    commit: str = ""  # LRM_COMMIT: of the code that a checkpoint belongs to, for commit statuses
    log_level: str = "INFO"  # LRM_LOG_LEVEL
    hub_offline: bool = False  # HF_HUB_OFFLINE

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Settings of this process. LRM_<SERVICE>_ADDR moves one service. Raises InvalidInput naming the variable."""
        first = int(_number(env, "LRM_METRICS_PORT", FIRST_METRICS_PORT))
        tls, key = env.get("LRM_TLS", ""), env.get("LRM_SIGNING_KEY", "")
        return cls(
            store=_absolute_store(env.get("LRM_STORE", cls.store)),
            jobs=_one_of(env, "LRM_JOBS", ("local", "cluster"), cls.jobs),
            cluster=Path(env.get("LRM_CLUSTER", cls.cluster)).absolute(),
            kubeconfig=env.get("KUBECONFIG", ""),
            state_dir=Path(env.get("LRM_STATE", cls.state_dir)).absolute(),
            data_dir=Path(env.get("LRM_DATA", cls.data_dir)).absolute(),
            host=env.get("LRM_HOST", cls.host),
            addresses={s: env.get(f"LRM_{s.upper()}_ADDR", default_address(s)) for s in SERVICES},
            metrics_ports={s: first + i if first else 0 for i, s in enumerate(SERVICES)},
            vllm_python=Path(env.get("LRM_VLLM_PYTHON", cls.vllm_python)).absolute(),
            s3_endpoint=env.get("LRM_S3_ENDPOINT", ""),
            s3_access_key=env.get("LRM_S3_ACCESS_KEY", ""),
            s3_secret_key=env.get("LRM_S3_SECRET_KEY", ""),
            s3_secure=env.get("LRM_S3_SECURE", "1") != "0",
            tls_dir=Path(tls).absolute() if tls not in ("", "none") else None,
            is_plain_text=tls == "none",
            team=env.get("LRM_TEAM", ""),
            priority=_one_of(env, "LRM_PRIORITY", PRIORITIES, ""),
            cost_centre=env.get("LRM_COST_CENTRE", ""),
            engine_idle_s=_number(env, "LRM_ENGINE_IDLE_S", 0),
            api_key=_bound_key(env),
            api_key_host=env.get("LRM_API_KEY_HOST", ""),
            webhook_secret=env.get("LRM_WEBHOOK_SECRET", ""),
            webhook_port=int(_number(env, "LRM_WEBHOOK_PORT", WEBHOOK_PORT)),
            view_port=int(_number(env, "LRM_VIEW_PORT", 0)),
            callback_secret=env.get("LRM_CALLBACK_SECRET", ""),
            github_token=env.get("LRM_GITHUB_TOKEN", ""),
            github_api=env.get("LRM_GITHUB_API", "") or cls.github_api,
            signing_key=Path(key).absolute() if key else None,
            commit=env.get("LRM_COMMIT", ""),
            log_level=_one_of(env, "LRM_LOG_LEVEL", LOG_LEVELS, cls.log_level),
            hub_offline=env.get("HF_HUB_OFFLINE", "0") == "1",
        )

    def to_env(self) -> dict[str, str]:
        """The environment from which `from_env` makes these settings again, in another process."""
        return {
            "LRM_STORE": self.store,
            "LRM_JOBS": self.jobs,
            "LRM_CLUSTER": str(self.cluster),
            "KUBECONFIG": self.kubeconfig,
            "LRM_STATE": str(self.state_dir),
            "LRM_DATA": str(self.data_dir),
            "LRM_HOST": self.host,
            "LRM_METRICS_PORT": str(self.metrics_ports[SERVICES[0]]),
            "LRM_VLLM_PYTHON": str(self.vllm_python),
            "LRM_S3_ENDPOINT": self.s3_endpoint,
            "LRM_S3_ACCESS_KEY": self.s3_access_key,
            "LRM_S3_SECRET_KEY": self.s3_secret_key,
            "LRM_S3_SECURE": "1" if self.s3_secure else "0",
            "LRM_TLS": "none" if self.is_plain_text else str(self.tls_dir or ""),
            "LRM_TEAM": self.team,
            "LRM_PRIORITY": self.priority,
            "LRM_COST_CENTRE": self.cost_centre,
            "LRM_ENGINE_IDLE_S": f"{self.engine_idle_s:g}",
            "LRM_API_KEY": self.api_key,
            "LRM_API_KEY_HOST": self.api_key_host,
            "LRM_WEBHOOK_SECRET": self.webhook_secret,
            "LRM_WEBHOOK_PORT": str(self.webhook_port),
            "LRM_VIEW_PORT": str(self.view_port),
            "LRM_CALLBACK_SECRET": self.callback_secret,
            "LRM_GITHUB_TOKEN": self.github_token,
            "LRM_GITHUB_API": self.github_api,
            "LRM_SIGNING_KEY": str(self.signing_key or ""),
            "LRM_COMMIT": self.commit,
            "LRM_LOG_LEVEL": self.log_level,
            "HF_HUB_OFFLINE": "1" if self.hub_offline else "0",
            **{f"LRM_{service.upper()}_ADDR": address for service, address in self.addresses.items()},
        }

    def key_for(self, url: str) -> str:
        """The API key, if it is for this url's host and nobody on the way can read it; else empty."""
        parts = urlsplit(url)
        is_private = parts.scheme == "https" or parts.hostname in LOOPBACK
        return self.api_key if is_private and parts.hostname == self.api_key_host.lower() else ""


def process_env(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: ours, with `extra` on top."""
    return {**os.environ, **extra}


def _bound_key(env: Mapping[str, str]) -> str:
    key = env.get("LRM_API_KEY", "")
    if key and not env.get("LRM_API_KEY_HOST"):
        raise InvalidInput("LRM_API_KEY_HOST is empty; expected the host that LRM_API_KEY is for, e.g. api.openai.com")
    return key


def _one_of(env: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = env.get(name, "") or default
    if value not in ("", *allowed):
        raise InvalidInput(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    return value


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    value = env.get(name, "")
    try:
        return float(value) if value else default
    except ValueError:
        raise InvalidInput(f"{name} is {value!r}; expected a number") from None


def _absolute_store(url: str) -> str:
    return f"file://{Path(url.removeprefix('file://')).absolute()}" if url.startswith("file://") else url
