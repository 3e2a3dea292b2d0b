"""Measure the cost of a server: `harrier serve` against an Encoder called by as many threads of one process.

The server, the Encoder and the callers have a process each, on the same cores. Rounds of server and Encoder alternate,
and so does the order within a round. A ratio is the median of the rounds' ratios. Then the queries of one caller are
measured, alone and while another caller sends documents. Finally, a server with a model that costs nothing runs on one
core and its callers on another; the callers are also measured against a server that does nothing.

    make bench-serve [MODEL=folder]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from harrier_server import Settings, create_app
from harrier_server.serving import serve
from http_load import Done, load, loaded, nothing, on_core, request, run
from server_process import server_process

from harrier_core import Encoded, Encoder
from harrier_core.testing import PROSE, build_model

T = TypeVar("T")

PATH = "/v1/embeddings"
CALLERS = (1, 16, 64)
QUERY, DOCUMENT = ROLES = "query", "document"
PARTS = (*ROLES, "single", "beside", "free")
DIMENSIONS = 1_024  # of the model that costs nothing; as in harrier-0.6b
FREE = ((QUERY, 1, 1), (QUERY, 1, 16), (QUERY, 1, 64), (DOCUMENT, 64, 16))  # role, texts per request, callers
_WORDS = sorted({word for text in PROSE for word in text.split()})
_BATCH = 64  # documents per request of the other caller


class Cell(NamedTuple):
    """One line of the table."""

    role: str
    texts: int  # per request
    callers: int


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder; a tiny model by default")
    parser.add_argument("--texts", type=int, default=2_048, help="texts per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=1_000, help="queries of the one caller")
    parser.add_argument("--documents", type=int, default=100_000, help="documents of the other caller")
    parser.add_argument("--free", type=int, default=20_000, help="requests to the model that costs nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to run; all by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tiny = str(build_model(folder, "qwen3", vectors="words"))
        model = options.model or tiny
        if set(options.parts) != {"free"}:
            with bare(model) as engine, server_process(model) as (port, process):
                check(engine, port)
                for role in ROLES:
                    if role in options.parts:
                        processes = process, wait(engine, os.getpid)
                        throughput(engine, port, processes, role, options.texts, options.rounds)
                if "single" in options.parts:
                    single(engine, port, options.queries, options.rounds)
                if "beside" in options.parts:
                    beside(engine, port, options.queries, options.documents)
        if "free" in options.parts:
            free(tiny, options.free, options.rounds)


# -- the bare engine, in its own process

_encoder: Encoder


def _enter(model: str) -> None:
    global _encoder  # noqa: PLW0603  # one per process
    _encoder = Encoder(model)
    _encoder.encode_documents(["a text"])
    _encoder.encode_queries(["a text"])


def _bare_vectors(role: str, texts: list[str]) -> Any:
    return _encoder.encode_queries(texts) if role == QUERY else _encoder.encode_documents(texts)


def _bare_load(role: str, requests: list[list[str]], callers: int) -> Done:
    """Encode the same requests with threads; each makes its next call when the last one has returned."""
    done = Done()

    def timed(texts: list[str]) -> None:
        begin = time.perf_counter()
        _bare_vectors(role, texts)
        done.latencies.append(time.perf_counter() - begin)

    with ThreadPoolExecutor(callers) as pool:
        begin = time.perf_counter()
        list(pool.map(timed, requests))
        done.seconds = time.perf_counter() - begin
    return done


def _bare_pass(texts: list[str]) -> float:
    """Return the seconds of one pass of documents."""
    before, begin = _encoder.stats.passes, time.perf_counter()
    _encoder.encode_documents(texts)
    return (time.perf_counter() - begin) / (_encoder.stats.passes - before)


@contextmanager
def bare(model: str) -> Iterator[ProcessPoolExecutor]:
    """Yield a process with a loaded Encoder."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _enter, (model,)) as pool:
        pool.submit(time.time).result()
        yield pool


# -- requests


def texts_of(role: str, number: int, seed: object) -> list[str]:
    """Return different texts: queries of 3 to 7 words, documents of 15 to 35."""
    chance = random.Random(f"{role} {seed}")
    few, many = (3, 7) if role == QUERY else (15, 35)
    return [f"{each} {' '.join(chance.choices(_WORDS, k=chance.randint(few, many)))}" for each in range(number)]


def body_of(role: str, texts: Sequence[str]) -> bytes:
    """Return a request for the vectors of texts."""
    return request(PATH, {"model": f"bench-{role}", "input": texts, "encoding_format": "base64"})


def check(engine: ProcessPoolExecutor, port: int) -> None:
    """Check that the server's vectors equal the Encoder's."""
    for role in (QUERY, DOCUMENT):
        texts = texts_of(role, 8, "check")
        answer = json.loads(loaded(port, [body_of(role, texts)], 1).first)
        rows = np.array([np.frombuffer(b64decode(each["embedding"]), "<f4") for each in answer["data"]])
        difference = float(abs(rows - wait(engine, _bare_vectors, role, texts)).max())
        if difference > 1e-5:
            raise RuntimeError(f"the server's vectors of {role} texts differ by {difference}")


# -- measurements


def throughput(
    engine: ProcessPoolExecutor, port: int, processes: tuple[int, int], role: str, texts: int, rounds: int
) -> None:
    """Compare texts a second with the bare engine, and the CPU time per text of both sides, without the callers'."""
    print("                               texts a second                                     CPU ms per text")
    print("                            server   Encoder   server / Encoder            server   Encoder")
    for cell in (Cell(role, each, callers) for each in (1, 16) for callers in CALLERS):
        number = max(texts // cell.texts, cell.callers)
        sides: list[list[Side]] = []
        for round_ in range(rounds + 1):  # the first round is short, and not counted
            given = texts_of(cell.role, (number if round_ else 1) * cell.texts, (cell, round_))
            calls = [given[at : at + cell.texts] for at in range(0, len(given), cell.texts)]
            requests = [body_of(cell.role, each) for each in calls]
            by_server = partial(loaded, port, requests, cell.callers)
            by_encoder = partial(wait, engine, _bare_load, cell.role, calls, cell.callers)
            runs = list(zip((by_server, by_encoder), processes, strict=True))
            took = [Side.of(run, process, len(given)) for run, process in (runs if round_ % 2 else runs[::-1])]
            sides.append(took if round_ % 2 else took[::-1])
        server, encoder = (Side.median(each) for each in zip(*sides[1:], strict=True))
        ratios = [ours.rate / theirs.rate for ours, theirs in sides[1:]]
        named = f"{cell.callers:2} callers, {cell.texts:2} {'queries' if cell.role == QUERY else 'documents'}"
        print(
            f"{named:24} {server.rate:9,.0f} {encoder.rate:9,.0f}   {spread(ratios):24} "
            f"{server.cost:9.2f} {encoder.cost:9.2f}",
            flush=True,
        )
    print("target with real weights: at least 0.95 for 16 and 64 callers")


class Side(NamedTuple):
    """The work of one side in a round."""

    rate: float  # texts a second
    cost: float  # CPU ms per text

    @classmethod
    def of(cls, run: Callable[[], Done], process: int, texts: int) -> Side:
        """Run a load, and measure the CPU time of its process."""
        before = cpu_seconds(process)
        seconds = run().seconds
        return cls(texts / seconds, (cpu_seconds(process) - before) / texts * 1e3)

    @classmethod
    def median(cls, sides: Sequence[Side]) -> Side:
        """Return the median of each figure over rounds."""
        return cls(*(statistics.median(each) for each in zip(*sides, strict=True)))


def wait(engine: ProcessPoolExecutor, call: Callable[..., T], *given: Any) -> T:
    """Run a call in the Encoder's process."""
    return engine.submit(call, *given).result()


def single(engine: ProcessPoolExecutor, port: int, queries: int, rounds: int) -> None:
    """Print the time that HTTP adds to one query."""
    added, whole = [], []
    for round_ in range(rounds + 1):
        given = texts_of(QUERY, queries // rounds, ("single", round_))
        sides: list[Callable[[], Done]] = [
            partial(loaded, port, [body_of(QUERY, [text]) for text in given], 1),
            partial(wait, engine, _bare_load, QUERY, [[text] for text in given], 1),
        ]
        took = []
        for side in sides if round_ % 2 else sides[::-1]:
            time.sleep(0.5)  # threads of the other process no longer spin
            took.append(statistics.median(side().latencies))
        server, encoder = took if round_ % 2 else took[::-1]
        whole.append(encoder)
        added.append(server - encoder)
    own = f"{statistics.median(whole[1:]) * 1e3:.2f} ms"
    print(f"one query: {spread([each * 1e3 for each in added[1:]])} ms more than the Encoder's {own}; target 1 ms")


def beside(engine: ProcessPoolExecutor, port: int, queries: int, documents: int) -> None:
    """Print the slowest queries of a caller, alone and during another one's documents."""
    given = texts_of(DOCUMENT, documents, "beside")
    seconds = wait(engine, _bare_pass, given[:2_048])
    ended = asyncio.Event()
    sent = [body_of(DOCUMENT, given[at : at + _BATCH]) for at in range(0, len(given), _BATCH)]

    def asked(seed: str, most: int) -> Iterator[bytes]:
        for text in texts_of(QUERY, most, seed):
            if ended.is_set():
                return
            yield body_of(QUERY, [text])

    async def both() -> Done:
        asking = asyncio.ensure_future(load(port, asked("busy", 100 * queries), 1))
        await load(port, sent, 8, "127.0.0.2")  # another caller, to the server
        ended.set()
        return await asking

    alone = [run(load(port, asked("before", queries), 1))]
    busy = run(both())
    ended.clear()
    alone.append(run(load(port, asked("after", queries), 1)))
    idle = np.concatenate([each.latencies for each in alone])
    print(f"\n{len(busy.latencies):,} queries of one caller during {documents:,} documents of another one")
    print(f"a pass of documents takes {seconds * 1e3:.1f} ms; queries in passes, and in ms:")
    for named, share in (("median", 50), ("p99", 99)):
        quiet, loud = (float(np.percentile(each, share)) for each in (idle, busy.latencies))
        print(
            f"{named:8} alone {quiet / seconds:5.2f} ({quiet * 1e3:.1f}), during documents {loud / seconds:5.2f} "
            f"({loud * 1e3:.1f}): {(loud - quiet) / seconds:+.2f} passes"
        )
    print("target: at most one additional pass at p99")


# -- a model that costs nothing


class Free(Encoder):
    """An Encoder with prepared vectors."""

    vectors = np.full((2_048, DIMENSIONS), DIMENSIONS**-0.5, np.float32)

    def submit_queries(self, texts: Any, *, task: Any = None) -> Future[Encoded]:  # noqa: ARG002
        """Return the vectors at once."""
        return self.submit_documents(texts)

    def submit_documents(self, texts: Any) -> Future[Encoded]:
        """Return the vectors at once."""
        done: Future[Encoded] = Future()
        done.set_result(Encoded(self.vectors[: len(texts)], [1] * len(texts)))
        return done


def _serve_free(model: str, core: int, told: Connection) -> None:
    os.sched_setaffinity(0, {core})
    with Free(model) as encoder:
        serve(create_app(encoder, Settings("bench", port=0)), told.send)


@contextmanager
def free_server(model: str, core: int) -> Iterator[tuple[int, int]]:
    """Yield the port and process id of a server on one core whose model costs nothing."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve_free, args=(model, core, there))
    process.start()
    try:
        yield int(here.recv().rpartition(":")[2]), int(process.pid or 0)
    finally:
        process.terminate()
        process.join()


def free(tiny: str, requests: int, rounds: int) -> None:
    """Print the rate of HTTP alone, by the clock and by the server's CPU time, which other work does not affect.

    The callers are measured in the same way against a server that does nothing.
    """
    server_core, *others = sorted(os.sched_getaffinity(0))
    core = others[0] if others else server_core
    print(
        f"\na model that costs nothing, {DIMENSIONS:,} dimensions; server on core {server_core}, callers on core {core}"
    )
    print("                              a second  a CPU second     vectors    median   callers alone, a CPU second")
    with free_server(tiny, server_core) as (port, process), on_core(core):
        while not is_loaded(port):
            time.sleep(0.1)
        for role, texts, callers in FREE:
            body = body_of(role, texts_of(role, texts, "free"))
            number = requests // (1 if texts == 1 else 16)
            size = len(loaded(port, [body], 1).first)
            found: list[tuple[float, ...]] = []
            with nothing(size, server_core) as idle:
                for _ in range(rounds + 1):
                    server, own = cpu_seconds(process), time.process_time()
                    done = loaded(port, [body] * number, callers)
                    server, own = cpu_seconds(process) - server, time.process_time() - own
                    alone = loaded(idle, [body] * number, callers)
                    median = statistics.median(done.latencies) * 1e3
                    found.append((number / done.seconds, number / server, median, number / alone.seconds, number / own))
            rate, by_cpu, median, top, by_own = (statistics.median(each) for each in zip(*found[1:], strict=True))
            named = f"{callers:2} callers, {texts:2} {'queries' if role == QUERY else 'documents'}"
            print(
                f"{named:28} {rate:8,.0f} {by_cpu:12,.0f} {by_cpu * texts:12,.0f} {median:8.2f} ms "
                f"{top:10,.0f} {by_own:10,.0f}",
                flush=True,
            )
    print("target: 1,000 requests a second of one text, 40,000 vectors a second at 64 per request")


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_loaded(port: int) -> bool:
    """Return whether the server has loaded its model."""
    try:
        loaded(port, [body_of(QUERY, ["a"])], 1)
    except RuntimeError:
        return False
    return True


def spread(values: Sequence[float]) -> str:
    """Return the median with the range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
