"""Routes of the page: why a search finds its results, records, and the health of an index."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Serving, Within

from harrier_core import Chunking, Encoder, Index, Record, StoreUnavailable, Task
from harrier_core.records import VerifyReport
from harrier_core.testing import MemoryStore

TEXTS = {
    "bread": "Bread rises because yeast turns sugar into gas.",
    "river": "Rivers carry sand to the sea.",
    "virus": "Vaccines train the immune system against a virus.",
}
INSTRUCTION = "Given a question of a baker, retrieve what answers it"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> str:
    """Return an index with words, and one long record among short ones."""
    place = f"pgvector:{tmp_path_factory.mktemp('explaining')}/index?table=docs&keywords=true"
    with Index(place, encoder, chunking=Chunking(tokens=32)) as index:
        index.ingest(Record(name, text, {"topic": name, "year": 2020}) for name, text in TEXTS.items())
        index.ingest([Record("long", "\n\n".join(f"Sentence {number} of ovens." for number in range(50)))])
    return place


@pytest.fixture(scope="module")
def server(folder: Path, place: str) -> Iterator[Serving]:
    options = ("--index", f"docs={place}", "--index", f"part={place}", "--where", 'part={"topic": "bread"}')
    serving = Serving(*options, "--allow-instructions", "--allow-ingest", model=folder)
    serving.wait()
    yield serving
    serving.kill()


def explain(server: Serving, status: int = 200, **body: Any) -> Any:
    answer = httpx.post(f"{server.url}/v1/explain", json={"index": "docs", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def get(server: Serving, path: str, status: int = 200, **params: Any) -> Any:
    answer = httpx.get(f"{server.url}{path}", params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_server_information(server: Serving, encoder: Encoder) -> None:
    told = get(server, "/v1/server")
    assert (told["name"], told["instructions"], told["indexes"]) == ("tiny", True, ["docs", "part"])
    assert (told["tasks"], told["digest"]) == (dict(encoder.tasks), encoder.space.digest)


@pytest.mark.parametrize(
    ("asked", "task"),
    [({}, None), ({"task": "sts_query"}, "sts_query"), ({"instruction": INSTRUCTION}, Task(INSTRUCTION))],
)
def test_the_prompt_and_the_matches(
    server: Serving, place: str, encoder: Encoder, asked: dict[str, Any], task: str | Task | None
) -> None:
    """They equal an Index's, with the tokens that the model reads."""
    told = explain(server, query="why does bread rise", k=3, **asked)
    assert told["prompt"] == encoder.prompt("why does bread rise", task=task)
    assert "".join(told["pieces"]).startswith(told["prompt"])
    with Index(place, encoder) as index:
        expected = index.search("why does bread rise", 3, task=task)
    assert [each["id"] for each in told["matches"]] == [match.id for match in expected]
    assert told["matches"][0]["cosine"] == pytest.approx(expected[0].cosine, abs=1e-5)
    assert told["seconds"].keys() == {"encode", "search"}


def test_background_scores(server: Serving) -> None:
    """The best match scores far above most other chunks."""
    told = explain(server, query="why does bread rise", k=1)
    background = told["background"]
    assert background["chunks"] > 10
    assert background["low"] <= background["middle"] <= background["high"] <= background["highest"]
    assert told["matches"][0]["cosine"] == pytest.approx(background["highest"], abs=1e-3)
    assert background["high"] < background["highest"]


def test_without_an_instruction_and_by_word(server: Serving, encoder: Encoder) -> None:
    """In the document role the query has no instruction, and keyword search uses no model."""
    plain = explain(server, query="why does bread rise", role="document", k=1)
    assert plain["prompt"] == "why does bread rise"
    [own], [text] = encoder.encode_documents(["why does bread rise"]), encoder.encode_documents([TEXTS["bread"]])
    assert plain["matches"][0]["cosine"] == pytest.approx(float(own @ text), abs=1e-3)
    by_word = explain(server, query="yeast", mode="keyword")
    assert ([each["record_id"] for each in by_word["matches"]], "prompt" in by_word) == (["bread"], False)
    hybrid = explain(server, query="yeast", mode="hybrid", k=2, where={"year": 2020})
    assert hybrid["matches"][0]["record_id"] == "bread"


def test_refusals(server: Serving) -> None:
    for body, status, code in (
        ({"query": "a", "k": 0}, 400, "invalid_value"),
        ({"query": "a", "k": 201}, 400, "invalid_value"),
        ({"query": " "}, 400, "invalid_input"),
        ({"query": "a", "role": "document", "task": "sts_query"}, 400, "two_roles"),
        ({"query": "a", "task": "sts_query", "instruction": "Find"}, 400, "invalid_value"),
        ({"query": "a", "task": "nothing"}, 400, "invalid_value"),
        ({"query": "a", "where": {"a": {"eq": 1}}}, 400, "invalid_value"),
        ({"query": "a", "index": "nothing"}, 404, "index_not_found"),
        ({"query": "a", "mode": "magic"}, 400, "invalid_value"),
    ):
        assert explain(server, status, **body)["error"]["code"] == code
    assert get(server, "/v1/records", 404, index="docs", id="nothing")["error"]["code"] == "record_not_found"
    assert get(server, "/v1/records", 400, index="docs")["error"]["param"] == "id"
    assert get(server, "/v1/near", 404, index="docs", id="bread", chunk=7)["error"]["code"] == "record_not_found"
    for wrong in ("-1", "x", "²", "9" * 20):
        assert get(server, "/v1/near", 400, index="docs", id="bread", chunk=wrong)["error"]["param"] == "chunk"


def test_a_record_and_its_neighbours(server: Serving) -> None:
    """Its chunks are listed, with the nearest neighbours of one."""
    record = get(server, "/v1/records", index="docs", id="long")
    assert (record["id"], record["left_out"]) == ("long", 0)
    assert [each["number"] for each in record["chunks"]] == list(range(len(record["chunks"])))
    assert record["chunks"][0]["text"].startswith("Sentence 0 of ovens.")
    near = get(server, "/v1/near", index="docs", id="long", chunk=1, k=3)["matches"]
    assert len(near) == 3
    assert {(each["record_id"], each["number"]) for each in near} & {("long", 1)} == set()
    assert near[0]["record_id"] == "long"


def test_index_information(server: Serving, encoder: Encoder) -> None:
    told = get(server, "/v1/indexes/docs")
    assert (told["records"], told["part"], told["differences"]) == (4, False, [])
    assert (told["digest"], told["health"], told["keywords"]) == (encoder.space.digest, "fine", True)
    assert datetime.now(UTC) - datetime.fromisoformat(told["ingested"]) < timedelta(hours=1)
    fields = {each["name"]: each for each in told["fields"]}
    assert fields.keys() == {"topic", "year"}
    assert (fields["year"]["kinds"], fields["year"]["range"]) == (["number"], [2020, 2020])
    assert {each["value"] for each in fields["topic"]["values"]} == set(TEXTS)


@pytest.mark.slow
def test_recall(server: Serving) -> None:
    """Recall is 1, because a few chunks are compared exactly."""
    for asked in ({"sample": 20}, {"queries": ["why does bread rise", "sand"], "k": 3}):
        told = httpx.post(f"{server.url}/v1/recall", json={"index": "docs", **asked}).json()
        assert (told["recall"], told["least"], told["worst"]) == (1.0, 1.0, [])
        assert told["searches"] == len(asked.get("queries", range(20)))  # type: ignore[arg-type]
    refused: list[dict[str, Any]] = [{"k": 0}, {"sample": 0}, {"sample": 201}, {"queries": []}]
    for wrong in refused:
        assert httpx.post(f"{server.url}/v1/recall", json={"index": "docs", **wrong}).status_code == 400


def test_verify(server: Serving) -> None:
    """Progress lines are followed by one with the result."""
    answer = httpx.post(f"{server.url}/v1/verify", json={"index": "docs", "sample": 10})
    *_, last = [json.loads(line) for line in answer.text.splitlines()]
    assert (last["status"], last["problems"], last["checked"] > 10) == ("done", [], True)
    assert last["least_cosine"] > 0.99
    assert httpx.post(f"{server.url}/v1/verify", json={"index": "nothing"}).status_code == 404


def test_rejected_records_are_kept(server: Serving) -> None:
    """Those of the last ingest are listed with reasons."""
    assert get(server, "/v1/indexes/docs")["rejected"] is None
    httpx.post(f"{server.url}/v1/ingest", params={"index": "docs"}, content='{"id": "blank", "text": " "}')
    kept = get(server, "/v1/indexes/docs")["rejected"]
    assert (kept["total"], kept["records"][0]["record_id"]) == (1, "blank")
    assert kept["records"][0]["reason"] == "has a text that is empty or blank"


def test_a_part_of_an_index(server: Serving) -> None:
    """No route shows hidden records, including counts."""
    assert get(server, "/v1/records", index="part", id="bread")["id"] == "bread"
    get(server, "/v1/records", 404, index="part", id="river")
    get(server, "/v1/near", 404, index="part", id="river")
    assert get(server, "/v1/near", index="part", id="bread")["matches"] == []
    told = get(server, "/v1/indexes/part")
    assert (told["part"], told.keys() & {"records", "chunks", "bytes", "health"}) == (True, set())
    assert [each["value"] for field in told["fields"] for each in field["values"]] == ["bread", 2020]
    found = explain(server, index="part", query="sand in rivers", where={"topic": {"$ne": "bread"}})
    assert found["matches"] == []
    assert explain(server, index="part", query="sand", mode="keyword")["matches"] == []
    assert httpx.post(f"{server.url}/v1/verify", json={"index": "part"}).status_code == 403
    answer = httpx.post(f"{server.url}/v1/ingest", params={"index": "part"}, content="")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ingest_not_allowed")
    worst = httpx.post(f"{server.url}/v1/recall", json={"index": "part"}).json()
    assert worst["searches"] == 1


class Endless(Index):
    """An index whose verification starts again whenever it ends."""

    def verify(self, sample: int = 100, on_progress: Callable[[VerifyReport], None] | None = None) -> VerifyReport:
        while True:
            super().verify(sample, on_progress)
            time.sleep(0.01)


def test_a_caller_that_leaves_a_verification(serve_within: Callable[..., Within], encoder: Encoder) -> None:
    """It is cancelled, and another can start."""
    with Endless(MemoryStore(), encoder) as index:
        index.ingest([Record("bread", "Bread rises because of yeast.")])
        url = f"{serve_within(indexes={'docs': index}).url}/v1/verify"
        with httpx.stream("POST", url, json={"index": "docs"}, timeout=60) as answer:
            lines = answer.iter_lines()  # closes the connection once it is no longer referenced
            assert next(lines)
            assert httpx.post(url, json={"index": "docs"}, timeout=60).status_code == 409
        for _ in range(500):
            with httpx.stream("POST", url, json={"index": "docs"}, timeout=60) as again:
                if again.status_code == 200:
                    return
            time.sleep(0.02)
        pytest.fail("the index is busy forever")


def test_two_verifications_at_once(serve_within: Callable[..., Within], encoder: Encoder) -> None:
    """The second is refused, also while the first still looks whether anything is wrong with the index."""
    asked, go, failing = threading.Semaphore(0), threading.Event(), threading.Event()

    class Slow(Index):
        def missing(self, record_ids: Iterable[str]) -> list[str]:
            asked.release()
            assert go.wait(60)
            if failing.is_set():
                raise StoreUnavailable("gone")
            return super().missing(record_ids)

    with Slow(MemoryStore(), encoder) as index, ThreadPoolExecutor(1) as pool:
        index.ingest([Record("bread", "Bread rises because of yeast.")])
        url = f"{serve_within(indexes={'docs': index}).url}/v1/verify"

        def verify() -> httpx.Response:
            return httpx.post(url, json={"index": "docs"}, timeout=60)

        first = pool.submit(verify)
        assert asked.acquire(timeout=60)
        try:
            assert httpx.post(url, json={"index": "docs"}, timeout=10).status_code == 409
        finally:
            go.set()
        assert first.result().status_code == 200
        failing.set()
        assert [verify().status_code for _ in range(2)] == [503, 503]
        failing.clear()
        assert '"done"' in verify().text
