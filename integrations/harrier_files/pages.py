"""A web page, requested politely: one at a time, with pauses if a server wants them."""

from __future__ import annotations

import io
import mimetypes
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import IO

import httpx

from harrier_core import SettingError
from harrier_core.retrying import Backoff
from harrier_files.bodies import BUFFER, Body, media_type, reason_of
from harrier_files.files import File, Gone, NotWanted, Origin, stamp_of
from harrier_files.limits import Unreadable

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)  # seconds of silence
_ATTEMPTS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds
_LONGEST_WAIT = 120.0  # seconds that a server may ask to wait
_REDIRECTS = 10
_DOWN = 3  # consecutive pages that failed after all attempts: the others get one attempt each
_PASSING = frozenset([408, 425, 429, 500, 502, 503, 504])
_GONE = (404, 410)
# Types that may be missing from the type table of a machine.
_TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
    "text/csv": ".csv",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
}
_UNTOLD = ("", "application/octet-stream", "binary/octet-stream", "text/plain")  # for these, the URL may say more
_XML = ("text/xml", "application/xml", "application/gzip", "application/x-gzip")


class Web:
    """Requests, one at a time, over persistent connections."""

    def __init__(self) -> None:
        self.agent = f"harrier-kit/{version('harrier-kit')}"
        self.delay = 0.0  # seconds between two requests
        self._client: httpx.Client | None = None
        self._last = 0.0
        self._down = 0

    def page(self, origin: Origin, url: str) -> Page:
        """Return a page, without requesting it yet. `url` must be normal."""
        return Page(origin, url.removeprefix(origin.prefix), url, self)

    def ask(self, method: str, url: str) -> httpx.Response:
        """Return an answer with an unread body, after redirects within the host. Raise Unreadable on failure."""
        for _ in range(_REDIRECTS):
            response = self._persist(method, url)
            if not response.has_redirect_location:
                return response
            response.close()
            url = _redirected(url, response.headers["location"])
        raise Unreadable(f"redirects more than {_REDIRECTS} times")

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()

    def _persist(self, method: str, url: str) -> httpx.Response:
        """Return the answer to one request, repeated as long as that may help."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        attempts = 1 if method == "HEAD" or self._down >= _DOWN else _ATTEMPTS
        for left in range(attempts - 1, -1, -1):
            pause = backoff.pause()
            try:
                response = self._once(method, url)
            except httpx.TransportError as error:
                if not left or isinstance(error, httpx.UnsupportedProtocol):
                    self._down += 1
                    raise Unreadable(f"cannot be fetched: {reason_of(error)}") from None
            except httpx.HTTPError as error:
                raise Unreadable(f"cannot be fetched: {type(error).__name__}") from None
            else:
                asked = _asked_pause(response)
                if response.status_code not in _PASSING or not left or asked > _LONGEST_WAIT:
                    self._down = self._down + 1 if response.status_code in _PASSING else 0
                    return response
                response.close()
                pause = max(pause, asked)
            time.sleep(pause)
        raise AssertionError  # the last attempt returns or raises

    def _once(self, method: str, url: str) -> httpx.Response:
        if self._client is None:
            auth = None
            with suppress(OSError, ValueError):  # no ~/.netrc, or no readable one
                auth = httpx.NetRCAuth()
            about = f"{self.agent} (+https://github.com/harrier-kit/harrier-kit)"
            self._client = httpx.Client(headers={"User-Agent": about}, timeout=_TIMEOUT, auth=auth)
        time.sleep(max(0.0, self._last + self.delay - time.monotonic()))
        self._last = time.monotonic()
        return self._client.send(self._client.build_request(method, url), stream=True)


@dataclass(slots=True)
class Page(File):
    """A page. It is requested on demand, and at most twice: by HEAD for its stamp, and by GET."""

    web: Web
    wanted: frozenset[str] | None = None  # suffixes of the kinds that are read; None for all
    listed: bool = False  # in a sitemap, which may be outdated: a listed page that is gone is no error
    status: int | None = None  # status of the last answer
    _told: httpx.Response | None = field(default=None, repr=False)  # the last answer that is not an error
    _open: httpx.Response | None = field(default=None, repr=False)  # an answer whose body has not been read yet
    _error: Unreadable | None = None
    _method: str | None = None  # method of the last request

    @property
    def name(self) -> str:
        """The page's URL."""
        return self.path

    @property
    def suffix(self) -> str:
        """The suffix of files of its kind: by its type or, if that says little, by its URL."""
        said = PurePosixPath(httpx.URL(self.path).path).suffix.lower()
        response = self._headers("GET")
        if response is None:
            return said
        kind = media_type(response)
        if kind in _UNTOLD and said and (self.wanted is None or said in self.wanted):
            return said
        if kind in ("", "text/plain"):
            return ".txt" if kind else ".html"
        return _TYPES.get(kind) or mimetypes.guess_extension(kind) or f".{kind.rpartition('/')[2]}"

    @property
    def size(self) -> int | None:
        """Return None, because a server may report the compressed size."""
        return None

    @property
    def stamp(self) -> bytes | None:
        """Its ETag, the time of its last change, and its length. Weak ETags count: they identify equivalent pages."""
        response = self._headers("HEAD")
        if response is None:
            return None
        tag, changed = (response.headers.get(each) for each in ("etag", "last-modified"))
        if tag is None and not _is_past(changed, response.headers.get("date")):
            return None
        return stamp_of(tag, changed, response.headers.get("content-length"))

    @property
    def may_be_sitemap(self) -> bool:
        """Whether it is XML or compressed, by its type or its URL; it may be unreadable now."""
        url = httpx.URL(self.path).path.lower()
        if url.endswith((".xml", ".xml.gz")):
            return True
        response = self._headers("GET")
        return response is not None and media_type(response) in _XML

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open its content, as UTF-8 if it is a text in another encoding."""
        if self._open is None and (self._error is None or self._method != "GET"):
            self._ask("GET")
        if self._error is not None:
            raise self._error
        response = self._open
        assert response is not None  # noqa: S101
        if self.wanted is not None and (kind := self.suffix) not in self.wanted:
            raise NotWanted(kind) if self.listed else Unreadable(f"is {media_type(response)}, which is not read")
        try:
            yield io.BufferedReader(Body(response), BUFFER)
        finally:
            self.close()

    def close(self) -> None:
        """Discard what has not been read yet."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _headers(self, method: str) -> httpx.Response | None:
        """Return the answer about the page, if any. A successful HEAD suffices; its errors may concern only HEAD."""
        if self._told is None and self._method not in (method, "GET"):
            self._ask(method)
        return self._told

    def _ask(self, method: str) -> None:
        self._error, self._told, self._method = None, None, method
        try:
            response = self.web.ask(method, self.path)
        except Unreadable as error:
            self._error = error
            return
        self.status = response.status_code
        if response.status_code != httpx.codes.OK:
            response.close()
            self._error = self._failed(response)
            return
        self._told = response
        if method == "GET":
            self._open = response
        else:
            with suppress(httpx.HTTPError):  # the body is empty, and this keeps the connection open
                response.read()

    def _failed(self, response: httpx.Response) -> Unreadable:
        said = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code not in _GONE:
            return Unreadable(f"cannot be fetched: the server answers {said}")
        return NotWanted("pages that are gone") if self.listed else Gone(f"no longer exists: the server answers {said}")


def normal(url: str) -> str:
    """Return the canonical spelling of a URL. Raise SettingError if it is not that of a page."""
    try:
        parts = httpx.URL(url)
        found = parts.copy_with(fragment=None, raw_path=parts.raw_path)  # with a slash, if it has no path
    except (httpx.InvalidURL, ValueError):
        raise SettingError(f"{url[:100]!r} is not a URL; expected https://host/path") from None
    if found.scheme not in ("http", "https") or not found.host:
        raise SettingError(f"{url[:100]!r} must be the URL of a page, such as https://host/path")
    if found.userinfo:
        raise SettingError(
            f"a user or password in a URL would become part of ids; put those of {found.host} in ~/.netrc"
        )
    return str(found)


def root_of(url: str) -> tuple[str, str]:
    """Return the prefix of all URLs of the host, without the slash, and the host's name."""
    parts = httpx.URL(url)
    place = parts.netloc.decode("ascii")
    return f"{parts.scheme}://{place}", place


def _redirected(url: str, location: str) -> str:
    """Return the target of a redirect within the host."""
    try:
        before, after = httpx.URL(url), httpx.URL(url).join(location)
    except (httpx.InvalidURL, ValueError):
        raise Unreadable("redirects to an invalid URL") from None
    secured = (before.scheme, after.scheme) == ("http", "https") and before.port is after.port is None
    if before.host != after.host or not (secured or (before.scheme, before.port) == (after.scheme, after.port)):
        raise Unreadable(f"redirects to {after.scheme}://{after.host}; pass that page instead")
    return str(after)


def _is_past(changed: str | None, date: str | None) -> bool:
    """Return whether a page changed at least a second before the request: then its times reveal later changes."""
    try:
        return bool(changed and date) and (
            parsedate_to_datetime(str(date)) - parsedate_to_datetime(str(changed)) > timedelta(seconds=1)
        )
    except (TypeError, ValueError):
        return False


def _asked_pause(response: httpx.Response) -> float:
    """Return the seconds that a server asks to wait, given as a number or as a time."""
    said = str(response.headers.get("retry-after", "")).strip()
    if said.isdecimal():
        return float(said[:9])
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
