"""A real Agent with a scripted chat client gets context from an Index, or searches it by a tool."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agent_framework import Agent, AgentSession, Content, FunctionTool, Message
from agent_framework_harrier import HarrierContextProvider, index_tool
from harrier_pgvector import PgVectorStore

from harrier_core import Encoder, Index, Record, StoreMissing, VectorStore
from harrier_core.testing import MemoryStore

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
STS = "Instruct: Retrieve semantically similar text\nQuery: "
RECORDS = [
    Record("bread", "Bread rises because of yeast.", {"year": 2021, "title": "On bread", "url": "https://a.example/"}),
    Record("river", "Rivers carry sand to the sea.", {"year": 2023}),
    Record("whale", "Whales sing songs in the sea.", {"year": 2023, "title": 7, "url": None}),
]
PROMPT = HarrierContextProvider.DEFAULT_CONTEXT_PROMPT

Say = Callable[[str], Content]
Call = Callable[..., Content]


@pytest.fixture(params=["memory", "pgvector"])
def index(request: pytest.FixtureRequest, encoder: Encoder, table: str) -> Iterator[Index]:
    stores: dict[str, Callable[[], VectorStore]] = {
        "memory": MemoryStore,
        "pgvector": lambda: PgVectorStore(request.getfixturevalue("postgres"), table=table),
    }
    with Index(stores[request.param](), encoder) as index:
        index.ingest(RECORDS)
        yield index


def answer(agent: Agent[Any], asked: str | list[Message]) -> str:
    async def main() -> str:
        return (await agent.run(asked)).text  # on the loop: releases before 1.12 want it there

    return asyncio.run(main())


def texts(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in messages]


def test_context(index: Index, read: list[str], scripted: Any, say: Say) -> None:
    """Matches come before the question, the nearest first, with source and citation."""
    chat = scripted(say("Because of yeast."))
    agent = Agent(client=chat, context_providers=[HarrierContextProvider(index, k=2)])
    read.clear()
    assert answer(agent, "why does\nbread rise") == "Because of yeast."
    assert read == [WEB + "why does\nbread rise"]
    [messages] = chat.asked
    assert texts(messages)[:2] == [("user", PROMPT), ("user", "[Source: bread] Bread rises because of yeast.")]
    assert texts(messages)[3:] == [("user", "why does\nbread rise")]
    assert messages[1].additional_properties["_attribution"] == {
        "source_id": "harrier",
        "source_type": "HarrierContextProvider",
    }


def test_citations(index: Index, scripted: Any, say: Say) -> None:
    """Citations have what a user interface needs, and survive the framework's serialization."""
    chat = scripted(say("yes"))
    provider = HarrierContextProvider(index, "kb", context_prompt="Facts:", result_mapper=lambda each: each.text)
    answer(Agent(client=chat, context_providers=[provider]), "why does bread rise")
    _, *found, _ = chat.asked[0]
    assert [message.text for message in found] == [each.text for each in index.search("why does bread rise")]
    [match] = index.search("why does bread rise", k=1)
    [annotation] = found[0].contents[0].annotations or []
    assert annotation == {
        "type": "citation",
        "title": "On bread",
        "url": "https://a.example/",
        "snippet": "Bread rises because of yeast.",
        "additional_properties": {
            "record_id": "bread",
            "chunk_id": match.id,
            "start": 0,
            "end": 29,
            "score": match.score,
            "metadata": dict(RECORDS[0].metadata),
        },
    }
    sources = [message.contents[0].annotations[0] for message in found]
    assert {each["title"] for each in sources} == {"On bread", "river", "whale"}  # a title that is not a str is ignored
    assert [each["url"] for each in sources if "url" in each] == ["https://a.example/"]
    assert Message.from_json(found[0].to_json()).contents[0].annotations == [annotation]
    annotation["additional_properties"]["metadata"]["year"] = 1  # it is the caller's own, and changes nothing stored
    assert index.search("why does bread rise", k=1)[0].metadata["year"] == 2021
    assert chat.asked[0][0].text == "Facts:"
    assert found[0].additional_properties["_attribution"]["source_id"] == "kb"


def test_conditions_and_task(index: Index, read: list[str], scripted: Any, say: Say) -> None:
    """They are the provider's."""
    chat = scripted(say("yes"), say("no"))
    provider = HarrierContextProvider(index, k=1, where={"year": {"$gte": 2022}}, task="sts_query")
    read.clear()
    answer(Agent(client=chat, context_providers=[provider]), "why does bread rise, and rivers")
    assert read == [STS + "why does bread rise, and rivers"]
    assert chat.asked[0][1].text == "[Source: river] Rivers carry sand to the sea."
    nothing = HarrierContextProvider(index, where={"year": 1999})
    answer(Agent(client=chat, context_providers=[nothing]), "bread")
    assert texts(chat.asked[1]) == [("user", "bread")]


@pytest.mark.parametrize(
    ("messages", "query"),
    [
        ([("user", "first"), ("user", "second\nline")], "first\nsecond\nline"),
        ([("user", "old"), ("assistant", "answer"), ("user", " "), ("user", "new")], "new"),
        ([("system", "rules"), ("user", "new"), ("tool", "result")], "new"),
        ([("user", "old"), ("assistant", "answer")], None),
        ([("user", " \n")], None),
        ([], None),
    ],
)
def test_the_query(
    index: Index, read: list[str], scripted: Any, say: Say, messages: list[tuple[str, str]], query: str | None
) -> None:
    """It is the user's text since the last answer; without text, nothing is searched."""
    agent = Agent(client=scripted(say("yes")), context_providers=[HarrierContextProvider(index)])
    read.clear()
    answer(agent, [Message(role, [text]) for role, text in messages])
    assert read == ([] if query is None else [WEB + query])


def test_a_conversation(index: Index, read: list[str], scripted: Any, say: Say) -> None:
    """Each turn is searched separately, also when streaming, and matches do not enter the history."""
    chat = scripted(say("Because of yeast."), say("They carry sand."))
    agent = Agent(client=chat, context_providers=[HarrierContextProvider(index, k=1)])
    session = AgentSession()

    async def main() -> str:
        await agent.run("why does bread rise", session=session)
        return "".join(
            [update.text async for update in agent.run("what do rivers carry", session=session, stream=True)]
        )

    read.clear()
    assert asyncio.run(main()) == "They carry sand."
    assert read == [WEB + "why does bread rise", WEB + "what do rivers carry"]
    assert [text for _, text in texts(chat.asked[1])].count("[Source: river] Rivers carry sand to the sea.") == 1
    assert "[Source: bread] Bread rises because of yeast." not in [text for _, text in texts(chat.asked[1])]
    AgentSession.from_dict(json.loads(json.dumps(session.to_dict())))


def test_tool(index: Index, read: list[str], scripted: Any, say: Say, call: Call) -> None:
    """The model's text is a query, and it gets the matches with citations."""
    chat = scripted(call("search", query="why does\nbread rise"), say("Because of yeast."))
    agent = Agent(client=chat, tools=[index_tool(index, k=1)])
    read.clear()
    assert answer(agent, "I have a question.") == "Because of yeast."
    assert read == [WEB + "why does\nbread rise"]
    [result] = [each for message in chat.asked[1] for each in message.contents if each.type == "function_result"]
    assert result.exception is None
    assert "[Source: bread] Bread rises because of yeast." in str(result.result)


def test_the_tools_parameters(index: Index) -> None:
    """The model can only set the query, so it cannot omit conditions."""
    tool = index_tool(index, name="find_notes", description="Find notes.", approval_mode="always_require")
    assert isinstance(tool, FunctionTool)
    assert (tool.name, tool.description, tool.approval_mode) == ("find_notes", "Find notes.", "always_require")
    parameters = tool.parameters()
    assert list(parameters["properties"]) == parameters["required"] == ["query"]
    assert parameters["properties"]["query"]["type"] == "string"
    assert "as a question" in parameters["properties"]["query"]["description"]
    assert index_tool(index).approval_mode == "never_require"


def test_settings_of_a_tool(index: Index, read: list[str]) -> None:
    """A tool searches with its own settings."""
    show = "{0.record_id} ({0.metadata[year]})".format
    tool = index_tool(index, k=1, where={"year": 2023}, task="sts_query", result_mapper=show)
    read.clear()
    found: Any = asyncio.run(tool.invoke(arguments={"query": "bread and rivers"}))
    assert [each.text for each in found] == ["river (2023)"]
    assert found[0].annotations[0]["additional_properties"]["record_id"] == "river"
    assert read == [STS + "bread and rivers"]


def test_a_blank_query(index: Index, scripted: Any, say: Say, call: Call) -> None:
    """The model gets an error, and the run continues."""
    chat = scripted(call("search", query=" "), say("Sorry."))
    assert answer(Agent(client=chat, tools=[index_tool(index)]), "hello") == "Sorry."
    [result] = [each for message in chat.asked[1] for each in message.contents if each.type == "function_result"]
    assert result.exception is not None


@pytest.mark.parametrize("make", [HarrierContextProvider, index_tool])
def test_a_misspelt_keyword(index: Index, make: Callable[..., Any]) -> None:
    """It raises an error, because an ignored filter could expose records."""
    with pytest.raises(TypeError, match="wher"):
        make(index, wher={"year": 2023})


def test_a_missing_index(encoder: Encoder, scripted: Any, say: Say, postgres: str, table: str) -> None:
    """It raises an error, instead of an answer without knowledge."""
    with Index(PgVectorStore(postgres, table=table), encoder) as index:
        agent = Agent(client=scripted(say("yes")), context_providers=[HarrierContextProvider(index)])
        with pytest.raises(StoreMissing):
            answer(agent, "hello")


def test_keyword_and_hybrid_search(encoder: Encoder, read: list[str], scripted: Any, say: Say) -> None:
    """Both work for tools and for context."""
    index = Index(MemoryStore(keywords=True), encoder)
    index.ingest([*RECORDS, Record("code", "Restart after ERR_CONN_1042.")])
    for mode, prompts in (("keyword", []), ("hybrid", [WEB + "ERR_CONN_1042"])):
        how: Any = {"mode": mode, "k": 1}
        read.clear()
        [content] = asyncio.run(index_tool(index, **how).invoke(arguments={"query": "ERR_CONN_1042"}))
        assert content.text == "[Source: code] Restart after ERR_CONN_1042."
        assert read == prompts
        chat = scripted(say("Restart."))
        answer(Agent(client=chat, context_providers=[HarrierContextProvider(index, **how)]), "ERR_CONN_1042")
        assert "[Source: code]" in str(texts(chat.asked[0]))
