"""The pages of `lrm view`, for who forwards a port to this machine: they show harmful prompts and know no password."""

import threading
from collections.abc import Callable

from lrm_safety.report.server import ViewServer
from lrm_safety.report.viewer import open_viewer
from lrm_safety.settings import Settings


def serve(settings: Settings) -> Callable[[], None]:
    """Until what it returns is called; on loopback, whatever LRM_HOST says. Raises Conflict when the port is taken."""
    server = ViewServer(open_viewer(settings), settings.view_port)
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
