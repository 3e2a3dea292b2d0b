"""A model hub on loopback that implements what the real client uses, over plain folders."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class Hub(ThreadingHTTPServer):
    """Repositories by name: commits in order, each a folder. `requested` lists the files that were downloaded."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, Path]] = {}
        self.requested: list[str] = []
        self.failing = False  # whether files are listed but not served

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def push(self, name: str, folder: Path) -> str:
        """Make the folder the head of the repository, and return its commit."""
        commit = hashlib.sha1(f"{name} {folder}".encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = folder
        return commit


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Do not log."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        kind, name = ("api", "/".join(parts[2:4])) if parts[:2] == ["api", "models"] else ("file", "/".join(parts[:2]))
        commits = self.server.repositories.get(name)
        if commits is None:
            return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"", with_body=with_body)
        asked = parts[5] if kind == "api" and len(parts) > 5 else parts[3] if kind == "file" else "main"
        commit = list(commits)[-1] if asked == "main" else asked
        if commit not in commits:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"", with_body=with_body)
        if kind == "api" and parts[4:5] == ["tree"]:
            return self._list(commits[commit], with_body=with_body)
        if kind == "api":
            return self._describe(name, commit, commits[commit], with_body=with_body)
        return self._file(commit, commits[commit], "/".join(parts[4:]), with_body=with_body)

    def _describe(self, name: str, commit: str, folder: Path, *, with_body: bool) -> None:
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in _files(folder)]
        content = {"_id": commit, "id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False}
        self._send_json(content, with_body=with_body)

    def _list(self, folder: Path, *, with_body: bool) -> None:
        content = [
            {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": _etag(path)}
            for path in _files(folder)
        ]
        self._send_json(content, with_body=with_body)

    def _file(self, commit: str, folder: Path, file: str, *, with_body: bool) -> None:
        path = folder / file
        if self.server.failing and with_body:
            return self._send(418, {}, b"", with_body=with_body)
        if not path.is_file():
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"", with_body=with_body)
        if with_body:
            self.server.requested.append(file)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(path)}"'}
        return self._send(200, headers, path.read_bytes(), with_body=with_body)

    def _send_json(self, content: object, *, with_body: bool) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode(), with_body=with_body)

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, with_body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
