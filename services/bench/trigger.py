"""Gates checkpoints without being asked: policies, what was announced, and a scan of the store.

    policies/<name>.json      what is gated, and how
    triggers/<name>.json      the scan's cursor: manifests that need no second look
    open/gate-…               gate runs that have not ended; those without an owner are taken over

All of it is in the store, so replicas race safely and a restart forgets nothing: whoever finds a checkpoint, or is told
of it, asks for the same run, and the run's epoch says who does it.
"""

import json
import threading
import time

from lrm_safety import artefacts, jsonl, observe
from lrm_safety import policy as policies
from lrm_safety.adoption import Adoption
from lrm_safety.errors import Corrupt, InvalidInput, LrmError
from lrm_safety.nouns import Checkpoint, Policy, Run, RunSpec, Tenant
from lrm_safety.runs import RunHost, Work
from services.bench.callbacks import Courier
from services.bench.gating import KIND, Gating, question

EVERY_S = 10.0
log = observe.logger(__name__)


class Trigger:
    def __init__(self, host: RunHost, gating: Gating, courier: Courier) -> None:
        self._host, self._store, self._gating, self._courier = host, host.store, gating, courier
        self._adoption = Adoption(host, {"gate": self._resumed})
        self._manifests: dict[str, Checkpoint] = {}  # by key: they never change
        self._woken, self._is_stopped = threading.Event(), False

    def start(self) -> None:
        """Scans until it is stopped, or the host leaves."""
        threading.Thread(target=self._look_for_ever, name="trigger", daemon=True).start()

    def wake(self) -> None:
        """Scan now."""
        self._woken.set()

    def stop(self) -> None:
        self._is_stopped = True
        self._woken.set()

    def register(self, asked: Policy) -> Policy:
        """From now on checkpoints that come are gated. Registered again unchanged, a policy keeps its date."""
        made = policies.resolve(asked)
        if not made.checkpoints:
            raise InvalidInput(f"policy {made.name}: `checkpoints` is empty; expected patterns of names, such as '*'")
        key = f"policies/{made.name}.json"
        made.registered_at = time.time()
        if self._store.stat(key):
            before = jsonl.loads(Policy, self._store.read(key))
            same = Policy()
            same.CopyFrom(made)
            same.registered_at = before.registered_at
            made = before if same == before else made
        self._store.write(key, jsonl.dumps(made).encode())
        self.wake()
        return made

    def policies(self) -> list[Policy]:
        return [jsonl.loads(Policy, self._store.read(key)) for key in self._store.list("policies/")]

    def ask(self, policy: Policy, checkpoint: str, commit: str = "", tenant: Tenant | None = None) -> Run:
        """The one gate run of this checkpoint, suite and baseline. Raises NotFound, InvalidInput."""
        asked = policies.resolve(policy)
        policies.check_commit(commit, "the request")
        found = artefacts.find_model(self._store, checkpoint)
        spec = RunSpec(gate=question(self._store, asked, found))
        who = Tenant()
        who.CopyFrom(tenant or Tenant())
        who.priority = who.priority or asked.priority
        run = self._host.start("gate", spec, self._gating.work, tenant=who)
        self._courier.note(run, asked.callbacks, commit)
        return run

    def announce(self, checkpoint: str, commit: str = "") -> list[Run]:
        """Gates a checkpoint of the store under every policy that concerns it. Raises NotFound."""
        found = artefacts.find(self._store, KIND, Checkpoint, checkpoint)
        wanted = [policy for policy in self.policies() if policies.concerns(policy, found.name)]
        return [self.ask(policy, f"{found.name}@{found.digest}", commit) for policy in wanted]

    def look(self) -> None:
        """One scan: a list of the checkpoints, and a read of those that are new."""
        registered = self.policies()
        keys = self._manifest_keys() if registered else []
        for policy in registered:
            self._scan(policy, [key for key in keys if policies.concerns(policy, key.split("/")[1])])
        self._adoption.look()
        self._courier.deliver()

    def _scan(self, policy: Policy, keys: list[str]) -> None:
        cursor = f"triggers/{policy.name}.json"
        seen: set[str] = set(json.loads(self._store.read(cursor))) if self._store.stat(cursor) else set()
        fresh = [key for key in keys if key not in seen]
        done = [key for key in self._by_age(fresh) if self._is_settled(policy, self._manifests[key])]
        if done:
            self._store.write(cursor, json.dumps(sorted(seen.union(done) & set(keys))).encode())

    def _is_settled(self, policy: Policy, checkpoint: Checkpoint) -> bool:
        """Whether this checkpoint needs no second look: it is older than the policy, or its gate run is on its way."""
        if checkpoint.created_at < policy.registered_at:
            return True
        if time.time() - checkpoint.created_at < policy.settle_s:
            return False
        reference = f"{checkpoint.name}@{checkpoint.digest}"
        try:
            run = self.ask(policy, reference)
        except InvalidInput as error:  # it cannot be gated, now or later
            log.warning("checkpoint_not_gated", policy=policy.name, checkpoint=reference, error=str(error))
            return True
        except LrmError as error:
            log.warning("checkpoint_put_off", policy=policy.name, checkpoint=reference, error=str(error))
            return False
        log.info("checkpoint_found", policy=policy.name, checkpoint=reference, run=run.id)
        return True

    def _by_age(self, keys: list[str]) -> list[str]:
        for key in keys:
            if key not in self._manifests:
                try:
                    self._manifests[key] = jsonl.loads(Checkpoint, self._store.read(key))
                except Corrupt as error:
                    log.warning("manifest_unreadable", key=key, error=str(error))
        return sorted((key for key in keys if key in self._manifests), key=lambda key: self._manifests[key].created_at)

    def _manifest_keys(self) -> list[str]:
        ending = f"/{artefacts.MANIFEST}"
        return [key for key in self._store.list(f"{KIND}/") if key.count("/") == 3 and key.endswith(ending)]

    def _resumed(self, run: Run) -> Work:
        return self._gating.work

    def _look_for_ever(self) -> None:
        while not (self._host.is_leaving or self._is_stopped):
            self._woken.clear()
            try:
                self.look()
            except LrmError as error:
                log.warning("scan_failed", error=str(error))
            except Exception as crash:  # a defect must not end the scans for good
                log.error("scan_crashed", exc_info=crash)
            self._woken.wait(EVERY_S)
