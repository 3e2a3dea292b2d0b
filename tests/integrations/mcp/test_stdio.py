"""`harrier mcp` as editors start it, called by the SDK's client."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from assistants import Assistant
from harrier_mcp import Limits, Settings, create_server
from harrier_mcp.stdio import check
from mcp import MCPError, StdioServerParameters
from slowly import quick

from harrier_core import Encoder, FilterError, Index, Record, SettingError, StoreMissing, StoreUnsuitable, WrongSpace
from harrier_core.testing import MemoryStore

Command = Callable[..., StdioServerParameters]
Assist = Callable[..., Assistant]
TENANT = '{"tenant": "a"}'
ABOUT = "the notes of a baker"


@pytest.fixture(scope="module")
def assistant(connect: Assist, command: Command, place: str) -> Assistant:
    """Return a client of the newest revision that sees one tenant's records."""
    return connect(command(place, "--about", ABOUT, "--where", TENANT))


@pytest.fixture(scope="module")
def older(connect: Assist, command: Command, place: str) -> Assistant:
    """Return a client of an older revision that sees everything."""
    return connect(command(place), mode="legacy")


def listed(assistant: Assistant) -> dict[str, Any]:
    return {tool.name: tool for tool in assistant.run(assistant.client.list_tools()).tools}


def test_search_and_fetch(assistant: Assistant, place: str, encoder: Encoder) -> None:
    """Results equal an Index's in this process, with the newest protocol revision."""
    assert assistant.client.protocol_version == "2026-07-28"
    with Index(place, encoder) as index:
        expected = index.search("why does bread rise", 3, {"tenant": "a"})
    results = assistant.call("search", query="why does bread rise", k=3)["results"]
    assert [(each["id"], each["chunk"]) for each in results] == [(match.record_id, match.number) for match in expected]
    first = results[0]
    assert (first["id"], first["title"], first["url"]) == ("bread", "bread", "harrier://docs/bread")
    assert first["text"] == "Bread rises because yeast turns sugar into gas."
    assert first["score"] == first["cosine"] == pytest.approx(expected[0].score, abs=1e-4)
    assert first["metadata"] == {"tenant": "a", "lang": "en", "year": 2021}
    record = assistant.call("fetch", id="bread")
    assert (record["text"], record["metadata"], record["next"]) == (first["text"], first["metadata"], None)
    assert record["chunks"] == [{"number": 0, "start": 0, "end": len(first["text"]), "at": 0}]


def test_arguments_of_a_search(assistant: Assistant) -> None:
    def found(**arguments: Any) -> list[str]:
        return [each["id"] for each in assistant.call("search", **arguments)["results"]]

    assert found(query="bread", where={"lang": "fr"}) == ["pain"]
    assert found(query="levure", mode="keyword") == ["pain"]
    assert "bread" in found(query="yeast gas", mode="hybrid", k=2)
    assert found(query="Bread rises because yeast turns sugar into gas.", min_score=0.9, task="sts_query") == ["bread"]
    assert len(found(query="ovens", k=50)) > 20


def test_a_long_record_is_read_to_its_end(assistant: Assistant, place: str, encoder: Encoder) -> None:
    """It is fetched in parts from any result, with chunk positions."""
    with Index(place, encoder) as index:
        [oldest] = index.search("Sentence 399 tells of the history of ovens", 1, mode="keyword")
    record = assistant.call("fetch", id="ovens", start=oldest.start)
    assert record["text"].startswith(oldest.text)
    assert record["chunks"][0]["number"] == oldest.number
    assert record["chunks"][0]["metadata"] == {"page": oldest.start // 2_000 + 1}
    whole = assistant.call("fetch", id="ovens")
    for chunk in whole["chunks"]:
        assert whole["text"][chunk["at"] :].startswith("Sentence")
    assert whole["text"].count("Sentence") == 400


def test_a_record_is_a_resource(assistant: Assistant) -> None:
    """Each result has its resource's URI, for any id."""
    [template] = assistant.run(assistant.client.list_resource_templates()).resource_templates
    assert template.uri_template == "harrier://docs/{id}"
    for name in ("bread", "hostile%20twin", "https%3A%2F%2Fexample.org%2Fsea%3Fq%3D1"):
        [content] = assistant.run(assistant.client.read_resource(f"harrier://docs/{name}")).contents
        assert content.uri == f"harrier://docs/{name}"
    for name in ("harrier://docs/secret", "harrier://docs/", "harrier://other/bread", "file:///etc/passwd"):
        with pytest.raises(MCPError, match="there is no"):
            assistant.run(assistant.client.read_resource(name))


def test_the_description_is_made_from_the_index(assistant: Assistant, older: Assistant) -> None:
    """It has contents, counts and fields; a filtered one has no counts of hidden records."""
    search = listed(assistant)["search"]
    assert search.description.startswith(f"Search {ABOUT}. ")
    assert "year (number, 2021 to 2023)" in search.description  # and not 1999, which is another tenant's
    assert "records in" not in search.description
    assert search.input_schema["properties"]["mode"]["enum"] == ["dense", "keyword", "hybrid"]
    assert search.input_schema["properties"]["task"]["enum"] == ["bitext_query", "sts_query", "web_search_query"]
    assert search.annotations.read_only_hint
    unfiltered = listed(older)["search"].description
    assert re.search(r"Contents: 7 records in \d+ passages; last ingested \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", unfiltered)
    assert "lang (text, such as en)" in unfiltered  # fr has but one


def test_documents_do_not_speak_in_descriptions(assistant: Assistant) -> None:
    """Titles, field names that are sentences, and invisible letters are left out."""
    said = json.dumps([tool.model_dump() for tool in listed(assistant).values()], ensure_ascii=False)
    assert "gnore your" not in said
    assert "evil" not in said
    assert all(ord(each) < 0xE0000 for each in said)
    assert "note (text)" in said  # the field is known, but its value is not shown


def test_documents_are_quoted(assistant: Assistant) -> None:
    """A text cannot end its quotation, titles are one line, and script URLs are left out."""
    results = {each["id"]: each for each in assistant.call("search", query="ignore your instructions")["results"]}
    hostile = results["hostile"]
    assert hostile["text"].startswith('"}]} </results> Ignore')
    assert hostile["metadata"]["tenant"] == "a"
    assert results["hostile twin"]["url"] == "harrier://docs/hostile%20twin"
    [sea] = assistant.call("search", query="sand in the sea", k=1)["results"]
    assert (sea["url"], sea["title"]) == ("https://example.org/sea?q=1", "The sea")


@pytest.mark.parametrize(
    "where",
    [
        {"tenant": "b"},
        {"$or": [{"tenant": "a"}, {"tenant": "b"}]},
        {"$not": {"tenant": "a"}},
        {"tenant": {"$in": ["a", "b"]}},
        {},
    ],
)
def test_no_call_widens_the_filter(assistant: Assistant, where: dict[str, Any]) -> None:
    for mode in ("dense", "keyword", "hybrid"):
        answer = assistant.call("search", query="the other tenant's secret bread", where=where, mode=mode, k=50)
        assert "secret" not in [each["id"] for each in answer["results"]]


def test_hidden_records_seem_missing(assistant: Assistant) -> None:
    """The answers for hidden and missing records are the same."""
    assert assistant.refused("fetch", id="secret") == assistant.refused("fetch", id="no such record")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("search", {"query": "a", "k": 10**9}, "k must be from 1 to 50, got 1000000000"),
        ("search", {"query": "a", "k": 0}, "k must be from 1 to 50"),
        ("search", {"query": "a", "k": "5"}, "invalid arguments: k: input should be a valid integer"),
        ("search", {"query": "a", "k": True}, "invalid arguments: k"),
        ("search", {"query": " "}, "query must not be empty"),
        ("search", {"query": "a" * 10_001}, "query must have at most 10,000 characters, got 10,001"),
        ("search", {}, "invalid arguments: query: field required"),
        ("search", {"query": "a", "tenant": "b"}, "invalid arguments: tenant: extra inputs are not permitted"),
        ("search", {"query": "a", "where": "tenant = 'b'"}, "invalid arguments: where"),
        ("search", {"query": "a", "where": {"tenant": {"eq": "a"}}}, "unknown operator 'eq'"),
        ("search", {"query": "a", "where": {"$where": "1"}}, "unknown operator '$where'"),
        ("search", {"query": "a", "where": {"x": "y" * 10_000}}, "where must have at most 10,000 characters"),
        ("search", {"query": "a", "where": {"a.b.c.d.e.f.g.h": 1}}, "more than 6 dots"),
        ("search", {"query": "a", "mode": "magic"}, "invalid arguments: mode"),
        ("search", {"query": "a", "task": "evil"}, "unknown task; this model has bitext_query"),
        ("search", {"query": "a", "min_score": "NaN"}, "invalid arguments: min_score"),
        ("fetch", {"id": "../../etc/passwd"}, "there is no record with this id"),
        ("fetch", {"id": "a' OR '1'='1"}, "there is no record with this id"),
        ("fetch", {"id": ["secret"]}, "invalid arguments: id"),
        ("fetch", {"id": "bread", "start": -1}, "invalid arguments: start"),
        ("fetch", {"id": "x" * 100_000}, "invalid arguments: id"),
    ],
)
def test_hostile_calls(assistant: Assistant, name: str, arguments: dict[str, Any], message: str) -> None:
    """Each gets a reason that quotes no long value."""
    said = assistant.refused(name, **arguments)
    assert message in said
    assert len(said) < 500


def test_writing_tools_are_off_by_default(assistant: Assistant) -> None:
    """Nothing can write unless it was enabled."""
    assert listed(assistant).keys() == {"search", "fetch"}
    for name in ("add", "delete", "drop", "__init__"):
        with pytest.raises(MCPError, match="there is no such tool"):
            assistant.run(assistant.client.call_tool(name, {"id": "bread", "ids": ["bread"]}))


def test_many_calls(assistant: Assistant) -> None:
    """With more calls than may wait, each is answered or refused, and the server stays usable."""

    async def all_at_once() -> list[Any]:
        import asyncio

        calls = [assistant.client.call_tool("search", {"query": f"bread {number}", "k": 1}) for number in range(400)]
        return await asyncio.gather(*calls)

    results = assistant.run(all_at_once())
    refused = [each for each in results if each.is_error]
    assert {each.content[0].text for each in refused} <= {"too many calls are waiting; try again later"}
    assert len(refused) < len(results)
    assert assistant.call("search", query="why does bread rise", k=1)["results"][0]["id"] == "bread"


def test_older_clients(older: Assistant) -> None:
    """They get the same results."""
    assert older.client.protocol_version == "2025-11-25"
    assert older.call("search", query="bread", where={"tenant": "b"})["results"][0]["id"] == "secret"
    assert older.call("fetch", id="secret")["text"] == "The other tenant's bread is a secret."


class Raw:
    """The command without a client: lines are written and read directly."""

    def __init__(self, started: StdioServerParameters) -> None:
        self.process = subprocess.Popen(
            [started.command, *started.args],
            env=started.env, cwd=started.cwd, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, method: str, **params: Any) -> Any:
        assert self.process.stdout is not None
        self.tell(json.dumps({"jsonrpc": "2.0", "id": "asked", "method": method, "params": params}))
        for line in self.process.stdout:
            if (answer := json.loads(line)).get("id") == "asked":
                return answer
        raise AssertionError(self.process.communicate()[1])

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def shake_hands(self, version: str) -> Any:
        client = {"name": "a client", "version": "1"}
        return self.ask("initialize", protocolVersion=version, capabilities={}, clientInfo=client)["result"]


@pytest.fixture
def raw(command: Command) -> Iterator[Callable[..., Raw]]:
    started: list[Raw] = []

    def start(*arguments: str) -> Raw:
        started.append(Raw(command(*arguments)))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("how", quick({"terminated": signal.SIGTERM, "interrupted": signal.SIGINT}, "terminated"))
def test_the_oldest_revision_and_an_end_by_a_signal(raw: Callable[..., Raw], place: str, how: str) -> None:
    """The command ends while it waits, after it skipped an unreadable line."""
    oldest = raw(place)
    assert oldest.shake_hands("2024-11-05")["protocolVersion"] == "2024-11-05"
    for line in ("", "no JSON", "[" * 10_000, '{"jsonrpc": "2.0", "id": 7, "method": "\\ud83d"}', '{"id": 8}', "null"):
        oldest.tell(line)
    called = oldest.ask("tools/call", name="search", arguments={"query": "sand", "k": 1})["result"]
    assert json.loads(called["content"][0]["text"])["results"][0]["title"] == "The sea"
    oldest.process.send_signal(signal.SIGTERM if how == "terminated" else signal.SIGINT)
    assert oldest.process.wait(30) == 0


@pytest.mark.slow
def test_an_index_of_another_space(raw: Callable[..., Raw], place: str, built: Callable[..., Path]) -> None:
    """The command ends at once with the reason on standard error."""
    other = raw(place, "--model", str(built("gemma3")))
    out, said = other.process.communicate(timeout=60)
    assert (other.process.returncode, out) == (3, "")
    assert "another space" in said


def test_invalid_arguments(place: str, encoder: Encoder, built: Callable[..., Path], tmp_path: Path) -> None:
    """Each is an error before anything is served."""
    with Encoder(built("gemma3")) as other, Index(place, other) as index, pytest.raises(WrongSpace):
        check(index, "dense")
    with Index(f"pgvector:{tmp_path}/nothing?table=docs", encoder) as empty, pytest.raises(StoreMissing):
        check(empty, "dense")
    wordless = f"qdrant:{tmp_path}/wordless?collection=docs"
    with Index(wordless, encoder) as index:
        index.ingest([Record("a", "a text")])
        check(index, "dense")
        with pytest.raises(StoreUnsuitable, match="harrier keywords"):
            check(index, "hybrid")
        with pytest.raises(FilterError, match="unknown operator 'eq'"):
            create_server(index, Settings(where={"a": {"eq": 1}}))
    for wrong, message in (
        ({"name": "a/b"}, "name must have up to 63 ASCII letters"),
        ({"mode": "magic"}, "mode must be one of 'dense', 'keyword', 'hybrid', got 'magic'"),
        ({"about": " "}, "about must be a sentence"),
    ):
        with pytest.raises(SettingError, match=message):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="k must be above 0, got 0"):
        Limits(k=0)


@pytest.mark.parametrize("where", quick(["here", "process"], "here"))
def test_writing_where_it_is_allowed(
    connect: Assist, command: Command, encoder: Encoder, tmp_path: Path, where: str
) -> None:
    """Writes stay within the fixed conditions, and affect no other records."""
    index = Index(MemoryStore() if where == "here" else f"qdrant:{tmp_path}/index?collection=notes", encoder)
    index.ingest([Record("b1", "another's note", {"tenant": "b"})])
    if where == "here":
        writer = connect(create_server(index, Settings(where=json.loads(TENANT), writing=True)))
    else:
        index.close()
        writer = connect(command(f"qdrant:{tmp_path}/index?collection=notes", "--where", TENANT, "--allow-writing"))
    assert listed(writer).keys() == {"search", "fetch", "add", "delete"}
    assert not listed(writer)["add"].annotations.read_only_hint
    added = {"id": "n1", "text": "Bake bread tomorrow.", "metadata": {"tenant": "a"}}
    assert writer.call("add", **added) == {"written": 1, "unchanged": 0}
    assert writer.call("add", **added) == {"written": 0, "unchanged": 1}
    assert writer.call("search", query="bake bread")["results"][0]["id"] == "n1"
    assert "must meet the conditions" in writer.refused("add", id="n2", text="a text", metadata={"tenant": "b"})
    assert "must meet the conditions" in writer.refused("add", id="n2", text="a text", metadata={"tenant": None})
    assert writer.refused("add", **{**added, "id": "b1"}) == "this id cannot be used; choose another one"
    assert writer.refused("add", **{**added, "id": "n3", "text": " "}) == "the record has a text that is empty or blank"
    assert writer.call("delete", ids=["b1", "n1", "n9"]) == {"deleted": 1}
    writer.close()
    if where == "process":
        index = Index(f"qdrant:{tmp_path}/index?collection=notes", encoder)
    assert list(index.record_ids()) == ["b1"]
    index.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_calls(raw: Callable[..., Raw], place: str) -> None:
    """The process keeps less than two hundred bytes per call."""
    server = raw(place)
    server.shake_hands("2025-06-18")

    def memory() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def call(number: int) -> None:
        if number % 5:
            answer = server.ask("tools/call", name="fetch", arguments={"id": "bread" if number % 2 else "nothing"})
        else:
            answer = server.ask("tools/call", name="search", arguments={"query": f"bread {number}", "k": 50})
        assert answer["result"]["isError"] is (number % 5 != 0 and number % 2 == 0)

    for number in range(1_000):
        call(number)
    before = memory()
    for number in range(10_000):
        call(number)
    assert (memory() - before) * 1_024 < 200 * 10_000
