"""Where an engine runs: beside us on a port of this machine, or in pods behind a Service that is named as the job."""

from pathlib import Path
from urllib.parse import urlsplit

from lrm_safety import artefacts
from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import JobRunner, JobSpec, JobStatus
from lrm_safety.nouns import Checkpoint, Endpoint
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import engine as engines
from services.inference.engine import GIB, Launch, Site
from services.inference.ports import free_port
from services.inference.weights import WEIGHTS, check_files, total

POD_PORT = 8000
POD_MODELS = Path("/var/lib/lrm/models")  # JobSpec.weights are put there before the engine starts


class Placement:
    def __init__(self, store: ObjectStore, runner: JobRunner, settings: Settings) -> None:
        self._store, self._runner, self._settings = store, runner, settings
        self.is_cluster = settings.jobs == "cluster"

    def url(self, job: str) -> str:
        if self.is_cluster:
            return f"http://{job}:{POD_PORT}/v1"
        return f"http://127.0.0.1:{free_port(f'{self._settings.state_dir.absolute()}/{job}')}/v1"

    def replicas(self, endpoint: Endpoint, status: JobStatus) -> tuple[str, ...]:
        """The url of each replica that takes requests."""
        if not self.is_cluster:
            return (endpoint.url,)
        return tuple(f"http://{f'[{host}]' if ':' in host else host}:{POD_PORT}/v1" for host in status.hosts)

    def site(self, endpoint: Endpoint) -> Site:
        """Of an endpoint with name, checkpoint, engine, spec and url. On this machine its weights are fetched.

        Raises NotFound, InvalidInput (no such node pool, files that no engine may load), Corrupt.
        """
        manifest = artefacts.find(self._store, "checkpoints", Checkpoint, endpoint.checkpoint)
        check_files(manifest)
        spec = endpoint.spec
        if spec.replicas > 1 and not self.is_cluster:
            raise InvalidInput(f"replicas is {spec.replicas}; this is one machine, which runs one: leave it out")
        return Site(
            name=endpoint.name,
            folder=POD_MODELS / manifest.digest if self.is_cluster else self._whole(manifest),
            files=self.files(manifest),
            weights_gib=total(manifest, WEIGHTS) / GIB,
            port=urlsplit(endpoint.url).port or 0,
            spec=spec,
            settings=self._settings,
            machine=self._runner.machine(spec.node_pool, engines.load(endpoint.engine).image),
        )

    def files(self, manifest: Checkpoint) -> Path:
        """What prompts are rendered and requests made with: all of the checkpoint but its weights."""
        folder = self._settings.state_dir / "templates"
        return artefacts.fetch(self._store, "checkpoints", manifest, folder, skip=WEIGHTS)

    def job(self, endpoint: Endpoint, site: Site, launch: Launch) -> JobSpec:
        return JobSpec(
            id=endpoint.job,
            command=launch.command,
            env=launch.env,
            cpus=site.cpus(launch.gpus),
            memory_gib=round(launch.memory_gib, 1),
            gpus=launch.gpus,
            node_pool=site.spec.node_pool,
            image=engines.load(endpoint.engine).image,
            port=site.port,
            replicas=max(1, site.spec.replicas),
            weights=endpoint.checkpoint,
            kind="engine",
            team=endpoint.tenant.team,
            cost_centre=endpoint.tenant.cost_centre,
            priority=endpoint.tenant.priority or "filler",
        )

    def _whole(self, manifest: Checkpoint) -> Path:
        return artefacts.fetch(self._store, "checkpoints", manifest, self._settings.state_dir / "models")
