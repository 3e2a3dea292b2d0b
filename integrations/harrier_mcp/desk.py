"""The work of the tools: searches and records within an operator's conditions, with bounded answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harrier_core import Match, Record, Task
from harrier_core.callers import CALLER
from harrier_core.filters import meets, parse
from harrier_core.threads import in_thread
from harrier_core.view import View, Whole
from harrier_mcp.arguments import Add, Delete, Fetch, Search, arguments, size_of
from harrier_mcp.card import Cards
from harrier_mcp.citing import shared, title_of, url_of
from harrier_mcp.cleaning import bounded, cut
from harrier_mcp.failures import Refused
from harrier_mcp.settings import Settings

if TYPE_CHECKING:
    from harrier_core import Index

Answer = dict[str, Any]
Given = dict[str, Any] | None

_LEAST = 200  # characters of a result, however many results there are


@dataclass(slots=True)
class _Line:
    """The calls of one caller."""

    turns: asyncio.Semaphore
    waiting: int = 0


class Desk:
    """The tools of one index. Any number of calls may be pending; only a few of each caller are processed at once."""

    def __init__(self, index: Index, settings: Settings) -> None:
        """Take an index and its settings."""
        self.settings = settings
        self.view = View(index, settings.where)
        self.cards = Cards(self.view, settings.limits.fresh)
        self._tools = {"search": self.search, "fetch": self.fetch}
        if settings.writing:
            self._tools |= {"add": self.add, "delete": self.delete}
        self._lines: dict[object, _Line] = {}  # those of callers with calls

    async def call(self, name: str, given: Given) -> Answer | None:
        """Return a tool's answer, or None if there is no such tool."""
        tool = self._tools.get(name)
        if tool is None:
            return None
        async with self.turn():
            return await tool(given)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a call may be processed. Raise Refused if too many of its caller wait."""
        caller, limits = CALLER.get(), self.settings.limits
        line = self._lines.setdefault(caller, _Line(asyncio.Semaphore(limits.at_once)))
        if line.waiting >= limits.waiting:
            raise Refused("too many calls are waiting; try again later")
        line.waiting += 1
        try:
            async with line.turns:
                yield
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[caller]

    # -- reading

    async def search(self, given: Given) -> Answer:
        """Return the passages that best answer a query."""
        asked = arguments(given, Search)
        limits = self.settings.limits
        if not 1 <= asked.k <= limits.k:
            raise Refused(f"k must be from 1 to {limits.k}, got {asked.k}")
        if len(asked.query) > limits.query:
            raise Refused(f"query must have at most {limits.query:,} characters, got {len(asked.query):,}")
        if asked.where is not None and size_of(asked.where) > limits.where:
            raise Refused(f"where must have at most {limits.where:,} characters as JSON")
        if not asked.query.strip():
            raise Refused("query must not be empty")
        mode, task = asked.mode or self.settings.mode, await self._task(asked.task)
        found = await self.view.asearch(asked.query, asked.k, asked.where, task=task, mode=mode)
        return {"results": self._results(near(found, asked.min_score))}

    async def _task(self, name: str | None) -> str | Task | None:
        """Return the task that a caller names, or the operator's."""
        if name is None:
            return self.settings.task
        known = (await self.cards.latest()).tasks
        if name not in known:
            raise Refused(f"unknown task; this model has {', '.join(known) or 'none'}")
        return name

    def _results(self, found: Sequence[Match]) -> list[Answer]:
        limits = self.settings.limits
        most = min(limits.passage, max(_LEAST, limits.answer // max(1, len(found))))
        return [self._result(match, most) for match in found]

    def _result(self, match: Match, most: int) -> Answer:
        told = {
            **self._cited(match.record_id, match.metadata),
            "text": cut(match.text, most),
            "score": round(match.score, 4),
            "cosine": None if match.cosine is None else round(match.cosine, 4),
            "chunk": match.number,
            "start": match.start,
            "end": match.end,
            "metadata": self._metadata(match.metadata),
        }
        return told | {"cut": True} if len(match.text) > most else told

    def _cited(self, record_id: str, metadata: Any) -> Answer:  # a chunk's
        settings = self.settings
        url = url_of(record_id, metadata, settings.name, local=settings.local)
        return {"id": record_id, "title": title_of(record_id, metadata), "url": url}

    def _metadata(self, metadata: Any) -> Answer:
        return bounded(shared(metadata, local=self.settings.local), self.settings.limits.metadata)

    async def fetch(self, given: Given) -> Answer:
        """Return a record, or as much of it as fits."""
        asked = arguments(given, Fetch)
        whole = await self.whole(asked.id)
        text, begin = whole.text, position(whole, asked.start)
        end = min(len(text), begin + self.settings.limits.fetched)
        shown = [
            {
                "number": chunk.number,
                "start": chunk.start,
                "end": chunk.end,
                "at": max(at - begin, 0),
                **self._part(whole, chunk),
            }
            for chunk, at in zip(whole.chunks, whole.at, strict=True)
            if at + len(chunk.text) > begin and at < end
        ]
        return {
            **self._cited(whole.id, whole.chunks[0].metadata),
            "text": text[begin:end],
            "metadata": self._metadata(whole.metadata),
            "chunks": shown,
            "next": offset(whole, end) if end < len(text) else None,
        }

    def _part(self, whole: Whole, chunk: Any) -> Answer:  # a Chunk
        own = self._metadata(whole.described(chunk))
        return {"metadata": own} if own else {}

    async def whole(self, record_id: str) -> Whole:
        """Return a record. Raise Refused unless it exists and callers may see it."""
        whole = await self.view.arecord(record_id)
        if whole is None:
            raise Refused("there is no record with this id; use the id of a search result")
        return whole

    # -- writing

    async def add(self, given: Given) -> Answer:
        """Write a record that callers may see; never overwrite one that they may not."""
        asked = arguments(given, Add)
        fixed, index = parse(self.view.fixed), self.view.index
        metadata = {**_equalities(self.view.fixed), **asked.metadata}
        if not meets(metadata, fixed):
            raise Refused("metadata must meet the conditions that this server was started with (--where)")
        if fixed is not None and await in_thread(self._hides, asked.id):
            raise Refused("this id cannot be used; choose another one")
        report = await index.aingest([Record(asked.id, asked.text, metadata)])
        self.cards.forget()
        if report.rejected:
            raise Refused(f"the record {report.rejected[0][1]}")
        return {"written": report.written, "unchanged": report.unchanged}

    def _hides(self, record_id: str) -> bool:
        """Return whether there is such a record with chunks that callers may not see."""
        seen, there = self.view.record(record_id), View(self.view.index).record(record_id)
        return there is not None and (seen is None or len(seen.chunks) != len(there.chunks))

    async def delete(self, given: Given) -> Answer:
        """Remove records that callers may see."""
        asked = arguments(given, Delete)
        deleted = await self.view.index.adelete(asked.ids, where=self.view.fixed)
        self.cards.forget()
        return {"deleted": deleted}


def _equalities(where: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata that conditions require by value: records added here have them by default."""
    plain = (str, int, float, bool)
    given = (where or {}).items()
    return {name: value for name, value in given if isinstance(value, plain) and name[:1] != "$" and "." not in name}


def near(found: Sequence[Match], least: float | None) -> list[Match]:
    """Return the matches with a high enough cosine; those found by word have none, and stay."""
    return [match for match in found if least is None or match.cosine is None or match.cosine >= least]


def position(whole: Whole, start: int) -> int:
    """Return the position in a record's text of one of the record's offsets."""
    before = [(chunk, at) for chunk, at in zip(whole.chunks, whole.at, strict=True) if chunk.start <= start]
    if not before:
        return 0
    chunk, at = before[-1]
    return min(at + start - chunk.start, len(whole.text))


def offset(whole: Whole, place: int) -> int:
    """Return the record's offset of a position in its text."""
    before = [(chunk, at) for chunk, at in zip(whole.chunks, whole.at, strict=True) if at <= place]
    chunk, at = before[-1] if before else (whole.chunks[0], 0)
    return chunk.start + place - at
