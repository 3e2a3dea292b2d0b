"""An ingest over HTTP: records come in as lines of JSON, and reports of what became of them go out as lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from queue import Queue
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from harrier_core.records import IngestReport, Record, Skipped
from harrier_server.bodies import dumped
from harrier_server.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from harrier_core.index import Index

_AHEAD = 16  # parts of the body that were read and not taken


class RecordLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the body."""

    id: str
    text: str
    metadata: dict[str, Any] = {}


class Ingesting(Response):
    """Answers while the request is still being read; an ASGI server lets a response do so."""

    media_type = "application/x-ndjson"

    def __init__(self, request: Request, index: Index, most_bytes_of_line: int) -> None:
        """Take a request whose body nobody has read."""
        super().__init__()
        del self.headers["content-length"]
        self._request = request
        self._index = index
        self._most = most_bytes_of_line
        self._parts: Queue[list[Record | Skipped] | None] = Queue(_AHEAD)
        self._whole = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # Starlette's
        """Read, ingest and report, all at once."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def line(said: dict[str, Any], *, more: bool) -> None:
            await send({"type": "http.response.body", "body": dumped(said) + b"\n", "more_body": more})

        loop = asyncio.get_running_loop()
        told: set[asyncio.Task[None]] = set()

        def progress(report: IngestReport) -> None:
            loop.call_soon(lambda: told.add(loop.create_task(line(_report(report, "running"), more=True))))

        reading = asyncio.ensure_future(self._read())
        try:
            report = await self._index.aingest(self._records(), on_progress=progress)
            await reading
            last = _report(report, "done" if self._whole else "incomplete")
        except Exception as error:
            last = {"status": "failed", **refusal_of(error).for_openai()}
        finally:
            reading.cancel()
            await asyncio.gather(*told, return_exceptions=True)
        await line(last, more=False)

    async def _read(self) -> None:
        """Cut the body into lines, and hand them on; slower than they come, the client waits."""
        rest = b""
        number = 0
        try:
            async for part in self._request.stream():
                *lines, rest = (rest + part).split(b"\n")
                if len(rest) > self._most:
                    raise Refusal(
                        413, f"line {number + len(lines)} has more than {self._most:,} bytes", code="too_large"
                    )
                if lines:
                    await self._put([_record(each, number + at) for at, each in enumerate(lines) if each.strip()])
                    number += len(lines)
            if rest.strip():
                await self._put([_record(rest, number)])
            self._whole = True
        finally:
            await asyncio.shield(asyncio.to_thread(self._parts.put, None))

    async def _put(self, records: list[Record | Skipped]) -> None:
        await asyncio.to_thread(self._parts.put, records)

    def _records(self) -> Iterator[Record | Skipped]:
        while (part := self._parts.get()) is not None:
            yield from part


def _record(line: bytes, number: int) -> Record | Skipped:
    """The record of a line, or why there is none."""
    try:
        read = msgspec.json.decode(line, type=RecordLine)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Skipped(f"line {number + 1}", 'is not a JSON object with a string "id" and a string "text"')
    return Record(read.id, read.text, read.metadata)


def _report(report: IngestReport, status: str) -> dict[str, Any]:
    return {"status": status, **asdict(report)}
