"""Authentication, allowed origins, and limits of requests."""

from __future__ import annotations

import json
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import httpx
import pytest
from harrier_server import Limits, Settings
from harrier_server.bodies import VALUES, EmbeddingsRequest, decode
from harrier_server.refusals import Refusal
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from serving import Serving, Within

from harrier_core import RemoteEncoder, ServerRefused, SettingError
from harrier_core.tokens import Tokens

Serve = Callable[..., Serving]
ServeWithin = Callable[..., Within]
BODY = {"model": "tiny-query", "input": "a text"}
KEY, OTHER = "a-key-of-some-length", "another-key-of-some-length"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"\ufeff# of the search service\n{KEY}\n\n  # another\n {OTHER}\n", encoding="utf-8")
    return file


def test_keys(serve: Serve, keys: Path) -> None:
    """Each key works in either header; liveness needs none."""
    server = serve("--api-key-file", str(keys))
    url = f"{server.url}/v1/embeddings"
    given: list[dict[str, str]] = [
        {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {OTHER}"}, {"X-API-Key": KEY}
    ]  # fmt: skip
    assert [httpx.post(url, json=BODY, headers=each).status_code for each in given] == [200, 200, 200]
    wrong: list[dict[str, str]] = [
        {}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"},
        {"X-API-Key": "ä"}, {"Authorization": f"Bearer {KEY[:-1]}"},
    ]  # fmt: skip
    for headers in wrong:
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        answer = httpx.post(url, json=BODY, headers=encoded)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    for path in ("/v1/models", "/metrics", "/info", "/v1/indexes"):
        assert httpx.get(server.url + path).status_code == 401
    for path in ("/health", "/health/live", "/health/ready"):
        assert httpx.get(server.url + path).status_code == 200
    with RemoteEncoder(server.url, api_key=OTHER) as remote:
        assert len(remote.encode_queries(["a text"])) == 1
    with (
        RemoteEncoder(server.url, api_key=f"{KEY}x", retry_for=10_000) as remote,
        pytest.raises(ServerRefused, match="the key is missing or wrong") as caught,
    ):
        remote.encode_queries(["a text"])
    assert (caught.value.status, caught.value.usage) == (401, True)
    assert KEY not in str(caught.value)
    _, said = server.end()
    assert KEY not in said


def test_foreign_origins_and_hosts(server: Serving) -> None:
    """Foreign web pages and rebound host names are refused."""
    url = f"{server.url}/v1/embeddings"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"{server.url}.evil.example"):
        assert httpx.post(url, json=BODY, headers={"Origin": origin}).status_code == 403
    for site, status in (("same-origin", 200), ("same-site", 403), ("cross-site", 403)):  # the server's own page
        headers = {"Origin": server.url, "Sec-Fetch-Site": site}
        assert httpx.post(url, json=BODY, headers=headers).status_code == status
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert httpx.post(url, json=BODY, headers=rebound).status_code == 421
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "[", ""):
        assert httpx.post(url, json=BODY, headers={"Host": host}).status_code in (400, 421)
    for host in ("localhost", "LOCALHOST:1", f"127.0.0.1:{server.port}", "[::1]"):
        assert httpx.post(url, json=BODY, headers={"Host": host}).status_code == 200


@pytest.mark.slow
def test_allowed_origins_and_hosts(serve: Serve) -> None:
    """Preflight and responses have the CORS headers."""
    server = serve("--allow-host", "Vectors.Internal:8000", "--allow-origin", "https://app.example")
    url = f"{server.url}/v1/embeddings"
    headers = {"Host": "vectors.internal", "Origin": "https://app.example"}
    answer = httpx.post(url, json=BODY, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert "Harrier-Space" in answer.headers["access-control-expose-headers"]
    before = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,harrier-space"}
    assert httpx.options(url, headers={**headers, **before}).status_code == 200
    other = httpx.options(url, headers={**headers, **before, "Origin": "https://evil.example"})
    assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)
    assert httpx.options(url, headers={**headers, **before, "Access-Control-Request-Method": "PUT"}).status_code == 400
    assert httpx.get(f"{server.url}/health/ready", headers={"Host": "10.0.0.7"}).status_code == 200


@pytest.mark.slow
def test_instructions_if_allowed(serve: Serve) -> None:
    server = serve("--allow-instructions")
    answer = httpx.post(f"{server.url}/v1/embeddings", json={**BODY, "instruction": "Find a recipe"})
    assert answer.status_code == 200
    two_lines = {**BODY, "instruction": "Find\na recipe"}
    assert httpx.post(f"{server.url}/v1/embeddings", json=two_lines).json()["error"]["code"] == "unknown_task"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "a server on 0.0.0.0 is reachable by others; give it a key, or listen on 127.0.0.1"),
        ({"host": "vectors.internal"}, "is reachable by others"),
        ({"keys": ["short"]}, "a key must have at least 16 characters"),
        ({"name": "two words"}, "must be one word without white space"),
        ({"name": "owner/name"}, "must have no /, got 'owner/name'; choose another one with --name"),
        ({"name": ""}, "must be one word without white space"),
    ],
)
def test_invalid_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Settings(**{"name": "tiny", **options})
    with pytest.raises(SettingError, match="body must be above 0, got 0"):
        Limits(body=0)


def test_a_body_that_is_too_long(server: Serving) -> None:
    """It is refused by its header or when it exceeds the limit, and the rest is not read."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")

    sent = 0

    def endless() -> Any:
        nonlocal sent
        for _ in range(1_024):
            sent += 1
            yield b" " * 2**20

    try:
        answer = httpx.post(f"{server.url}/v1/embeddings", content=endless())
        assert answer.status_code == 413
    except httpx.WriteError:  # it closed the connection before we had sent all
        pass
    assert sent < 256
    assert httpx.post(f"{server.url}/v1/embeddings", json=BODY).status_code == 200


def test_limits_come_before_the_tokenizer(serve_within: ServeWithin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, texts and queued work are limited, which also limits tokens."""
    server = serve_within(body=10_000, texts=10, waiting=20_000)
    tokenize = create_autospec(Tokens.tokenize, side_effect=Tokens.tokenize)
    monkeypatch.setattr(Tokens, "tokenize", tokenize)
    url = f"{server.url}/v1/embeddings"

    def refused(texts: list[str]) -> tuple[int, str]:
        answer = httpx.post(url, json={"model": "tiny-query", "input": texts})
        return answer.status_code, answer.json()["error"]["code"]

    assert refused(["a"] * 11) == (400, "too_many")
    assert refused(["a" * 11_000]) == (413, "too_large")
    with server.state.turns.admitted(20_000, "another"), server.state.turns.admitted(10_000, "127.0.0.1"):
        assert refused(["a"]) == (429, "rate_limit_exceeded")
    assert not tokenize.called
    assert httpx.post(url, json=BODY).status_code == 200
    assert tokenize.called


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(LEAVES, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=10)
MODELS = st.sampled_from(["tiny", "tiny-query", "x"]) | JSON
NEARLY = st.fixed_dictionaries({"model": MODELS, "input": JSON}, optional={"task": JSON, "a": JSON})
BODIES = st.binary() | (JSON | NEARLY).map(lambda each: json.dumps(each).encode())


@hypothesis_settings(max_examples=60)
@given(body=BODIES)
def test_any_body(server: Serving, body: bytes) -> None:
    """Any body is answered or refused with a reason, without a server error."""
    answer = httpx.post(f"{server.url}/v1/embeddings", content=body)
    assert answer.status_code in (200, 400, 404)
    assert answer.status_code == 200 or answer.json()["error"]["message"]


@pytest.mark.slow
def test_deep_nesting(server: Serving) -> None:
    body = b'{"model": "tiny-query", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert httpx.post(f"{server.url}/v1/embeddings", content=body).status_code == 400


def test_unknown_routes(server: Serving) -> None:
    """The error has OpenAI's form."""
    for path, status, code in (("/v2/nothing", 404, "not_found"), ("/v1/embeddings", 405, "method_not_allowed")):
        answer = httpx.get(server.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.slow
def test_a_port_in_use(server: Serving, serve: Serve) -> None:
    with pytest.raises(AssertionError, match="address already in use"):
        serve(port=server.port)


def test_a_slash_at_the_end_of_a_path(server: Serving) -> None:
    """No redirect, which would come before all checks, and lead to any host in a Host header."""
    for path in ("/v1/embeddings/", "/health/live/", "/mcp/"):
        answer = httpx.post(server.url + path, json=BODY, headers={"Host": "evil.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("texts", ["[],", '"a",', '{"a":0},', "[[1,2],[3]],", "null,", '"\\\\\\",\\"",'])
def test_too_many_values(texts: str) -> None:
    """They are refused before any of them is built, which would take a multiple of the memory."""
    body = ('{"model":"tiny-query","input":[' + texts * (2**21 // len(texts)) + "0]}").encode()
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            decode(body, EmbeddingsRequest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == ("token_ids" if texts[0] == "[" else "too_many")
    assert peak < 8 * len(body)


@given(texts=st.lists(st.text('a,"\\[]é', min_size=1), max_size=9), ascii_=st.booleans())
def test_long_texts_are_no_values(texts: list[str], ascii_: bool) -> None:
    """Commas and quotes in texts do not count."""
    given = [text * (3 * VALUES // len(text)) for text in texts]
    body = json.dumps({"model": "tiny-query", "input": given}, ensure_ascii=ascii_).encode()
    assert decode(body, EmbeddingsRequest).input == given
