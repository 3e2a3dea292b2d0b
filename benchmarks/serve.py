"""Measure the cost of a server: `harrier serve` against an Encoder called by as many threads of one process.

The server, the Encoder and the callers have a process each, on the same cores; rounds of the two alternate, and who
goes first does as well. A ratio is the median of the rounds' ratios. Then the queries of one caller, alone and while
another one sends documents. At the end a server on a core of its own whose model costs nothing, with its callers on
another core, and what these callers do where the server does nothing either.

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
DIMENSIONS = 1_024  # of the model that costs nothing: those of harrier-0.6b
FREE = ((QUERY, 1, 1), (QUERY, 1, 16), (QUERY, 1, 64), (DOCUMENT, 64, 16))  # of that model: role, texts, callers
_WORDS = sorted({word for text in PROSE for word in text.split()})
_BATCH = 64  # documents of a request beside queries


class Cell(NamedTuple):
    """One line of the table."""

    role: str
    texts: int  # of a request
    callers: int


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder; a tiny model by default")
    parser.add_argument("--texts", type=int, default=2_048, help="of a round, or one request of each caller")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=1_000, help="of the caller that is alone, and then is not")
    parser.add_argument("--documents", type=int, default=100_000, help="of the caller beside it")
    parser.add_argument("--free", type=int, default=20_000, help="requests to the model that costs nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="of the benchmark; all by default")
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


# -- the bare engine, in a process of its own

_encoder: Encoder


def _enter(model: str) -> None:
    global _encoder  # noqa: PLW0603  # of the process
    _encoder = Encoder(model)
    _encoder.encode_documents(["a text"])
    _encoder.encode_queries(["a text"])


def _bare_vectors(role: str, texts: list[str]) -> Any:
    return _encoder.encode_queries(texts) if role == QUERY else _encoder.encode_documents(texts)


def _bare_load(role: str, requests: list[list[str]], callers: int) -> Done:
    """The same requests, by threads that each make the next call when the last one has returned."""
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
    """The seconds of a pass in which documents are encoded."""
    before, begin = _encoder.stats.passes, time.perf_counter()
    _encoder.encode_documents(texts)
    return (time.perf_counter() - begin) / (_encoder.stats.passes - before)


@contextmanager
def bare(model: str) -> Iterator[ProcessPoolExecutor]:
    """The process of an Encoder that is loaded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _enter, (model,)) as pool:
        pool.submit(time.time).result()
        yield pool


# -- what is sent


def texts_of(role: str, number: int, seed: object) -> list[str]:
    """Texts that are all different: queries of 3 to 7 words, documents of 15 to 35."""
    chance = random.Random(f"{role} {seed}")
    few, many = (3, 7) if role == QUERY else (15, 35)
    return [f"{each} {' '.join(chance.choices(_WORDS, k=chance.randint(few, many)))}" for each in range(number)]


def body_of(role: str, texts: Sequence[str]) -> bytes:
    """A request for their vectors."""
    return request(PATH, {"model": f"bench-{role}", "input": texts, "encoding_format": "base64"})


def check(engine: ProcessPoolExecutor, port: int) -> None:
    """The server answers with the vectors of the Encoder."""
    for role in (QUERY, DOCUMENT):
        texts = texts_of(role, 8, "check")
        answer = json.loads(loaded(port, [body_of(role, texts)], 1).first)
        rows = np.array([np.frombuffer(b64decode(each["embedding"]), "<f4") for each in answer["data"]])
        difference = float(abs(rows - wait(engine, _bare_vectors, role, texts)).max())
        if difference > 1e-5:
            raise RuntimeError(f"the server's vectors of {role} texts differ by {difference}")


# -- what is measured


def throughput(
    engine: ProcessPoolExecutor, port: int, processes: tuple[int, int], role: str, texts: int, rounds: int
) -> None:
    """Texts a second beside the bare engine, and what CPU time a text costs on either side, without the callers'."""
    print("                               texts a second                                     CPU ms a text")
    print("                            server   Encoder   server / Encoder            server   Encoder")
    for cell in (Cell(role, each, callers) for each in (1, 16) for callers in CALLERS):
        number = max(texts // cell.texts, cell.callers)
        sides: list[list[Side]] = []
        for round_ in range(rounds + 1):  # of which the first is a short one, and not counted
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
    print("aim with real weights: at least 0.95 for 16 and 64 callers")


class Side(NamedTuple):
    """The work of one side in a round."""

    rate: float  # texts a second
    cost: float  # CPU ms a text

    @classmethod
    def of(cls, run: Callable[[], Done], process: int, texts: int) -> Side:
        """Run it, and read how long its process was busy."""
        before = cpu_seconds(process)
        seconds = run().seconds
        return cls(texts / seconds, (cpu_seconds(process) - before) / texts * 1e3)

    @classmethod
    def median(cls, sides: Sequence[Side]) -> Side:
        """The median of rounds, each figure for itself."""
        return cls(*(statistics.median(each) for each in zip(*sides, strict=True)))


def wait(engine: ProcessPoolExecutor, call: Callable[..., T], *given: Any) -> T:
    """Have the Encoder's process do something."""
    return engine.submit(call, *given).result()


def single(engine: ProcessPoolExecutor, port: int, queries: int, rounds: int) -> None:
    """What HTTP adds to one query."""
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
    print(f"one query: {spread([each * 1e3 for each in added[1:]])} ms more than the Encoder's {own}; aim 1 ms at most")


def beside(engine: ProcessPoolExecutor, port: int, queries: int, documents: int) -> None:
    """The slowest queries of a caller, alone and beside another one's documents."""
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
        await load(port, sent, 8, "127.0.0.2")  # who is another caller to the server
        ended.set()
        return await asking

    alone = [run(load(port, asked("before", queries), 1))]
    busy = run(both())
    ended.clear()
    alone.append(run(load(port, asked("after", queries), 1)))
    idle = np.concatenate([each.latencies for each in alone])
    print(f"\n{len(busy.latencies):,} queries of one caller beside {documents:,} documents of another one")
    print(f"a pass of documents takes {seconds * 1e3:.1f} ms; queries in passes, and in ms:")
    for named, share in (("median", 50), ("p99", 99)):
        quiet, loud = (float(np.percentile(each, share)) for each in (idle, busy.latencies))
        print(
            f"{named:8} alone {quiet / seconds:5.2f} ({quiet * 1e3:.1f}), beside {loud / seconds:5.2f} "
            f"({loud * 1e3:.1f}): {(loud - quiet) / seconds:+.2f} passes"
        )
    print("aim: at most one pass more at p99")


# -- a model that costs nothing


class Free(Encoder):
    """An Encoder whose vectors are there already."""

    vectors = np.full((2_048, DIMENSIONS), DIMENSIONS**-0.5, np.float32)

    def submit_queries(self, texts: Any, *, task: Any = None) -> Future[Encoded]:  # noqa: ARG002
        """Answer at once."""
        return self.submit_documents(texts)

    def submit_documents(self, texts: Any) -> Future[Encoded]:
        """Answer at once."""
        done: Future[Encoded] = Future()
        done.set_result(Encoded(self.vectors[: len(texts)], [1] * len(texts)))
        return done


def _serve_free(model: str, core: int, told: Connection) -> None:
    os.sched_setaffinity(0, {core})
    with Free(model) as encoder:
        serve(create_app(encoder, Settings("bench", port=0)), told.send)


@contextmanager
def free_server(model: str, core: int) -> Iterator[tuple[int, int]]:
    """The port of a server whose model costs nothing, on one core, and the number of its process."""
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
    """How fast HTTP is by itself, by the clock and by the server's own CPU time, whatever else runs on its core.

    So it is with the callers: by the clock where the server does nothing, and by their own CPU time.
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
    print("aim: 1,000 requests a second of one text, 40,000 vectors a second at 64 a request")


def cpu_seconds(process: int) -> float:
    """How long a process has run."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_loaded(port: int) -> bool:
    """Whether the server has its model."""
    try:
        loaded(port, [body_of(QUERY, ["a"])], 1)
    except RuntimeError:
        return False
    return True


def spread(values: Sequence[float]) -> str:
    """The median, and from where to where."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
