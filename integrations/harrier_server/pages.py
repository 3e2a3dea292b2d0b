"""The web page at /: the kit's own files, which need no key and contain no data of an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_server.refusals import Refusal
from harrier_server.routes import Routes

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # revalidated each time, and answered by 304
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, read when the server starts."""

    content: bytes
    type: str
    tag: str


def routes(make: Routes) -> Sequence[Route]:
    """Return the routes of a server."""
    found = _read()

    async def index(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        return _sent(request, found["index.html"])

    async def file(request: Request, body: bytes) -> Response:  # noqa: ARG001
        named = found.get(request.path_params["name"])
        if named is None:
            raise Refusal(404, "there is no such path", code="not_found")
        return _sent(request, named)

    return [make.route("/", "GET", index, open_=True), make.route("/page/{name}", "GET", file, open_=True)]


def _read() -> Mapping[str, _File]:
    found = {}
    for each in files("harrier_server").joinpath("page").iterdir():
        kind = _TYPES.get(each.name[each.name.rfind(".") :])
        if kind is not None:
            content = each.read_bytes()
            found[each.name] = _File(content, kind, f'"{blake2b(content, digest_size=12).hexdigest()}"')
    return found


def _sent(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.tag, "Content-Type": file.type}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers)
