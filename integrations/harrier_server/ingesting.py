"""An ingest over HTTP: records arrive as JSON lines, and reports of the results are sent as JSON lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from harrier_core.records import IngestReport, Record, Skipped
from harrier_server.bodies import VALUES, dumped, has_too_many_values, too_late
from harrier_server.holding import DROP
from harrier_server.refusals import Refusal, refusal_of
from harrier_server.settings import Limits
from harrier_server.under_way import UnderWay

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from harrier_core.index import Index

AHEAD = 2**20  # bytes of the body that are read before the ingest consumes them, unless a single line has more
_LINE = 128  # bytes that a line takes in addition to its text
_FINISHING = 3.0  # seconds to write what was consumed when the server ends
_LISTED = 1_000  # records that the last line names, of each kind
_COUNTS = ("records", "written", "unchanged", "deleted", "encoded", "tokens", "pending", "seconds")
_LISTS = ("rejected", "repeated", "blank")

Part = list[tuple[int, bytes]]  # lines with their numbers


class RecordLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the body."""

    id: str
    text: str
    metadata: dict[str, Any] = {}


class Ingesting(Response):
    """Answers while the request is still being read, which ASGI servers allow."""

    media_type = "application/x-ndjson"

    def __init__(
        self,
        request: Request,
        index: Index,
        limits: Limits,
        under_way: UnderWay,
        admitted: ExitStack | None = None,
        count: Callable[[int], None] = lambda size: None,  # noqa: ARG005
    ) -> None:
        """Take a request whose body is unread. A line of it has the limits of other bodies.

        admitted: closed when the ingest has ended. count: called with the bytes that a line has beyond AHEAD, and
        beyond longer ones before it; it may refuse them.
        """
        super().__init__()
        del self.headers["content-length"]
        self._request = request
        self._index = index
        self._limits = limits
        self._under_way = under_way
        self._admitted = admitted or ExitStack()
        self._reading: asyncio.Future[None]
        self._count = count
        self._parts: asyncio.Queue[Part | None] = asyncio.Queue()
        self._held = 0  # bytes of those parts, and of the one that is being consumed
        self._consumed = 0  # bytes of the latter
        self._counted = AHEAD  # bytes of an incomplete line
        self._room = asyncio.Event()
        self._latest = IngestReport()
        self._told = asyncio.Event()
        self._ended = False
        self._left = asyncio.Event()  # its client did, before the end of the body
        self._failure: Refusal | None = None  # why the body was not read to its end
        self._whole = False
        self.keep: Callable[[IngestReport], None] = lambda report: None  # noqa: ARG005  # set by callers that want it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # Starlette's
        """Read, ingest and report, all at the same time."""
        with self._admitted:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._reading = asyncio.ensure_future(self._read())
            telling = asyncio.ensure_future(self._tell(send))
            try:
                last = await self._ingest()
            finally:
                await self._end_records()
                self._ended = True
                self._told.set()
        with self._patience(scope):
            await asyncio.gather(telling, return_exceptions=True)
            await send({"type": "http.response.body", "body": _line(last), "more_body": False})

    @contextmanager
    def _patience(self, scope: Scope) -> Iterator[None]:
        """Drop a client that does not take the answer. Its connection does not: the body may be incomplete."""
        drop = scope.get("extensions", {}).get(DROP, {}).get("drop", lambda: None)
        dropping = asyncio.get_running_loop().call_later(self._limits.arrival, drop)
        try:
            yield
        finally:
            dropping.cancel()

    async def _ingest(self) -> dict[str, Any]:
        """Return the content of the last line."""
        try:
            report = await self._report()
        except Exception as error:
            return {"status": "failed", **_counts(self._latest), **refusal_of(error).for_openai()}
        self.keep(report)
        said = {"status": "done" if self._whole else "incomplete", **_counts(report)}
        for name in _LISTS:
            said[name] = getattr(report, name)[:_LISTED]
        return said if self._failure is None else {**said, **self._failure.for_openai()}

    async def _report(self) -> IngestReport:
        """Return the report; if the server cuts the ingest off, it covers the records consumed until then."""
        records = self._records(asyncio.get_running_loop())
        ingesting = asyncio.ensure_future(self._index.aingest(records, on_progress=self._progress))
        giving_up = asyncio.ensure_future(self._give_up(ingesting))
        try:
            with self._under_way.going_on():
                await asyncio.wait({ingesting})
        except Refusal as cut_off:
            await self._end_records()
            self._failure = None if self._whole else cut_off
            await asyncio.wait({ingesting}, timeout=_FINISHING)
            if not ingesting.done():
                raise
        finally:
            giving_up.cancel()
            ingesting.cancel()
        if ingesting.cancelled():
            raise Refusal(503, "the client left, and the ingest did not end in time", code="unavailable")
        return ingesting.result()

    async def _give_up(self, ingesting: asyncio.Future[IngestReport]) -> None:
        """Cancel an ingest that continues for long after its client left: its database may never answer."""
        await self._left.wait()
        await asyncio.sleep(self._limits.arrival)
        ingesting.cancel()

    def _progress(self, report: IngestReport) -> None:
        self._latest = report
        self._told.set()

    async def _tell(self, send: Send) -> None:
        """Send the latest report, whenever there is one and the client has taken the previous one."""
        while True:
            await self._told.wait()
            if self._ended:
                return
            self._told.clear()
            line = _line({"status": "running", **_counts(self._latest)})
            await send({"type": "http.response.body", "body": line, "more_body": True})

    async def _read(self) -> None:
        """Read to the end of the body, or as far as it is readable; then end the records.

        If it was not readable, wait until the client leaves, or this is cancelled.
        """
        try:
            await self._read_lines()
            self._whole = True
        except ClientDisconnect:
            self._left.set()
        except Exception as error:  # the host may have no memory for a line
            self._failure = refusal_of(error)
        finally:
            self._parts.put_nowait(None)
        while self._failure is not None and (await self._request.receive())["type"] != "http.disconnect":
            pass  # the rest is dropped
        if self._failure is not None:
            self._left.set()

    async def _read_lines(self) -> None:
        """Cut the body into lines, and hand them on; if they come too fast, the client has to wait."""
        begun = bytearray()  # an incomplete line; only new data is searched for its end
        number, left = 0, self._limits.arrival  # seconds in which that line must be completed
        stream, clock = self._request.stream(), asyncio.get_running_loop().time
        while True:
            asked = clock()
            try:
                async with asyncio.timeout(left):
                    part = await anext(stream, None)
            except TimeoutError:
                raise too_late(f"line {number + 1}", self._limits.arrival) from None
            if part is None:
                break
            left -= clock() - asked
            first, *others = part.split(b"\n")
            begun += first
            if others:
                lines = [bytes(begun), *others[:-1]]
                begun = bytearray(others[-1])
                await self._hand_on([(number + at, each) for at, each in enumerate(lines) if each.strip()])
                number, left = number + len(lines), self._limits.arrival
            if len(begun) > self._limits.body:
                raise Refusal(413, f"line {number + 1} has more than {self._limits.body:,} bytes", code="too_large")
            if (more := len(begun) - self._counted) > 0:
                self._count(more)
                self._counted += more
        if begun.strip():
            await self._hand_on([(number, bytes(begun))])

    async def _hand_on(self, part: Part) -> None:
        """Hand on lines, and wait until there is room for more."""
        self._held += _size(part)
        self._parts.put_nowait(part)
        while self._held > AHEAD:
            self._room.clear()
            await self._room.wait()

    async def _take(self) -> Part | None:
        """Return the next lines, once those before them are consumed."""
        self._held -= self._consumed
        self._consumed = 0
        self._room.set()
        part = await self._parts.get()
        self._consumed = _size(part or ())
        return part

    def _records(self, loop: asyncio.AbstractEventLoop) -> Iterator[Record | Skipped]:
        """Yield records, on the ingest's thread."""
        while (part := asyncio.run_coroutine_threadsafe(self._take(), loop).result()) is not None:
            yield from (_record(line, number) for number, line in part)

    async def _end_records(self) -> None:
        """Stop reading, and wake a thread that waits for records that will not arrive."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        while not self._parts.empty():
            self._whole &= self._parts.get_nowait() is None
        self._parts.put_nowait(None)


def _size(part: Sequence[tuple[int, bytes]]) -> int:
    """Return about how many bytes lines take."""
    return sum(_LINE + len(line) for _, line in part)


def _record(line: bytes, number: int) -> Record | Skipped:
    """Return the record of a line, or the reason why it is not one."""
    if has_too_many_values(line):
        return Skipped(f"line {number + 1}", f"has more than {VALUES:,} values")
    try:
        read = msgspec.json.decode(line, type=RecordLine)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Skipped(f"line {number + 1}", 'is not a JSON object with a string "id" and a string "text"')
    return Record(read.id, read.text, read.metadata)


def _counts(report: IngestReport) -> dict[str, Any]:
    counts = {name: getattr(report, name) for name in _COUNTS}
    return counts | {f"{name}_total": len(getattr(report, name)) for name in _LISTS}


def _line(said: dict[str, Any]) -> bytes:
    return dumped(said) + b"\n"
