"""The work of the tools, for several callers at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from harrier_mcp.desk import Answer, Desk
from harrier_mcp.failures import Refused
from harrier_mcp.settings import Limits, Settings
from ingesting import Hashing

from harrier_core import Index, Record
from harrier_core.callers import CALLER
from harrier_core.testing import MemoryStore


class Blocked(MemoryStore):
    """A store that answers one caller only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def search(self, *args: Any, **kwargs: Any) -> Any:
        if CALLER.get() == "a":
            assert self.go.wait(60)
        return super().search(*args, **kwargs)


def test_a_caller_with_many_calls_delays_no_other() -> None:
    """Each has as many calls at once, and waiting, as the limits allow."""
    store = Blocked()
    index = Index(store, Hashing())
    index.ingest([Record("bread", "Bread rises.")])
    desk = Desk(index, Settings(limits=Limits(at_once=2, waiting=3)))

    async def ask(caller: str) -> Answer | None:
        CALLER.set(caller)
        return await desk.call("search", {"query": "bread"})

    async def main() -> None:
        many = [asyncio.ensure_future(ask("a")) for _ in range(4)]
        try:
            for _ in range(3):
                found = await asyncio.wait_for(asyncio.ensure_future(ask("b")), 30)
                assert found
                assert found["results"][0]["id"] == "bread"
            with pytest.raises(Refused, match="too many calls are waiting"):
                await many[3]
        finally:
            store.go.set()
        assert all(await asyncio.gather(*many[:3]))
        assert not desk._lines

    asyncio.run(main())
