"""/mcp of `harrier serve`, called by the SDK's client and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from assistants import Assistant
from mcp import MCPError, StdioServerParameters
from serving import Serving

from harrier_core import Encoder, Index

Assist = Callable[..., Assistant]
KEY = "a-key-of-some-length"
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "by hand", "version": "1"},
}


@pytest.fixture(scope="module")
def server(weights: Path, place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Start a server with a key and an index under two names: one tenant's records only, and all of them."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY, encoding="utf-8")
    only = ("--index", f"notes={place}", "--where", 'notes={"tenant": "a"}', "--about", "notes=the notes of a baker")
    serving = Serving(*only, "--index", f"all={place}", "--api-key-file", str(keys), model=weights)
    serving.wait()
    yield serving
    serving.kill()


@pytest.fixture(scope="module")
def assistant(connect: Assist, server: Serving) -> Assistant:
    return connect(f"{server.url}/notes/mcp", headers={"Authorization": f"Bearer {KEY}"})


def post(server: Serving, path: str = "/notes/mcp", body: Any = None, **headers: str) -> httpx.Response:
    """Send a hand-written call of the newest revision."""
    call = {"name": "fetch", "arguments": {"id": "bread"}, "_meta": MODERN}
    asked = body or {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    own = {
        "Authorization": f"Bearer {KEY}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "fetch",
    }
    content = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return httpx.post(server.url + path, content=content, headers={**own, **headers})


def test_search_and_fetch(assistant: Assistant, place: str, encoder: Encoder) -> None:
    """Results equal those over standard input and output, without local details."""
    assert assistant.client.protocol_version == "2026-07-28"
    with Index(place, encoder) as index:
        expected = index.search("why does bread rise", 3, {"tenant": "a"})
    results = assistant.call("search", query="why does bread rise", k=3)["results"]
    assert [each["id"] for each in results] == [match.record_id for match in expected]
    assert results[0]["url"] == "harrier://notes/bread"
    assert assistant.call("fetch", id="bread")["text"] == "Bread rises because yeast turns sugar into gas."
    [tool, _] = assistant.run(assistant.client.list_tools()).tools
    assert "the notes of a baker" in (tool.description or "")


def test_older_clients(connect: Assist, server: Serving) -> None:
    older = connect(f"{server.url}/notes/mcp", mode="legacy", headers={"X-API-Key": KEY})
    assert older.client.protocol_version == "2025-11-25"
    assert older.call("fetch", id="pain")["metadata"]["lang"] == "fr"
    [content] = older.run(older.client.read_resource("harrier://notes/bread")).contents
    assert content.text.startswith("Bread rises")  # type: ignore[union-attr]


def test_the_filter_holds_on_every_route(assistant: Assistant, connect: Assist, server: Serving) -> None:
    """Every route of the index is filtered; another index over the same place is not."""
    wide = {"$or": [{"tenant": "a"}, {"tenant": "b"}]}
    for where in (wide, {"tenant": "b"}, {}):
        found = assistant.call("search", query="the other tenant's secret bread", where=where, k=50)["results"]
        assert "secret" not in [each["id"] for each in found]
        body = {"index": "notes", "query": "the other tenant's secret bread", "where": where, "k": 50}
        answer = httpx.post(f"{server.url}/v1/search", json=body, headers={"X-API-Key": KEY}).json()
        assert "secret" not in [each["record_id"] for each in answer["data"][0]["matches"]]
    assert "there is no record" in assistant.refused("fetch", id="secret")
    listed = httpx.get(f"{server.url}/v1/indexes", headers={"X-API-Key": KEY}).json()["data"]
    assert [("records" in each, each["id"]) for each in listed] == [(False, "notes"), (True, "all")]
    everything = connect(f"{server.url}/all/mcp", headers={"X-API-Key": KEY})
    assert everything.call("fetch", id="secret")["metadata"]["tenant"] == "b"


def test_keys_hosts_and_pages(server: Serving, connect: Assist) -> None:
    """The rules of all routes apply to foreign origins and forged hosts."""
    assert post(server).json()["result"]["structuredContent"]["id"] == "bread"
    for headers, status in (
        ({"Authorization": "Bearer wrong-key-of-some-length"}, 401),
        ({"Authorization": ""}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": server.url, "Sec-Fetch-Site": "cross-site"}, 403),
    ):
        answer = post(server, **headers)
        assert (answer.status_code, "bread" in answer.text) == (status, False), headers
    assert post(server, Origin=server.url).status_code == 200
    with pytest.raises(MCPError, match="Server returned an error response"):
        connect(f"{server.url}/notes/mcp")


def test_indexes_by_name(server: Serving) -> None:
    for path in ("/mcp", "/nothing/mcp", "/notes/mcp/more"):
        assert post(server, path).status_code == 404
    assert "/notes/mcp, /all/mcp" in post(server, "/mcp").json()["error"]["message"]
    for method in ("GET", "DELETE", "PUT"):
        answer = httpx.request(method, f"{server.url}/notes/mcp", headers={"X-API-Key": KEY})
        assert answer.status_code == 405


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no JSON", 400),
        (b"[" * 100_000, 400),
        (b"[]", 400),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": {}}', 400),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ["search"]}}', 400),
        (b" " * (2**20 + 1), 413),
    ],
)
def test_invalid_bodies(server: Serving, body: bytes, status: int) -> None:
    """Both kinds of protocol revisions are tested."""
    assert post(server, body=body).status_code == status
    older = post(server, body=body, **{"MCP-Protocol-Version": "2025-06-18"})
    assert older.status_code in (200, 400, 413)
    assert "error" in older.text or older.status_code == 413
    assert "Traceback" not in older.text


@pytest.mark.parametrize("version", ["2026-07-28", "2025-06-18"])
def test_calls_with_too_much(server: Serving, version: str) -> None:
    """They are refused before the SDK reads them, which would hold up all other requests."""
    listed: list[list[str]] = [[]] * 10_000
    call = {"name": "search", "arguments": {"query": "bread", "where": {"lang": listed}}, "_meta": MODERN}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    refused = post(server, body=body, **{"MCP-Protocol-Version": version, "Mcp-Name": "search"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many")
    long = post(server, body=b"[%b]" % (b" " * 2**20), **{"MCP-Protocol-Version": version})
    assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")


def test_conditions_with_many_values(server: Serving) -> None:
    among = {"lang": {"$in": [""] * 2_400}}  # 4,800 values in 9,600 characters
    call = {"name": "search", "arguments": {"query": "bread", "where": among}, "_meta": MODERN}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    answer = post(server, body=body, **{"Mcp-Name": "search"})
    assert (answer.status_code, answer.json()["result"]["isError"]) == (200, False), answer.text


def test_nothing_can_write(assistant: Assistant) -> None:
    for name in ("add", "delete"):
        with pytest.raises(MCPError, match="there is no such tool"):
            assistant.run(assistant.client.call_tool(name, {"id": "bread", "ids": ["bread"]}))


def test_invalid_conditions(weights: Path, place: str) -> None:
    """The server does not start."""
    for option, message in (
        (("--where", 'notes={"a": {"eq": 1}}'), "unknown operator 'eq'"),
        (("--where", 'other={"a": 1}'), "there is no index 'other'; this server has notes"),
        (("--about", "a sentence"), "must begin with NAME="),
    ):
        with pytest.raises(AssertionError, match=message):
            Serving("--index", f"notes={place}", *option, model=weights)


@pytest.mark.slow
def test_editors_that_share_a_model(
    server: Serving, connect: Assist, command: Callable[..., StdioServerParameters], place: str, tmp_path: Path
) -> None:
    """Each runs its own command, which uses the server's model and loads none."""
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    started = command(place, "--server", server.url, "--api-key-file", str(keys))
    assert started.env is not None
    started.env.pop("HARRIER_MODEL")
    sharing = connect(started)
    [first] = sharing.call("search", query="why does bread rise", k=1, where={"lang": "en", "tenant": "a"})["results"]
    assert first["id"] == "bread"
    [tool, _] = sharing.run(sharing.client.list_tools()).tools
    assert tool.input_schema["properties"]["task"]["enum"] == ["bitext_query", "sts_query", "web_search_query"]
