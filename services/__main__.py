"""`python -m services [name…]`: hosts all five services in one process, or the named ones.

Told to end (SIGTERM), they take no new calls, let those in flight end, and hand their runs over.

Exit codes: 0 stopped on request, 2 unknown name, 1 could not start.
"""

import importlib
import signal
import sys
import threading

from lrm_safety import observe, runs, serving
from lrm_safety.errors import LrmError
from lrm_safety.settings import SERVICES, Settings

GRACE_S = 10.0
log = observe.logger(__name__)


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(SERVICES))
    if unknown:
        sys.stderr.write(f"unknown service {', '.join(unknown)}; there are: {', '.join(SERVICES)}\n")
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    servers: list[serving.Server] = []
    try:
        settings = Settings.from_env()
        observe.configure(settings)
        for name in names or SERVICES:
            service = importlib.import_module(f"services.{name}.service")
            servers.append(serving.start(name, service.register, settings))
        stop.wait()
        log.info("services_stopping", services=[server.name for server in servers])
        return 0
    except LrmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        ending = [server.stop(GRACE_S) for server in servers]
        runs.release_all()
        for quiet in ending:
            quiet.wait(GRACE_S + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
