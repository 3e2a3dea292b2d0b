"""Check that the memory of a server stays flat under all kinds of calls for an hour.

`harrier serve` runs with a tiny model and an index in its own process. Callers send queries, documents, searches and
ingests, disconnect in the middle of each, and send malformed and forbidden requests. Every few seconds the memory of
the server's process is read, without its embedded database. It is flat if its median in the last quarter of the time is
at most 2 % above that in the second quarter; the first quarter is the warm-up.

    make soak-serve [SECONDS=3600]
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from server_process import server_process

from harrier_core import Index, Record, RemoteEncoder
from harrier_core.testing import PROSE, MemoryStore, build_model

GROWTH = 1.02
SAMPLES = 60
RECORDS = 2_000  # ids that ingests write to, over and over
_WORDS = " ".join(PROSE).split()

Act = Callable[[random.Random], object]


def main() -> int:
    """Load a server, and print its memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3_600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = str(build_model(Path(folder, "model"), "qwen3", vectors="words"))
        place = f"notes=pgvector:{folder}/index?table=notes"
        with server_process(model, "--index", place, "--allow-ingest") as (port, process):
            samples = list(soaked(Callers(port), process, options.seconds))
    return verdict(samples)


def soaked(callers: Callers, process: int, seconds: float) -> Iterator[int]:
    """Yield the server's memory in MiB, from time to time."""
    stop = threading.Event()
    callers.ingest(random.Random(0))  # this creates the index
    with ThreadPoolExecutor(len(callers.acts)) as pool:
        running = [pool.submit(callers.repeat, act, stop, seed) for seed, act in enumerate(callers.acts)]
        begin = time.monotonic()
        try:
            for sample in range(1, SAMPLES + 1):
                while (left := begin + seconds * sample / SAMPLES - time.monotonic()) > 0:
                    time.sleep(min(left, 1))
                    failed = [each for each in running if each.done()]
                    if failed:
                        failed[0].result()
                now = resident(process)
                print(f"{time.monotonic() - begin:7,.0f} s {now:6,} MiB  {callers.told()}", flush=True)
                yield now
        finally:
            stop.set()
    callers.check()


class Callers:
    """Callers of the server, each repeating one act on its own thread."""

    def __init__(self, port: int) -> None:
        self.acts: list[Act] = [
            *(self.query, self.query, self.documents, self.search, self.ingest, self.remote),
            *(self.vanish, self.malformed, self.stranger),
        ]
        self._port = port
        self._done: Counter[str] = Counter()
        self._remote = RemoteEncoder(f"http://127.0.0.1:{port}")

    def repeat(self, act: Act, stop: threading.Event, seed: int) -> None:
        """Repeat an act until `stop` is set."""
        chance = random.Random(seed)
        while not stop.is_set():
            act(chance)
            self._done[act.__name__] += 1

    def told(self) -> str:
        """Return the number of times of each act."""
        return ", ".join(f"{name} {number:,}" for name, number in self._done.items())

    def check(self) -> None:
        """Raise if the server no longer serves."""
        if len(self._remote.encode_queries(["a text"])) != 1:
            raise AssertionError
        self._remote.close()

    def query(self, chance: random.Random) -> None:
        """Send one query."""
        self._ask("/v1/embeddings", {"model": "bench-query", "input": text(chance, 8)}, 200)

    def documents(self, chance: random.Random) -> None:
        """Send some documents."""
        self._ask("/v1/embeddings", {"model": "bench-document", "input": [text(chance, 60) for _ in range(16)]}, 200)

    def search(self, chance: random.Random) -> None:
        """Search the index."""
        self._ask("/v1/search", {"index": "notes", "query": text(chance, 8), "k": 5}, 200)

    def ingest(self, chance: random.Random) -> None:
        """Ingest records: some new, some unchanged, and some unreadable."""
        lines = [
            json.dumps({"id": f"r{chance.randrange(RECORDS)}", "text": text(chance, 40), "metadata": {"n": number}})
            for number in range(200)
        ]
        self._ask("/v1/ingest?index=notes", "\n".join([*lines, "{", "no JSON"]).encode(), 200)

    def remote(self, chance: random.Random) -> None:
        """Ingest in the caller's process, with the server's vectors."""
        Index(MemoryStore(), self._remote).ingest([Record(str(at), text(chance, 30)) for at in range(50)])

    def vanish(self, chance: random.Random) -> None:
        """Disconnect while sending, waiting or receiving the answer."""
        body = json.dumps({"model": "bench-document", "input": [text(chance, 60) for _ in range(32)]}).encode()
        if chance.random() < 0.3:
            body = b"\n".join(json.dumps({"id": "gone", "text": text(chance, 20)}).encode() for _ in range(50))
            path = "/v1/ingest?index=notes"
        else:
            path = "/v1/embeddings"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        whole = head + body
        with socket.create_connection(("127.0.0.1", self._port)) as connection, suppress(OSError):
            connection.sendall(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
            time.sleep(chance.random() * 0.1)
            if chance.random() < 0.5:
                connection.settimeout(0.1)
                connection.recv(100)

    def malformed(self, chance: random.Random) -> None:
        """Send malformed bodies."""
        bodies: list[tuple[Any, int]] = [
            *((b"{", 400), (b"[" * 50_000, 400), (chance.randbytes(1_000), 400), (b" " * (33 * 2**20), 413)),
            ({"model": "bench-query", "input": [1, 2, 3]}, 400),
            ({"model": "bench-query", "input": ["a", " ", None]}, 400),
            ({"model": "bench-document", "input": "word " * 9_000}, 400),
            ({"model": f"x{chance.random()}", "input": "a"}, 404),
        ]
        body, status = bodies[chance.choices(range(8), [8, 1, 8, 0.2, 8, 8, 8, 8])[0]]
        self._ask("/v1/embeddings", body, status)

    def stranger(self, chance: random.Random) -> None:
        """Send paths, names and origins that are not allowed."""
        path, headers, status = chance.choice(
            [
                (f"/{chance.random()}", {}, 404),
                ("/v1/embeddings", {"Origin": f"https://{chance.random()}.example"}, 403),
                ("/v1/models", {"Host": f"{chance.random()}.example"}, 421),
                ("/metrics", {}, 200),
            ]
        )
        self._ask(path, None if path in ("/v1/models", "/metrics") else {}, status, headers)

    def _ask(self, path: str, body: Any, status: int, headers: dict[str, str] | None = None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("GET" if body is None else "POST", path, content, headers or {})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status not in (status, 429, 503):
            raise AssertionError(f"{path}: {answer.status} and not {status}: {said[:300]!r}")


def text(chance: random.Random, words: int) -> str:
    """Return random words; all texts are different."""
    return f"{chance.random()} {' '.join(chance.choices(_WORDS, k=words))}"


def resident(process: int) -> int:
    """Return the memory of a process in MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def verdict(samples: list[int]) -> int:
    """Print whether the memory was flat, and return 0 if it was."""
    quarter = len(samples) // 4
    early, late = statistics.median(samples[quarter : 2 * quarter]), statistics.median(samples[-quarter:])
    flat = late <= GROWTH * early
    said = "flat" if flat else f"NOT FLAT: more than {GROWTH - 1:.0%} above"
    print(f"second quarter {early:,.0f} MiB, last quarter {late:,.0f} MiB, {late / early - 1:+.1%}: {said}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
