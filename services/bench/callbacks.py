"""Tells others of verdicts: GitHub commit statuses and signed POSTs. Numbers and names only, never a sample.

    callbacks/<run>/<digest>.json    somebody is to be told when the run has ended
    told/<run>/<digest>              what they were told

At least once, again with growing pauses for a day; who is told twice can know it by X-Lrm-Delivery. A few are told at
once, in threads of their own, so that who answers slowly holds up no scan and no other.
"""

import hashlib
import json
import queue
import random
import threading
import time
from collections.abc import Iterable
from typing import Any

import urllib3

from lrm_safety import jsonl, observe
from lrm_safety.errors import LrmError, NotFound
from lrm_safety.nouns import Callback, Outcome, RecipeOutcome, Run, RunState, has_ended
from lrm_safety.runs import read_run
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench.signatures import HEADER, sign

PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
GIVE_UP_S = 86_400.0
AT_ONCE = 4
TIMEOUT = urllib3.Timeout(connect=5.0, read=10.0)
PASSING = (408, 425, 429)  # as every 5xx: it may be better next time
GITHUB_STATES = {"PASS": "success", "BLOCK": "failure"}
log = observe.logger(__name__)


class Courier:
    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._http = urllib3.PoolManager(retries=False, timeout=TIMEOUT)
        self._pauses: dict[str, tuple[float, float]] = {}  # key -> not before, next pause
        self._due: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._taken: set[str] = set()  # keys that are due or being told
        self._tellers: list[threading.Thread] = []

    def note(self, run: Run, callbacks: Iterable[Callback], commit: str) -> None:
        """These are told when the run has ended: once, unless it ended without a verdict and was asked for again."""
        for asked in callbacks:
            callback = Callback()
            callback.CopyFrom(asked)
            callback.commit = callback.commit or commit if callback.github else ""
            digest = hashlib.sha256(jsonl.canonical(callback)).hexdigest()[:16]
            is_told = self._store.stat(f"told/{run.id}/{digest}") is not None
            if not (is_told and run.state == RunState.RUN_STATE_DONE):
                self._store.create(f"callbacks/{run.id}/{digest}.json", jsonl.dumps(callback).encode())

    def deliver(self) -> None:
        """Hands over what is due, and waits for none of it. Costs one list where nobody waits."""
        for key in list(self._store.list("callbacks/")):
            if key not in self._taken and self._pauses.get(key, (0.0, 0.0))[0] <= time.monotonic():
                self._taken.add(key)
                self._due.put(key)
                if len(self._tellers) < AT_ONCE:
                    self._tellers.append(threading.Thread(target=self._tell_for_ever, name="callbacks", daemon=True))
                    self._tellers[-1].start()

    def wait(self) -> None:
        """Until all that was handed over has been attended to."""
        while self._taken:
            time.sleep(0.01)

    def _tell_for_ever(self) -> None:
        while True:
            key = self._due.get()
            try:
                self._attend(key)
            except LrmError as error:
                log.warning("callback_put_off", key=key, error=str(error))
            except Exception as crash:  # a defect must not end the telling for good
                log.error("callback_crashed", key=key, exc_info=crash)
            finally:
                self._taken.discard(key)

    def _attend(self, key: str) -> None:
        _, id_, name = key.split("/")
        run = read_run(self._store, id_)
        if not has_ended(run):
            return
        delivery = f"{id_}-{name.removesuffix('.json')}"
        try:
            callback = jsonl.loads(Callback, self._store.read(key))
        except NotFound:  # another replica was faster
            return
        said = self._say(callback, run, delivery)
        if said == "" and time.time() - run.updated_at < GIVE_UP_S:
            pause_s = self._pauses.get(key, (0.0, PAUSE_S))[1]
            self._pauses[key] = (
                time.monotonic() + pause_s * random.uniform(0.8, 1.2),
                min(2 * pause_s, LONGEST_PAUSE_S),
            )
            return
        self._store.write(f"told/{id_}/{name.removesuffix('.json')}", said.encode())
        self._store.delete(key)
        self._pauses.pop(key, None)
        observe.count("lrm_callback_ended_total", result=said or "given_up")

    def _say(self, callback: Callback, run: Run, delivery: str) -> str:
        """`told`, `refused` when it will never be taken, or empty when it may be later."""
        summary = self._summary(run)
        url, body, headers = callback.url, summary, {"X-Lrm-Delivery": delivery}
        if callback.github:
            if not (callback.commit and self._settings.github_token):
                log.warning("callback_impossible", run=run.id, why="no commit or no LRM_GITHUB_TOKEN")
                return "refused"
            url = f"{self._settings.github_api}/repos/{callback.github}/statuses/{callback.commit}"
            body = _status(summary)
            headers |= {"Authorization": f"Bearer {self._settings.github_token}", "X-GitHub-Api-Version": "2022-11-28"}
        data = json.dumps(body).encode()
        if callback.url and self._settings.callback_secret:
            headers[HEADER] = sign(self._settings.callback_secret, data, time.time())
        try:
            answer = self._http.request(
                "POST", url, body=data, headers={**headers, "Content-Type": "application/json"}, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            log.warning("callback_failed", run=run.id, error=type(error).__name__)
            return ""
        log.info("callback_answered", run=run.id, status=answer.status)
        if 200 <= answer.status < 300:
            return "told"
        return "" if answer.status >= 500 or answer.status in PASSING else "refused"

    def _summary(self, run: Run) -> dict[str, Any]:
        """What may be said of a run: its verdict, or that there is none."""
        asked = run.spec.gate
        said: dict[str, Any] = {"run": run.id, "checkpoint": asked.checkpoint, "baseline": asked.baseline}
        if run.state != RunState.RUN_STATE_DONE:
            return {**said, "verdict": "ERROR", "state": RunState.Name(run.state), "roles": []}
        outcome = jsonl.loads(RecipeOutcome, self._store.read(f"runs/{run.id}/outcome.json"))
        roles = [
            {
                "role": role.role,
                "verdict": Outcome.Name(role.outcome).removeprefix("OUTCOME_"),
                "margin": role.margin,
                "worsening": role.comparison.difference,
                "low": role.comparison.interval.low,
                "high": role.comparison.interval.high,
                "pairs": role.comparison.pairs,
            }
            for role in outcome.decision.roles
        ]
        verdict = Outcome.Name(outcome.decision.outcome).removeprefix("OUTCOME_")
        return {**said, "verdict": verdict, "roles": roles}


def _status(summary: dict[str, Any]) -> dict[str, str]:
    """GitHub's form: PASS is success, BLOCK is failure, anything else an error. At most 140 characters."""
    words = ", ".join(f"{role['role']} {role['verdict'].lower()}" for role in summary["roles"])
    name = summary["checkpoint"].split("@")[0]
    return {
        "state": GITHUB_STATES.get(summary["verdict"], "error"),
        "context": f"lrm-safety/{name}",
        "description": f"{summary['verdict']}: {words or 'see the run'} ({summary['run']})"[:140],
    }
