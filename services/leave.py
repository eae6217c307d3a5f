"""`python -m services.leave`: ends every job and engine of a release that has been uninstalled.

Waits for its services to be gone, or they would begin anew what ends here. Trainings get their grace to write a
checkpoint; what is in the store stays. Exit codes: 0 all gone, 1 something is left.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from lrm_safety import observe
from lrm_safety.errors import LrmError, Unavailable
from lrm_safety.jobs.kube import DEPLOYMENTS, JOBS, PODS, Kube
from lrm_safety.settings import Settings

PATIENCE_S = 100.0  # with services that stop; and then with what they had started, unless that has a longer grace
PAUSE_S = 1.0
log = observe.logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.leave", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--namespace", required=True, help="that of the release")
    parser.add_argument("--release", required=True, help="its name")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
        observe.configure(settings)
        end_all(Kube(settings, options.namespace), options.release)
    except LrmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def end_all(kube: Kube, release: str, patience_s: float = PATIENCE_S) -> list[str]:
    """Names of what was ended. Raises Unavailable when pods are still there after `patience_s` and their own grace."""
    ours = f"app.kubernetes.io/instance={release}"
    services = f"{ours},app.kubernetes.io/component in (data,trainer,inference,judge,bench)"
    _wait(kube, services, patience_s)
    ended = []
    jobs = f"{ours},app.kubernetes.io/managed-by=lrm-safety"
    for resource in (DEPLOYMENTS, JOBS):
        for each in kube.list(resource, jobs).items:
            kube.delete(resource, each["metadata"]["name"])
            ended.append(each["metadata"]["name"])
            log.info("job_ended", job=ended[-1])
    _wait(kube, jobs, patience_s)
    return ended


def _wait(kube: Kube, selector: str, patience_s: float) -> None:
    """For pods to go."""
    pods = kube.list(PODS, selector).items
    grace_s = max((pod["spec"].get("terminationGracePeriodSeconds") or 0 for pod in pods), default=0)
    until = time.monotonic() + patience_s + grace_s
    while pods:
        if time.monotonic() > until:
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            raise Unavailable(f"pods are still there: {names}; look at their nodes, then delete them")
        time.sleep(PAUSE_S)
        pods = kube.list(PODS, selector).items


if __name__ == "__main__":
    sys.exit(main())
