"""The status of declared tables in Prometheus's format, on a port of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harrier_core.errors import HarrierError
from harrier_pgvector.sync.status import SyncStatus

_GAUGES: dict[str, tuple[str, Callable[[SyncStatus], float]]] = {
    "pending_rows": ("Changed rows waiting to be embedded.", lambda status: status.pending),
    "leased_rows": ("Rows leased by workers.", lambda status: status.leased),
    "failed_rows": ("Rows that failed and were set aside.", lambda status: status.failed),
    "unscanned_rows": ("Rows that a back-fill has not reached yet (estimate).", lambda status: status.unscanned),
    "oldest_change_seconds": ("Age of the oldest waiting change.", lambda status: status.oldest or 0.0),
    "rows_per_second": ("Rows processed per second by all workers, over one minute.", lambda status: status.rate),
    "workers": ("Workers seen within the last minute.", lambda status: status.workers),
    "chunks": ("Stored chunks (estimate).", lambda status: status.chunks),
    "broken": ("Whether the source no longer matches its declaration.", lambda status: status.state == "broken"),
    "failing": ("Whether a worker reports an error that lasts.", lambda status: status.state == "failing"),
    "paused": ("Whether the sync is paused.", lambda status: status.state == "paused"),
}


def prometheus(statuses: Iterable[SyncStatus]) -> str:
    """Return the statuses in Prometheus's text format."""
    tables = list(statuses)
    lines = []
    for name, (said, value) in _GAUGES.items():
        lines += [f"# HELP harrier_sync_{name} {said}", f"# TYPE harrier_sync_{name} gauge"]
        lines += [f'harrier_sync_{name}{{table="{_label(each.table)}"}} {float(value(each))}' for each in tables]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@contextmanager
def serve_metrics(statuses: Callable[[], Iterable[SyncStatus]], host: str, port: int) -> Iterator[int]:
    """Serve metrics on a port, any free one if it is 0, while the block runs; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Query the database, and respond."""
            try:
                code, said = HTTPStatus.OK, prometheus(statuses())
            except HarrierError as error:
                code, said = HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n"
            body = said.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Do not log scrapes."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="harrier-metrics", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
