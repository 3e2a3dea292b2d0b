"""Metadata reads back the same from every integration and store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from langchain_core.documents import Document
from langchain_harrier import HarrierVectorStore as OfLangChain
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.harrier import HarrierVectorStore as OfLlamaIndex

from harrier_core import Encoder, Index, Record
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore
from harrier_core.values import plain


class Topic(StrEnum):
    """A subclass of str."""

    FOOD = "food"


class Shade(Enum):
    """An enumeration member that is neither a str nor a number."""

    RED = (255, 0, 0)


METADATA: dict[str, Any] = {
    "when": datetime(2024, 5, 1, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=2))),
    "seen": datetime(2024, 5, 1, 12, 30),
    "day": date(2024, 5, 1),
    "at": time(12, 30),
    "id": UUID(int=7),
    "path": PurePosixPath("a/b.txt"),
    "price": Decimal("1.50"),
    "number": Decimal(3),
    "score": np.float32(0.5),
    "count": np.int64(7),
    "sure": np.bool_(True),
    "tags": {"b", "a"},
    "topic": Topic.FOOD,
    "shade": Shade.RED,
    "nested": {"days": [date(2024, 5, 1), (Decimal(1),)]},
}

PLACES: dict[str, Callable[[pytest.FixtureRequest], VectorStore]] = {
    "memory": lambda request: MemoryStore(),
    "pgvector": lambda request: PgVectorStore(
        request.getfixturevalue("postgres"), table=request.getfixturevalue("table")
    ),
    "qdrant": lambda request: QdrantStore.embedded(request.getfixturevalue("tmp_path") / "qdrant"),
}


@pytest.mark.parametrize("place", PLACES)
def test_one_metadata(request: pytest.FixtureRequest, encoder: Encoder, place: str) -> None:
    """Its hash is that of the form read back, so ingesting it again writes nothing."""
    with Index(PLACES[place](request), encoder) as index:
        chain, llama = OfLangChain(index), OfLlamaIndex(index)
        index.ingest([Record("core", "a text", METADATA)])
        chain.add_documents([Document(id="chain", page_content="a text", metadata=METADATA)])
        llama.add([TextNode(id_="llama", text="a text", metadata=METADATA, excluded_embed_metadata_keys=[*METADATA])])

        [document], [node] = chain.get_by_ids(["chain"]), llama.get_nodes(["llama"])
        [stored] = index.read(["core"])
        assert dict(document.metadata) == dict(node.metadata) == dict(stored.chunk.metadata) == plain(METADATA)
        assert index.ingest([Record("core", "a text", document.metadata)]).unchanged == 1

        for field in ("when", "day", "id", "path", "price", "count", "topic", "score"):
            assert {each.record_id for each in index.search("a text", where={field: METADATA[field]})} == {
                "core",
                "chain",
                "llama",
            }
        after = {"when": {"$gt": datetime(2024, 5, 1, 10, 30, tzinfo=UTC), "$lt": date(2024, 5, 2)}}
        assert len(chain.similarity_search("a text", k=5, filter=after)) == 3
        [meant] = [MetadataFilter(key="when", value=plain(METADATA["when"]), operator=FilterOperator.EQ)]
        assert len(llama.get_nodes(filters=MetadataFilters(filters=[meant]))) == 3
