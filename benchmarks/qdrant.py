"""Measure how busy an ingest into Qdrant keeps an encoder, against langchain-qdrant, in one run.

The encoders deliver a fixed number of vectors a second at no cost. The server, in its own process, parses requests and
keeps only hashes. So only the client is measured: how it creates requests, and whether it encodes meanwhile. Rounds are
interleaved; a ratio is the median of the rounds' ratios.

    make bench-qdrant
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harrier_qdrant import QdrantStore
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore
from numpy.typing import NDArray
from qdrant_client import QdrantClient
from ready import Ready, rows

from harrier_core import Index, Record
from harrier_core.records import Chunk

Vectors = NDArray[np.float32]

SERVER = Path(__file__).with_name("null_qdrant.py")

# Dimensions, vectors a second, and seconds of work per round; then the targets for the share of the encoder's rate and
# for the ratio.
CASES = [
    (640, 3_000, 3.0, 0.95, 2.0),
    (640, 6_000, 3.0, 0.90, 4.0),
    (1_024, 3_000, 3.0, 0.95, 2.0),
    (1_024, 6_000, 3.0, 0.90, 4.0),
    (5_376, 300, 4.0, 0.95, None),
]


class Rated(Embeddings):
    """The same encoder for LangChain."""

    def __init__(self, vectors: Vectors, texts: list[str], rate: float) -> None:
        self._ready = Ready(vectors, texts, rate)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return vectors at the encoder's rate, as the lists that LangChain expects."""
        return [vector.tolist() for vector in self._ready.submit_documents(texts).result().vectors]

    def embed_query(self, text: str) -> list[float]:
        """Not used."""
        return self.embed_documents([text])[0]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True) as server:
        try:
            measure(server, options.rounds)
        finally:
            server.terminate()


def measure(server: subprocess.Popen[str], rounds: int) -> None:
    """Measure all cases, once the server has started."""
    assert server.stdout is not None
    rest, grpc = map(int, server.stdout.readline().split())
    url = f"http://127.0.0.1:{rest}"
    connect = partial(QdrantClient, url=url, grpc_port=grpc, check_compatibility=False, timeout=60)
    print(f"{rounds} rounds; points a second, and their share of the encoder's rate")
    for case in CASES:
        busy(connect, rounds, *case)
    for dimensions, number in ((640, 20_000), (1_024, 12_000), (5_376, 2_000)):
        packing(connect, rounds, dimensions, number)


def busy(
    connect: Callable[..., QdrantClient],
    rounds: int,
    dimensions: int,
    rate: int,
    seconds: float,
    aim: float,
    times: float | None,
) -> None:
    """Compare ingests with an encoder of this rate."""
    records, vectors = rows(int(rate * seconds), dimensions)
    contestants: dict[str, Callable[[], float]] = {
        "Index.ingest": partial(ours, connect, records, vectors, rate),
        "langchain-qdrant, REST": partial(theirs, connect, records, vectors, rate, grpc=False),
        "langchain-qdrant, gRPC": partial(theirs, connect, records, vectors, rate, grpc=True),
    }
    rates = [{name: len(records) / run() for name, run in contestants.items()} for _ in range(rounds + 1)][1:]
    print(f"\n{dimensions} dimensions, an encoder of {rate:,} a second")
    for name in contestants:
        share = sorted(each[name] / rate for each in rates)
        median = statistics.median(each[name] for each in rates)
        wanted = f", at least {aim:.0%}" if name == "Index.ingest" else ""
        print(f"  {name:26}{median:8,.0f}{statistics.median(share):8.1%} ({share[0]:.1%} to {share[-1]:.1%}){wanted}")
    for name in list(contestants)[1:]:
        ratios = sorted(each["Index.ingest"] / each[name] for each in rates)
        wanted = f", at least {times:.0f}" if times and name.endswith("REST") else ""
        print(f"  ours / {name}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}){wanted}")


def ours(connect: Callable[..., QdrantClient], records: list[Record], vectors: Vectors, rate: float) -> float:
    """Return the seconds from records to acknowledged points."""
    client = connect(prefer_grpc=True)
    ready = Ready(vectors, (record.text for record in records), rate)
    with Index(QdrantStore(client, collection=uuid.uuid4().hex), ready) as index:
        begin = time.perf_counter()
        report = index.ingest(records)
        took = time.perf_counter() - begin
    assert report.written == len(records)
    client.close()
    return took


def theirs(
    connect: Callable[..., QdrantClient], records: list[Record], vectors: Vectors, rate: float, *, grpc: bool
) -> float:
    """Return the seconds of `add_texts` with its defaults, but without the check of the collection."""
    client = connect(prefer_grpc=grpc)
    texts = [record.text for record in records]
    embeddings = Rated(vectors, texts, rate)
    store = QdrantVectorStore(
        client,
        uuid.uuid4().hex,
        embeddings,
        vector_name="text-dense",
        validate_embeddings=False,
        validate_collection_config=False,
    )
    begin = time.perf_counter()
    store.add_texts(texts, [dict(record.metadata) for record in records])
    took = time.perf_counter() - begin
    client.close()
    return took


def packing(connect: Callable[..., QdrantClient], rounds: int, dimensions: int, number: int) -> None:
    """Compare the time from finished to acknowledged points with the client's own fastest method."""
    records, vectors = rows(number, dimensions)
    chunks = [Chunk.of(record, 0, 0, record.text) for record in records]
    client = connect(prefer_grpc=True)
    collection = uuid.uuid4().hex
    store = QdrantStore(client, collection=collection)
    store.open(Ready(vectors, []).space, create=True)
    named: Any = {"text-dense": vectors}
    payloads: list[Any] = [{"page_content": record.text, "metadata": dict(record.metadata)} for record in records]
    ids = [chunk.id for chunk in chunks]

    def own() -> None:
        store._backend.upsert(chunks, vectors, words=False)

    def uploaded() -> None:
        client.upload_collection(collection, named, payloads, ids, batch_size=256, wait=True)

    took: dict[str, list[float]] = {"ours": [], "upload_collection": []}
    for _ in range(rounds + 2):
        for name, run in (("ours", own), ("upload_collection", uploaded)):
            begin = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - begin)
    ratios = sorted(theirs / mine for mine, theirs in list(zip(*took.values(), strict=True))[2:])
    print(f"\npacking, {dimensions} dimensions: ", end="")
    print(", ".join(f"{name} {number / statistics.median(each[2:]):,.0f} points/s" for name, each in took.items()))
    print(f"  ours / theirs: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), at least 1")
    store.close()
    client.close()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="qdrant_client")
    main()
