"""Access rules: by the name in the Host header, the page that a browser shows, and a key."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from harrier_server.refusals import Refusal
from harrier_server.settings import Settings

_LOCAL = ("localhost", "127.0.0.1", "::1")


class Guard:
    """The rules of one server.

    A page in a browser can reach a server on this machine, and a name that someone else owns can lead to it. So a
    request must address the server by one of its own names, and a page must be one that is allowed.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = [key.encode() for key in settings.keys]
        self._hosts = {*map(_own, settings.hosts), _own(settings.host), *(_LOCAL if settings.is_local else ())}
        self._any_host = not settings.is_local and not settings.hosts  # behind a proxy, under any name, by key
        self._origins = set(settings.origins)

    def check(self, headers: Headers) -> None:
        """Raise Refusal unless the origin of the request is allowed."""
        if not self._any_host and _name(headers.get("host", "")) not in self._hosts:
            raise Refusal(
                *(421, "Host header not allowed; add it with --allow-host"),
                code="wrong_host",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not _is_own_page(origin, headers):
            raise Refusal(403, "pages of that origin may not call this server", code="wrong_origin")

    def check_key(self, headers: Headers) -> None:
        """Raise Refusal unless the request has one of the keys, if there are any."""
        if self._keys and not _is_among(_given(headers), self._keys):
            message = "the key is missing or wrong; send it as Authorization: Bearer KEY"
            headers_ = {"WWW-Authenticate": "Bearer"}
            raise Refusal(401, message, code="invalid_api_key", headers=headers_)

    def caller(self, request: Request) -> str:
        """Return the caller, for fair queueing: a key, or else an address."""
        if self._keys:
            return _given(request.headers).decode("latin-1")
        return request.client.host if request.client else ""


def _is_own_page(origin: str, headers: Headers) -> bool:
    """Return whether a browser reports a page of this server: with its port, and its name, which was checked before."""
    site = headers.get("sec-fetch-site", "same-origin")
    return site == "same-origin" and origin in (f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https"))


def _given(headers: Headers) -> bytes:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        key = headers.get("x-api-key", "")
    return key.strip().encode("latin-1")


def _is_among(given: bytes, keys: Sequence[bytes]) -> bool:
    """Compare with every key, in a time that reveals nothing about them."""
    same = [hmac.compare_digest(given, key) for key in keys]
    return True in same


def _own(host: str) -> str:
    """Return a configured name in the form that `_name` returns for a header."""
    address = host.count(":") > 1 and not host.startswith("[")  # IPv6, which has brackets in headers
    return host.lower() if address else _name(host) or host.lower()


def _name(host: str) -> str | None:
    """Return the host without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
