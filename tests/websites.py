"""A web server on this machine whose pages a test writes, and whose requests it records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(slots=True)
class Answer:
    """The answer to a request."""

    body: bytes = b""
    type: str | None = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    broken_after: int | None = None  # bytes, after which the connection is cut
    forever: bool = False  # the body is sent again and again


Page = Answer | Callable[[int], Answer]  # called with the number of requests for it so far


@dataclass(slots=True)
class Asked:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    at: float  # seconds of a monotonic clock


class Site:
    """The server. It is started and stopped as a context manager."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, path: str, body: str | bytes, type_: str | None = "text/html; charset=utf-8", **headers: str) -> None:
        """Serve this page, with the given ETag and Last-Modified."""
        content = body.encode() if isinstance(body, str) else body
        self.pages[path] = Answer(content, type_, 200, {name.replace("_", "-"): said for name, said in headers.items()})

    def put_sitemap(self, path: str, urls: Sequence[str], *, of_sitemaps: bool = False) -> bytes:
        """Serve a list of pages or sitemaps; URLs without a host are on this server."""
        outer, inner = ("sitemapindex", "sitemap") if of_sitemaps else ("urlset", "url")
        whole = [each if "://" in each else f"{self.url}{each}" for each in urls]
        listed = "".join(f"<{inner}><loc> {each} </loc><lastmod>2020-01-01</lastmod></{inner}>" for each in whole)
        name_space = "http://www.sitemaps.org/schemas/sitemap/0.9"
        content = f'<?xml version="1.0" encoding="UTF-8"?><{outer} xmlns="{name_space}">{listed}</{outer}>'.encode()
        self.put(path, content, "application/xml")
        return content

    def paths(self, method: str = "GET") -> list[str]:
        """Return the requested paths."""
        return [each.path for each in self.asked if each.method == method]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append(Asked(self.command, self.path, dict(self.headers), time.monotonic()))
                page = site.pages.get(self.path, Answer(b"not here", status=404))
                count = sum(each.path == self.path for each in site.asked)
                answer = page if isinstance(page, Answer) else page(count)
                self.send_response(answer.status)
                if answer.type is not None:
                    self.send_header("Content-Type", answer.type)
                for name, said in answer.headers.items():
                    self.send_header(name, said)
                if not answer.forever:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command == "GET":
                    self._send(answer)

            do_HEAD = do_GET  # noqa: N815

            def _send(self, answer: Answer) -> None:
                self.close_connection = answer.forever or answer.broken_after is not None
                try:
                    self.wfile.write(answer.body[: answer.broken_after])
                    while answer.forever:
                        self.wfile.write(answer.body)
                except OSError:  # the client has stopped reading
                    pass

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Do not log."""

        return Handler
