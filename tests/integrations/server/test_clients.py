"""Unmodified third-party clients get vectors that are bit-identical to an Encoder's."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64decode
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from serving import Serving

from harrier_core import Encoder

TEXTS = ["Bread rises because of yeast.", "Rivers carry sand.", "Über 漢字 and 🦅", "Instruct: x\nQuery: y"]


@pytest.fixture
def client(server: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def same(given: Any, expected: Any) -> bool:
    return bool((np.asarray(given, np.float32) == expected).all())


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_openai(client: openai.OpenAI, encoder: Encoder, encoding: Any) -> None:
    """Each role, task and encoding works; the client's default encoding is base64."""
    options = {} if encoding is None else {"encoding_format": encoding}

    def vectors(model: str, **more: Any) -> Any:
        answer = client.embeddings.create(model=model, input=TEXTS, **options, **more)
        assert [each.index for each in answer.data] == list(range(len(TEXTS)))
        rows: list[Any] = [each.embedding for each in answer.data]
        return [np.frombuffer(b64decode(row), "<f4") if isinstance(row, str) else row for row in rows]

    queries, documents = encoder.encode_queries(TEXTS), encoder.encode_documents(TEXTS)
    assert not same(queries, documents)
    assert same(vectors("tiny-query"), queries)
    assert same(vectors("tiny-document"), documents)
    assert same(vectors("tiny", extra_body={"input_type": "search_document"}), documents)
    assert same(vectors("tiny-query-sts_query"), encoder.encode_queries(TEXTS, task="sts_query"))
    assert same(vectors("tiny", extra_body={"task": "sts_query"}), encoder.encode_queries(TEXTS, task="sts_query"))


def test_openai_async(server: Serving, encoder: Encoder) -> None:
    """Concurrent requests work."""

    async def main() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            calls = [client.embeddings.create(model="tiny-query", input=f"text {number}") for number in range(40)]
            return [answer.data[0].embedding for answer in await asyncio.gather(*calls)]

    assert same(asyncio.run(main()), encoder.encode_queries([f"text {number}" for number in range(40)]))


def test_models_and_usage(client: openai.OpenAI, encoder: Encoder) -> None:
    """Models are listed with their roles, and usage has the number of tokens."""
    names = [each.id for each in client.models.list()]
    assert names[:2] == ["tiny-query", "tiny-document"]
    assert "tiny" not in names
    assert client.models.retrieve("tiny-document").owned_by == "harrier-kit"
    usage = client.embeddings.create(model="tiny-document", input=TEXTS).usage
    assert usage.prompt_tokens == usage.total_tokens == sum(encoder.count_tokens(TEXTS))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "tiny", "input": "a"}, "the texts have no role"),
        ({"model": "tiny-query", "input": [[1, 2], [3]]}, "check_embedding_ctx_length=False"),
        ({"model": "tiny-query", "input": [1, 2]}, "check_embedding_ctx_length=False"),
        ({"model": "tiny-query", "input": "a", "dimensions": 8}, "cannot be shortened to 8"),
        ({"model": "tiny-query", "input": "a", "input_typ": "query"}, "unknown field `input_typ`"),
        ({"model": "tiny-query", "input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "tiny-query", "input": "a", "truncate": "START"}, "are cut at the end"),
        ({"model": "tiny-query", "input": []}, "input is empty"),
        ({"model": "tiny-query", "input": {"a": 1}}, "input must be a string or a list of strings"),
        ({"model": "tiny-query", "input": ["a"] * 2_049}, "has 2,049 texts, but at most 2,048 are allowed"),
        ({"model": "tiny-document", "input": ["a", " ", "b", ""]}, "text 1 is empty or blank"),
        ({"model": "tiny-document", "input": ["a", None]}, "text 1 is NoneType, not str"),
        ({"model": "tiny-query", "input": "a", "instruction": "Find it"}, "does not accept instructions in requests"),
        ({"input": "a"}, "missing required field `model`"),
    ],
)
def test_openai_errors(client: openai.OpenAI, body: dict[str, Any], message: str) -> None:
    """They have OpenAI's form and name the remedy."""
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.post("/embeddings", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"


def test_all_problems_are_listed(client: openai.OpenAI) -> None:
    """A batch is refused as a whole, with positions and without texts."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny-document", input=["secret", " ", "a " * 3_000, "", "secret"])
    body: Any = caught.value.body
    kinds = [(each["position"], each["kind"]) for each in body["problems"]]
    assert kinds == [(1, "EmptyText"), (2, "TextTooLong"), (3, "EmptyText")]
    assert "secret" not in json.dumps(body)
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny-document", input=["secret", "a " * 3_000])
    assert caught.value.code == "context_length_exceeded"


def test_truncation_on_request(server: Serving, encoder: Encoder) -> None:
    """The response names the truncated texts."""
    long = "word " * 3_000
    body = {"model": "tiny-document", "input": ["short", long], "truncate": True}
    answer = httpx.post(f"{server.url}/v1/embeddings", json=body)
    assert answer.headers["harrier-truncated"] == "1"
    also = {"truncate": "END", "encoding_format": None, "user": "somebody"}
    assert httpx.post(f"{server.url}/v1/embeddings", json={**body, **also}).json() == answer.json()
    for truncate in (None, "NONE"):
        refused = httpx.post(f"{server.url}/v1/embeddings", json={**body, "truncate": truncate})
        assert (refused.status_code, 'send "truncate": true' in refused.text.replace("\\", "")) == (400, True)
    cutting = Encoder(encoder.name, on_overflow="truncate")
    assert same([each["embedding"] for each in answer.json()["data"]], cutting.encode_documents(["short", long]))


def test_langchain_openai(server: Serving, encoder: Encoder) -> None:
    """Two objects are needed, because each has one model name."""
    own: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "none", "check_embedding_ctx_length": False}
    queries, documents = (OpenAIEmbeddings(model=f"tiny-{role}", **own) for role in ("query", "document"))
    assert same(queries.embed_query(TEXTS[0]), encoder.encode_queries(TEXTS[:1])[0])
    assert same(documents.embed_documents(TEXTS), encoder.encode_documents(TEXTS))


def test_llama_index_openai_like(server: Serving, encoder: Encoder) -> None:
    """It replaces newlines by blanks, which no server can undo."""
    own: dict[str, Any] = {"api_base": f"{server.url}/v1", "api_key": "none"}
    documents = OpenAILikeEmbedding(model_name="tiny-document", **own)
    assert same(documents.get_text_embedding_batch(TEXTS[:3]), encoder.encode_documents(TEXTS[:3]))
    queries = OpenAILikeEmbedding(model_name="tiny-query", **own)
    assert same(queries.get_query_embedding(TEXTS[0]), encoder.encode_queries(TEXTS[:1])[0])


def test_llama_index_tei(server: Serving, encoder: Encoder) -> None:
    """The role is in the address; its own instructions must be empty."""
    own: dict[str, Any] = {"model_name": "tiny", "query_instruction": "", "text_instruction": ""}
    documents = TextEmbeddingsInference(base_url=f"{server.url}/tei/tiny-document", **own)
    assert same(documents.get_text_embedding_batch(TEXTS), encoder.encode_documents(TEXTS))
    queries = TextEmbeddingsInference(base_url=f"{server.url}/tei/tiny-query", **own)
    assert same(queries.get_query_embedding(TEXTS[0]), encoder.encode_queries(TEXTS[:1])[0])


def test_tei(server: Serving, encoder: Encoder) -> None:
    """The prompt name gives the role; without it, TEI's form of error is returned."""
    url = f"{server.url}/embed"
    assert same(
        httpx.post(url, json={"inputs": TEXTS, "prompt_name": "document"}).json(), encoder.encode_documents(TEXTS)
    )
    answer = httpx.post(url, json={"inputs": TEXTS[0], "prompt_name": "sts_query", "normalize": True})
    assert same(answer.json(), encoder.encode_queries(TEXTS[:1], task="sts_query"))
    refused = httpx.post(url, json={"inputs": TEXTS})
    assert (refused.status_code, refused.json()["error_type"]) == (400, "Validation")
    assert "/tei/tiny-query/embed" in refused.json()["error"]
    for wrong in ({"normalize": False}, {"truncation_direction": "left"}, {"dimensions": 3}, {"prompt_name": "no"}):
        body = {"inputs": TEXTS, "prompt_name": "document", **wrong}
        assert httpx.post(url, json=body).status_code == 400
    info = httpx.get(f"{server.url}/info").json()
    assert (info["max_input_length"], info["max_client_batch_size"]) == (encoder.max_tokens, 2_048)
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_curl(server: Serving, encoder: Encoder) -> None:
    """The README's command works."""
    body = json.dumps({"model": "tiny-query", "input": TEXTS[0]})
    command = [
        "curl",
        "-sS",
        "--fail",
        f"{server.url}/v1/embeddings",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert same(json.loads(said)["data"][0]["embedding"], encoder.encode_queries(TEXTS[:1])[0])
