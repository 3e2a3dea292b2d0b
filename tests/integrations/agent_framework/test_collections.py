"""Agent Framework's vector collections embed stored records as documents, and searches as queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import signature
from typing import Any

import agent_framework
import pytest
from agent_framework import Agent, Content
from agent_framework_harrier import HarrierEmbeddingClient, with_roles

from harrier_core import Encoder, SettingError

SEARCH: Any = getattr(agent_framework, "BaseVectorSearch", None)
pytestmark = pytest.mark.skipif(
    SEARCH is None or "embeddings_options" not in signature(SEARCH.search).parameters,
    reason="this agent-framework-core has no vector collections with embedding options; 1.20 brought them",
)

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
STS = "Instruct: Retrieve semantically similar text\nQuery: "
NOTES = [
    {"id": "bread", "text": "Bread rises\nbecause of yeast.", "vector": "Bread rises\nbecause of yeast."},
    {"id": "river", "text": "Rivers carry sand.", "vector": "Rivers carry sand."},
]
STORED = [note["vector"] for note in NOTES]
NO_ROLE = "this request does not say whether it embeds queries or documents; .*with_roles"

Make = Callable[..., Any]


@pytest.fixture
def client(encoder: Encoder) -> HarrierEmbeddingClient:
    return HarrierEmbeddingClient(encoder)


@pytest.fixture
def collection(encoder: Encoder) -> Make:
    """Create a collection that uses this client for embeddings."""
    # Imported here, since older releases have no such names.
    from agent_framework import InMemoryStore, VectorStoreCollectionDefinition, VectorStoreField

    def make(client: HarrierEmbeddingClient) -> Any:
        fields = [
            VectorStoreField("key", name="id", type_="str"),
            VectorStoreField("data", name="text", type_="str"),
            VectorStoreField("vector", name="vector", dimensions=encoder.dimensions, type_="float"),
        ]
        store = InMemoryStore(embedding_generator=client)
        made = store.get_collection(dict, definition=VectorStoreCollectionDefinition(fields), collection_name="notes")
        asyncio.run(made.ensure_collection_exists())
        return made

    return make


async def found(results: Any) -> list[str]:
    return [each["record"]["id"] async for each in await results]


def test_roles(client: HarrierEmbeddingClient, collection: Make, read: list[str]) -> None:
    """Upserts are documents and searches are queries, byte for byte."""
    made = collection(client)
    notes = with_roles(made)
    assert notes is made

    async def main() -> None:
        assert await notes.upsert(NOTES) == ["bread", "river"]
        assert read == STORED
        read.clear()
        assert await found(notes.search("why does\nbread rise", top=1)) == ["bread"]
        assert read == [WEB + "why does\nbread rise"]
        assert [each["id"] for each in await notes.get(["river"])] == ["river"]
        await notes.delete(["river"])
        assert await found(notes.search("rivers")) == ["bread"]

    asyncio.run(main())


def test_options(client: HarrierEmbeddingClient, collection: Make, read: list[str]) -> None:
    """Options of a call reach the client, such as another task or the document role."""
    notes = with_roles(collection(client))

    async def main() -> None:
        await notes.upsert(NOTES)
        read.clear()
        await notes.search("bread", embeddings_options={"task": "sts_query"})
        await notes.search("bread", embeddings_options={"role": "document"})
        assert read == [STS + "bread", "bread"]

    asyncio.run(main())


@pytest.mark.parametrize("role", [None, "document", "query"])
def test_an_unmodified_collection(encoder: Encoder, collection: Make, read: list[str], role: Any) -> None:
    """It does not state roles, so nothing is embedded, whatever the client's default."""
    notes = collection(HarrierEmbeddingClient(encoder, role=role))

    async def main() -> None:
        with pytest.raises(SettingError, match=NO_ROLE):
            await notes.upsert(NOTES)
        with pytest.raises(SettingError, match=NO_ROLE):
            await notes.search("bread")
        assert read == []
        await notes.upsert(NOTES, embeddings_options={"role": "document"})
        await notes.search("bread", embeddings_options={"role": "query"})
        assert read == [*STORED, WEB + "bread"]

    asyncio.run(main())


def test_concurrent_calls(client: HarrierEmbeddingClient, collection: Make, read: list[str]) -> None:
    """Concurrent upserts and searches keep their roles."""
    notes = with_roles(with_roles(collection(client)))  # twice is as good as once

    def note(number: int) -> dict[str, str]:
        return {"id": str(number), "text": "", "vector": f"text {number}"}

    async def main() -> None:
        await asyncio.gather(*(notes.upsert([note(n)]) if n % 2 else notes.search(f"question {n}") for n in range(10)))
        await notes.search("question 10")
        with pytest.raises(SettingError, match=NO_ROLE):
            await client.get_embeddings(["bread"])

    asyncio.run(main())
    assert sorted(read) == sorted(f"text {n}" if n % 2 else f"{WEB}question {n}" for n in range(11))


def test_an_agents_tools(
    client: HarrierEmbeddingClient,
    collection: Make,
    read: list[str],
    scripted: Any,
    say: Callable[[str], Content],
    call: Callable[..., Content],
) -> None:
    """Search tools that the framework creates from a collection have the right roles."""
    from agent_framework import VectorCollectionContextProvider

    notes = with_roles(collection(client))
    provider = VectorCollectionContextProvider(notes, scope_filter=None, approval_mode="never_require")
    chat = scripted(call("upsert", records=NOTES), say("Stored."), call("search", query="why bread"), say("Yeast."))

    async def main() -> None:
        agent = Agent(client=chat, context_providers=[provider])
        await agent.run("Keep this.")
        assert read == STORED
        await agent.run("Why?")
        assert read == [*STORED, WEB + "why bread"]

    asyncio.run(main())
    results = [each.result for message in chat.asked[3] for each in message.contents if each.type == "function_result"]
    assert "Bread rises" in str(results[-1])


def test_a_history(client: HarrierEmbeddingClient, encoder: Encoder, read: list[str], scripted: Any, say: Any) -> None:
    """A history provider stores messages as documents."""
    from agent_framework import InMemoryStore, VectorStoreHistoryProvider

    provider = VectorStoreHistoryProvider(
        InMemoryStore(),
        application_id="tests",
        collection_name="history",
        embedding_generator=client,
        embedding_options={"dimensions": encoder.dimensions, "role": "document"},
    )
    agent = Agent(client=scripted(say("Hello."), say("Yes.")), context_providers=[provider])
    session = agent.create_session()

    async def main() -> None:
        await agent.run("I like bread.", session=session)
        await agent.run("Do you?", session=session)

    asyncio.run(main())
    assert len(read) == 4
    assert not [text for text in read if text.startswith("Instruct")]


@pytest.mark.parametrize("given", [dict, "notes", HarrierEmbeddingClient, None])
def test_invalid_collections(given: Any) -> None:
    with pytest.raises(SettingError, match="collection must be a vector collection, got "):
        with_roles(given)


def test_the_class_is_not_changed() -> None:
    """Only the given collection is changed, not all of its class."""
    from agent_framework import InMemoryCollection

    with pytest.raises(SettingError, match="got InMemoryCollection; create one, and pass it"):
        with_roles(InMemoryCollection)
